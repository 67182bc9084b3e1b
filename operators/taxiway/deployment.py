"""Takes a model version to its endpoint: deploy, verify, shift. All of it through the controller's client.

The controller carries the variants and rollouts; a caller that dies here leaves them as they are, and the next call
finds them again. The aliases `champion` and `previous` in MLflow follow what the controller says.
"""

import dataclasses
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taxiway.champion import project_aliases
from taxiway.errors import (
    NotReadyError,
    RolledBackError,
    RolloutEndedError,
    TransportError,
    VerificationFailedError,
)
from taxiway.packaging.package import CodePackage
from taxiway.project import Sla
from taxiway.registry import models, packages
from taxiway.settings import Settings
from taxiway_serving.client import Controller
from taxiway_serving.names import HEADER_VERSION, READY_PATH

Log = Callable[[str], None]
# Between the declared rate, which must be held, and three times that rate, which must be refused fast.
RATE_HEADROOM = 1.5
MOST_RPS = 1e6
POLL_S, ROUTED_POLL_S = 0.5, 0.1
ROLLOUT_OPTIONS = ("shield", "alpha", "warm_s")
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model version that takes requests.

    Attributes:
        handle: The handle.
        version: The model version.
        url: The handle's stable address at the gateway.
    """

    handle: str
    version: int
    url: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutResult:
    """A rollout that promoted its version.

    Attributes:
        handle: The handle.
        version: The version that has all traffic now.
        rollout_id: The rollout's id.
        outcome: `Promoted`.
        reason: Why, in the controller's words.
        previous: The version that had it before, or None for a first deployment.
        started_at_s: When it began, seconds since the epoch.
        ended_at_s: When it ended.
    """

    handle: str
    version: int
    rollout_id: str
    outcome: str
    reason: str
    previous: int | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)


def deploy(
    handle: str,
    version: int,
    settings: Settings,
    *,
    ready_deadline_s: float = 60.0,
    log: Log = print,
) -> Deployment:
    """Run a model version with the inference package it was registered with, and wait until it takes requests.

    It gets no live traffic: only requests that pin its version reach it. Deployed again, it is found as it is.

    Args:
        handle: The handle.
        version: The model version.
        settings: Where everything is.
        ready_deadline_s: Seconds that the start may take.
        log: Called with a line of progress.

    Raises:
        ModelNotFoundError: If there is no such version.
        NotReadyError: If it does not become ready in time; the end of its log is in the message.
    """
    model = models.get(handle, version, settings)
    code = packages.lookup(handle, "inference", settings, model.inference_digest)
    ready = packages.materialise(code, settings)
    spec = {
        "model": f"{handle}/{version}",
        "bento_dir": str(ready.bento_dir),
        "python": str(ready.python),
        "model_dir": str(models.download(model, settings)),
        "ready_deadline_s": ready_deadline_s,
        "max_rps": min(_sla(code).rate_rps * RATE_HEADROOM, MOST_RPS),
    }
    controller = _controller(settings)
    controller.deploy(handle, version, spec)
    log(f"{handle}/{version} is starting with inference package {code.digest[:12]}")
    end = time.monotonic() + ready_deadline_s
    controller.wait_ready(handle, version, deadline_s=ready_deadline_s)
    url = _url(handle, settings)
    _wait_routed(url, version, end - time.monotonic(), f"{handle}/{version}")
    log(f"{handle}/{version} is ready; pin it with {HEADER_VERSION}: {version}")
    return Deployment(handle=handle, version=version, url=url)


def verify(handle: str, version: int, settings: Settings, *, log: Log = print) -> dict[str, Any]:
    """Prove a deployed version against its contract and its SLA, through the gateway, and return the report.

    Args:
        handle: The handle.
        version: The deployed version; requests pin it, so live traffic is not part of this.
        settings: Where everything is.
        log: Called with a line for each check.

    Raises:
        VerificationFailedError: If a check did not answer yes; every one that did not is named.
        InvalidSpecError: If the package has no contract, or a broken one.
    """
    from taxiway_serving.evidence import verification

    model = models.get(handle, version, settings)
    code = packages.lookup(handle, "inference", settings, model.inference_digest)
    source = packages.materialise(code, settings).source_dir
    contract = verification.read_contract(source / (code.manifest["contract"] or "contract.json"))
    url = _url(handle, settings)
    report = verification.verify(url, contract, _sla(code), headers={HEADER_VERSION: str(version)})
    for check in report.checks:
        log(f"{check.name}: {check.answer.value}: {check.reason}")
    if not report.passed:
        raise VerificationFailedError(handle, version, report.failures)
    return report.to_json() | {"handle": handle, "version": version}


def shift(
    handle: str,
    version: int,
    settings: Settings,
    *,
    strategy: Mapping[str, Any],
    rollout_id: str,
    log: Log = print,
) -> RolloutResult:
    """Ask the controller to move live traffic to a version, and follow the rollout to its end.

    The controller carries it: a caller that dies, or loses the controller for a while, asks again with the same id
    and follows the same rollout.

    Args:
        handle: The handle.
        version: The deployed version.
        settings: Where everything is.
        strategy: `{"kind": "canary"}`, `{"kind": "blue_green"}`, or with `steps` of its own; beside them `shield`,
            `alpha` and `warm_s` of the rollout.
        rollout_id: Name of this rollout; the same for every try of a task.
        log: Called with a line whenever the rollout moves.

    Raises:
        RolledBackError: If the evidence sent all traffic back.
        RolloutEndedError: If it ended otherwise without promoting.
        UntraceableError: If nobody could say what the version was made of.
        InvalidSpecError: If the strategy is none.
        TransportError: If the controller does not answer for `PATIENCE_S`; the rollout goes on without us.
    """
    model = models.get(handle, version, settings)
    models.refuse_untraceable(model)
    code = packages.lookup(handle, "inference", settings, model.inference_digest)
    controller = _controller(settings)
    wanted = {"id": rollout_id, "version": version, "availability": _sla(code).availability}
    controller.start_rollout(handle, wanted | _asked(strategy))
    return _result(_follow(controller, handle, rollout_id, log), settings)


def undo(handle: str, settings: Settings, *, log: Log = print) -> RolloutResult:
    """Go back to the version that was live before, and follow until it is.

    Raises:
        NotFoundError: If there was none.
        ConflictError: If a rollout is under way: abort that one.
        RolloutEndedError: If the version before could not take the traffic.
    """
    controller = _controller(settings)
    begun = controller.undo(handle, f"undo-{uuid.uuid4()}")
    return _result(_follow(controller, handle, begun["id"], log), settings)


def _wait_routed(url: str, version: int, deadline_s: float, variant: str) -> None:
    """Wait until the gateway, which looks for itself, sends requests that pin a version to it."""
    import httpx

    end, reason = time.monotonic() + deadline_s, ""
    while True:
        try:
            answer = httpx.get(
                f"{url}{READY_PATH}", headers={HEADER_VERSION: str(version)}, timeout=2.0, trust_env=False
            )
            if answer.status_code == httpx.codes.OK:
                return
            reason = f"HTTP {answer.status_code}"
        except httpx.HTTPError as exc:
            reason = str(exc)
        if time.monotonic() > end:
            raise NotReadyError(variant, deadline_s, f"the gateway at {url} does not reach it: {reason}")
        time.sleep(ROUTED_POLL_S)


def _follow(controller: Controller, handle: str, rollout_id: str, log: Log) -> dict[str, Any]:
    """Return the rollout when it has ended; an absent controller is waited for."""
    last, answered_at_s = "", time.monotonic()
    while True:
        try:
            seen = controller.rollout(handle, rollout_id)
            answered_at_s = time.monotonic()
        except TransportError as exc:
            if time.monotonic() - answered_at_s > PATIENCE_S:
                raise
            seen = {"outcome": None, "phase": "Unknown", "status": "unknown", "reason": str(exc)}
        line = _line(seen)
        if line != last:
            log(line)
            last = line
        if seen["status"] == "ended":
            return seen
        time.sleep(POLL_S)


def _result(ended: Mapping[str, Any], settings: Settings) -> RolloutResult:
    """Return a rollout that promoted its version; another end is an error. MLflow's aliases follow either way."""
    handle, version = ended["handle"], ended["version"]
    project_aliases(handle, settings)
    if ended["outcome"] == "RolledBack":
        raise RolledBackError(handle, version, ended["outcome"], ended["reason"])
    if ended["outcome"] != "Promoted":
        raise RolloutEndedError(handle, version, ended["outcome"], ended["reason"])
    return RolloutResult(
        handle=handle,
        version=version,
        rollout_id=ended["id"],
        outcome=ended["outcome"],
        reason=ended["reason"],
        previous=ended["stable"],
        started_at_s=ended["started_at_s"],
        ended_at_s=ended["ended_at_s"],
    )


def _asked(strategy: Mapping[str, Any]) -> dict[str, Any]:
    """Return a strategy as the controller takes it: options of the rollout stand beside it, not in it."""
    options = {name: strategy[name] for name in ROLLOUT_OPTIONS if name in strategy}
    return options | {"strategy": {name: value for name, value in strategy.items() if name not in options}}


def _line(seen: Mapping[str, Any]) -> str:
    share = f" at {seen['weight_pct']:g} %" if "weight_pct" in seen else ""
    return f"{seen['outcome'] or seen['phase']}{share}: {seen['reason']}"


def _sla(code: CodePackage) -> Sla:
    return Sla(**code.manifest["sla"])


def _url(handle: str, settings: Settings) -> str:
    return f"{settings.gateway_url.rstrip('/')}/{handle}"


def _controller(settings: Settings) -> Controller:
    return Controller(settings.controller_url, settings.controller_token or "", actor="airflow")
