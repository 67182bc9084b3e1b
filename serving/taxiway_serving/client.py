"""A client of the controller's HTTP interface. The only way from the orchestration plane into the serving plane."""

import functools
import ssl
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from taxiway_serving.errors import (
    AuthenticationError,
    ConflictError,
    InvalidNameError,
    InvalidSpecError,
    NotFoundError,
    NotLeaderError,
    NotReadyError,
    OverloadError,
    RoleError,
    TaxiwayError,
    TransportError,
)

REFUSALS: Mapping[str, Callable[..., TaxiwayError]] = {
    kind.__name__: kind
    for kind in (
        InvalidSpecError,
        InvalidNameError,
        NotFoundError,
        ConflictError,
        NotLeaderError,
        OverloadError,
        RoleError,
    )
}
FAILOVER_S: Final = 20.0
"""So long a call to several controllers waits for one that leads: a lease's length, and the next leader's beginning."""
_ROUND_S: Final = 0.25


class Controller:
    """The controller at a URL, or whichever of several leads. Every call is safe to repeat."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 10.0, actor: str = "api") -> None:
        """Remember where the controller is; nothing is sent yet.

        Args:
            url: Address, such as `http://127.0.0.1:8570`; several are separated by commas.
            token: What the controller keeps in its token file.
            timeout_s: Longest wait for one answer, in seconds.
            actor: Who asks, for the ledger; printable text.
        """
        self._urls = tuple(each.strip().rstrip("/") for each in url.split(","))
        self._leader, self._timeout_s = self._urls[0], timeout_s
        self._headers = {"x-taxiway-actor": actor} | ({"Authorization": f"Bearer {token}"} if token else {})

    def deploy(self, handle: str, version: int, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a model version to run.

        Args:
            handle: Endpoint.
            version: Model version.
            spec: The fields of `VariantBody`.
        """
        return self._call("PUT", f"/v1/endpoints/{handle}/variants/{version}", dict(spec))

    def undeploy(self, handle: str, version: int) -> dict[str, Any]:
        """Ask for a model version without traffic to stop."""
        return self._call("DELETE", f"/v1/endpoints/{handle}/variants/{version}")

    def runtime(self) -> str:
        """Return where the controller runs variants: `process`, `docker` or `swarm`."""
        return str(self._call("GET", "/v1/runtime")["runtime"])

    def endpoints(self) -> list[dict[str, Any]]:
        """Return every endpoint."""
        found: list[dict[str, Any]] = self._call("GET", "/v1/endpoints")["endpoints"]
        return found

    def endpoint(self, handle: str) -> dict[str, Any]:
        """Return one endpoint."""
        return self._call("GET", f"/v1/endpoints/{handle}")

    def log(self, handle: str, version: int, *, tail: int = 50) -> str:
        """Return the end of a variant's log."""
        return str(self._call("GET", f"/v1/endpoints/{handle}/variants/{version}/log?tail={tail}")["log"])

    def wait_ready(
        self, handle: str, version: int, *, deadline_s: float, poll_s: float = 0.25
    ) -> dict[str, Any]:
        """Wait until a deployed version takes requests.

        Raises:
            NotReadyError: If it fails, or is not ready by the deadline; it carries the end of the log.
        """
        end = time.monotonic() + deadline_s
        while True:
            variant: dict[str, Any] = self.endpoint(handle)["variants"][str(version)]
            if variant["phase"] == "ready":
                return variant
            if variant["phase"] == "failed" or time.monotonic() > end:
                reason = variant["reason"] or f"it is {variant['phase']}"
                raise NotReadyError(
                    f"{handle}/{version}", deadline_s, reason, self.log(handle, version, tail=30)
                )
            time.sleep(poll_s)

    def start_rollout(self, handle: str, rollout: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a rollout, or return the one with this id.

        Args:
            handle: Endpoint.
            rollout: The fields of `RolloutSpec`, as JSON.
        """
        return self._call("POST", f"/v1/endpoints/{handle}/rollouts", dict(rollout))

    def start_group(self, rollouts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Begin the rollouts of a group, all of them or none; those that have begun are returned as they are.

        Args:
            rollouts: The fields of `RolloutSpec`, as JSON, its handle and its group among them.
        """
        asked = {"rollouts": [dict(rollout) for rollout in rollouts]}
        begun: list[dict[str, Any]] = self._call("POST", "/v1/groups", asked)["rollouts"]
        return begun

    def rollout(self, handle: str, rollout_id: str) -> dict[str, Any]:
        """Return one rollout."""
        return self._call("GET", f"/v1/endpoints/{handle}/rollouts/{quote(rollout_id, safe='')}")

    def rollouts(self, handle: str, *, limit: int = 50) -> list[dict[str, Any]]:
        """Return a handle's rollouts, the newest first."""
        found: list[dict[str, Any]] = self._call("GET", f"/v1/endpoints/{handle}/rollouts?limit={limit}")[
            "rollouts"
        ]
        return found

    def act(
        self,
        handle: str,
        rollout_id: str,
        verb: str,
        *,
        version: int | None = None,
        step: int | None = None,
        command_id: str = "",
    ) -> dict[str, Any]:
        """Do something to a rollout; where there is nothing to do, nothing is done.

        Args:
            handle: Endpoint.
            rollout_id: The rollout.
            verb: `promote`, `promote-full`, `abort`, `pause` or `resume`; `add` or `remove` for an experiment; `retry`
                to ask again, under the next id, for one that was aborted, superseded or rolled back.
            version: The candidate that `add` and `remove` mean.
            step: The step that `promote` ends; at another one nothing is done.
            command_id: The caller's name for this command: sent twice with it, it is done once.
        """
        path = f"/v1/endpoints/{handle}/rollouts/{quote(rollout_id, safe='')}/{verb}"
        if len(self._urls) > 1:
            # This call may be sent twice, to one that dies of it and to the next.
            command_id = command_id or uuid.uuid4().hex
        return self._call("POST", path, _given(version=version, step=step, command_id=command_id or None))

    def undo(
        self, handle: str, undo_id: str, *, version: int | None = None, at_s: float | None = None
    ) -> dict[str, Any]:
        """Go back to a version that was live before.

        Args:
            handle: Endpoint.
            undo_id: The caller's name for this undo; asked again with it, the same undo is returned.
            version: Which version; None is the one before.
            at_s: The one that was live at this time instead, in seconds since the epoch.
        """
        asked = {"id": undo_id} | _given(version=version, at_s=at_s)
        return self._call("POST", f"/v1/endpoints/{handle}/undo", asked)

    def whole_ledger(self, *, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Return the history of all handles from a place on, in order: what the hash chain runs through."""
        entries: list[dict[str, Any]] = self._call("GET", f"/v1/ledger?after={after}&limit={limit}")[
            "entries"
        ]
        return entries

    def ledger(self, handle: str, *, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Return history from a place on, in order."""
        path = f"/v1/endpoints/{handle}/ledger?after={after}&limit={limit}"
        entries: list[dict[str, Any]] = self._call("GET", path)["entries"]
        return entries

    def timeline(
        self,
        handle: str,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
        step_s: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return what each version was given, did and earned, span by span.

        Args:
            handle: Endpoint.
            since_s: From here on, in seconds since the epoch; None is an hour before the end.
            until_s: Before this; None is now.
            step_s: Seconds to add up, a multiple of 10; None shows at most some 360 spans of a version.
        """
        asked = urlencode(_given(since_s=since_s, until_s=until_s, step_s=step_s))
        rows: list[dict[str, Any]] = self._call("GET", f"/v1/endpoints/{handle}/timeline?{asked}")["rows"]
        return rows

    def counterfactual(self, handle: str, version: int, metric: str, **options: float) -> dict[str, Any]:
        """Return what a version would earn at 100 %, estimated from the share that it has had, with an interval.

        Args:
            handle: Endpoint.
            version: Whose.
            metric: Of the feedback.
            options: `since_s`, `least` and `most` (least and highest reward there can be), `window_s`.
        """
        asked = urlencode({"version": version, "metric": metric, **options})
        return self._call("GET", f"/v1/endpoints/{handle}/counterfactual?{asked}")

    def feedback(
        self,
        request_id: str,
        metric: str,
        value: float,
        *,
        event_id: str = "",
        event_at_s: float | None = None,
    ) -> dict[str, Any]:
        """Report one thing about one answer; reported again, it changes nothing.

        Args:
            request_id: The `x-request-id` of the answer.
            metric: What is counted, such as `click`.
            value: How much of it; 1 and 0 for yes and no.
            event_id: Tells several events of this metric about this request apart.
            event_at_s: When it happened, in seconds since the epoch; None is now.

        Returns:
            The event, its `status`, and the `version` that it is credited to, once that is known.

        Raises:
            ConflictError: If another value was reported under the same ids.
            OverloadError: If too many events wait for requests that nobody knows; what goes on is in its next step.
        """
        event = {"request_id": request_id, "metric": metric, "value": value, "event_id": event_id}
        return self._call("POST", "/v1/feedback", event | _given(event_at_s=event_at_s))

    def feedback_batch(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Report up to 1,000 events at once, all or none; reported again, they change nothing.

        Args:
            events: The arguments of `feedback`, by name.
        """
        told: list[dict[str, Any]] = self._call("POST", "/v1/feedback", [dict(event) for event in events])[
            "events"
        ]
        return told

    def feedback_status(self, request_id: str) -> dict[str, Any]:
        """Return which version answered a request, and what was reported about it.

        Raises:
            NotFoundError: If the gateway's log has not shown such a request.
        """
        return self._call("GET", f"/v1/feedback/{quote(request_id, safe='')}")

    def request(self, request_id: str) -> dict[str, Any]:
        """Return which version answered a request, when, and how, as the gateway's log has it.

        Args:
            request_id: The `x-request-id` of the answer.

        Raises:
            NotFoundError: If the log does not have it, or no longer.
        """
        return self._call("GET", f"/v1/requests/{quote(request_id, safe='')}")

    def _call(
        self, method: str, path: str, body: dict[str, Any] | list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Ask the controller; of several, one after another until one that leads has answered.

        A controller that fell silent may have done what it was asked: asked again, it is done once.
        """
        end_s = time.monotonic() + (FAILOVER_S if len(self._urls) > 1 else 0.0)
        while True:
            try:
                return self._ask(self._leader, method, path, body)
            except TransportError:
                if time.monotonic() >= end_s:
                    raise
                place = self._urls.index(self._leader) + 1
                self._leader = self._urls[place % len(self._urls)]
                if place == len(self._urls):
                    time.sleep(_ROUND_S)

    def _ask(
        self, url: str, method: str, path: str, body: dict[str, Any] | list[dict[str, Any]] | None
    ) -> dict[str, Any]:
        try:
            answer = httpx.request(
                method,
                url + path,
                json=body,
                headers=self._headers,
                timeout=self._timeout_s,
                trust_env=False,
                verify=_certificates(),
            )
        except httpx.HTTPError as error:
            raise TransportError(f"controller at {url}", f"{type(error).__name__}: {error}") from error
        if answer.is_success:
            data: dict[str, Any] = answer.json()
            return data
        raise _refusal(url, answer)


@functools.lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """Return whom to trust, read once: reading it takes longer than most answers."""
    return httpx.create_ssl_context(trust_env=False)


def _given(**values: Any) -> dict[str, Any]:
    """Return the arguments that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _refusal(url: str, answer: httpx.Response) -> Exception:
    """Return the error that the controller raised, made again from its class and facts."""
    if answer.status_code == 401:
        return AuthenticationError(url)
    try:
        error = answer.json()["error"]
        return REFUSALS[error["reason"]](*error["facts"])
    except (ValueError, KeyError, TypeError):
        # Not in the controller's own form: a proxy between, or FastAPI's answer to a malformed body.
        pass
    if 400 <= answer.status_code < 500:
        return InvalidSpecError((answer.text[:2000],), "request")
    return TransportError(f"controller at {url}", f"HTTP {answer.status_code}: {answer.text[:2000]}")
