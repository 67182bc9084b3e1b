"""The routes of feedback and of the timeline. What an event must look like is in `taxiway_serving.feedback`."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Final

from fastapi import Body, Depends, FastAPI, Query, Response

from taxiway_serving.controller.roles import Right, Tokens, allowed
from taxiway_serving.errors import NotFoundError
from taxiway_serving.feedback import events_from_json
from taxiway_serving.ledger.reward_receipts import Receipt
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.store import Fleet, Store
from taxiway_serving.ledger.timeline import LEVELS, SqlTimeline
from taxiway_serving.names import check_handle
from taxiway_serving.rewards import Cell
from taxiway_serving.statistics.counterfactual import counterfactual
from taxiway_serving.timeline import SPAN_S, Span

SHOWN_SPANS: Final = 360
"""Spans of each version in an answer that asks for no width: an hour has the shortest ones."""
HOUR_S: Final = 3600.0

_WIDTHS: Final = (10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400)
EXAMPLE: Final = {"request_id": "8e3a6c1e-0f5d-4c1e-9d0e-5f6a7b8c9d0e", "metric": "click", "value": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What these routes speak for.

    Attributes:
        rewards: What was reported, and of which decisions; None leaves its routes out.
        timeline: What each version was given and did; None leaves its route out.
        store: Knows the endpoints, and which versions have traffic.
        tokens: Who may.
        clock: Seconds since the epoch.
    """

    rewards: SqlRewards | None = None
    timeline: SqlTimeline | None = None
    store: Store
    tokens: Tokens
    clock: Callable[[], float] = time.time

    def check(self, handle: str) -> None:
        """Refuse a handle that has no endpoint.

        Raises:
            InvalidNameError: If it is none at all.
            NotFoundError: If nothing was deployed under it.
        """
        if self.store.fleet().endpoint(check_handle(handle)) is None:
            raise NotFoundError("endpoint", handle, "deploy a model version under this handle first")


def add_evidence_routes(app: FastAPI, evidence: Evidence) -> None:
    """Add what takes rewards, tells what became of them, foretells and shows what was over time."""
    if evidence.rewards is not None:
        _add_feedback_routes(app, evidence.rewards, evidence)
        _add_estimate_route(app, evidence.rewards, evidence)
    if evidence.timeline is not None:
        _add_timeline_route(app, evidence.timeline, evidence)


def _add_feedback_routes(app: FastAPI, rewards: SqlRewards, evidence: Evidence) -> None:
    """Add what reports rewards and tells what became of them."""
    store, tokens, clock = evidence.store, evidence.tokens, evidence.clock

    @app.post("/v1/feedback", dependencies=[Depends(allowed(tokens, Right.REPORT))])
    def report(
        body: Annotated[Any, Body(examples=[EXAMPLE, [EXAMPLE]])], response: Response
    ) -> dict[str, Any]:
        """Store one event, or a list of up to 1,000, all or none. Safe to repeat; 202 while a request is unknown."""
        now_s = clock()
        receipts = rewards.accept(events_from_json(body, now_s), now_s=now_s)
        fleet = store.fleet()
        views = [_receipt_view(receipt, rewards, fleet) for receipt in receipts]
        if any(view["status"] == "pending" for view in views):
            response.status_code = 202
        return {"events": views} if isinstance(body, list) else views[0]

    @app.get("/v1/feedback/{request_id}", dependencies=[Depends(allowed(tokens, Right.READ))])
    def show(request_id: str) -> dict[str, Any]:
        """Show which version answered a request, and what was reported about it."""
        account = rewards.account(request_id, now_s=clock())
        receipts = account.receipts if account else ()
        is_known = account is not None and account.exposure is not None
        if account is None or not (is_known or any(one.status == "pending" for one in receipts)):
            next_step = f"send the x-request-id of an answer; {len(receipts)} events wait for this one"
            raise NotFoundError("request", request_id, next_step)
        fleet = store.fleet()
        return {
            "request_id": request_id,
            "exposure": asdict(account.exposure) if account.exposure else None,
            "events": [_receipt_view(receipt, rewards, fleet) for receipt in receipts],
        }


def _add_estimate_route(app: FastAPI, rewards: SqlRewards, evidence: Evidence) -> None:
    """Add what foretells a version's rewards at 100 % from the share that it has had."""
    may_read = Depends(allowed(evidence.tokens, Right.READ))

    @app.get("/v1/endpoints/{handle}/counterfactual", dependencies=[may_read])
    def foretell(
        handle: str,
        version: Annotated[int, Query(ge=1)],
        metric: str,
        since_s: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
        least: Annotated[float, Query(allow_inf_nan=False)] = 0.0,
        most: Annotated[float, Query(allow_inf_nan=False)] = 1.0,
        window_s: Annotated[float | None, Query(gt=0, le=2_592_000)] = None,
    ) -> dict[str, Any]:
        """Estimate what a version would earn at 100 %, with an interval, from requests that are still remembered."""
        evidence.check(handle)
        known = rewards.metric(handle, metric)
        counted = known if window_s is None else replace(known, window_s=window_s)
        rows = rewards.drawn(handle, counted, version=version, since_s=since_s, now_s=evidence.clock())
        capped = [(drawn, share, min(most, max(least, value))) for drawn, share, value in rows]
        found = counterfactual(capped, version, least=least, most=most)
        return {"handle": handle, "metric": metric, "window_s": counted.window_s, **asdict(found)}


def _add_timeline_route(app: FastAPI, timeline: SqlTimeline, evidence: Evidence) -> None:
    """Add what shows a handle's traffic, its health and its rewards over time."""
    rewards, may_read = evidence.rewards, Depends(allowed(evidence.tokens, Right.READ))

    @app.get("/v1/endpoints/{handle}/timeline", dependencies=[may_read])
    def show_timeline(
        handle: str,
        since_s: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
        until_s: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
        step_s: Annotated[int | None, Query(ge=SPAN_S, le=86_400)] = None,
    ) -> dict[str, Any]:
        """Show split, requests, failures, latency and rewards of each version; the last hour unless asked otherwise."""
        evidence.check(handle)
        now_s = evidence.clock()
        end_s = now_s + 1 if until_s is None else until_s
        start_s = max(0.0, end_s - HOUR_S) if since_s is None else since_s
        width_s = step_s or _width(start_s, end_s)
        spans = timeline.rows(handle, since_s=start_s, until_s=end_s, step_s=width_s)
        begin_s = math.floor(start_s) // width_s * width_s
        earned = rewards.history(handle, since_s=begin_s, until_s=end_s, step_s=width_s) if rewards else {}
        return {
            "handle": handle,
            "since_s": begin_s,
            "until_s": end_s,
            "step_s": width_s,
            "rows": _rows(spans, earned, width_s),
            "feedback": rewards.waiting(now_s=now_s) if rewards else None,
        }


def _receipt_view(receipt: Receipt, rewards: SqlRewards, fleet: Fleet) -> dict[str, Any]:
    """Return an event, what became of it, and where it does not count, why."""
    exposure = receipt.exposure
    found: dict[str, Any] = {
        **asdict(receipt.event),
        "status": receipt.status,
        "received_at_s": receipt.received_at_s,
        "handle": exposure.handle if exposure else None,
        "version": exposure.version if exposure else None,
    }
    if receipt.status == "unknown":
        return {**found, "note": "the gateway has not shown this request; send the x-request-id of an answer"}
    if exposure is None:
        return found
    if receipt.status == "late":
        metric = rewards.metric(exposure.handle, receipt.event.metric)
        delay_s = receipt.event.event_at_s - exposure.at_s
        note = (
            f"came {delay_s:.0f} s after its request, the window is {metric.window_s:g} s; kept, not counted"
        )
        return {**found, "note": note}
    endpoint = fleet.endpoint(exposure.handle)
    if endpoint and endpoint.split and exposure.version not in endpoint.split.parts:
        status = receipt.status if receipt.status == "duplicate" else "removed_arm"
        return {
            **found,
            "status": status,
            "note": f"version {exposure.version} has no traffic now; kept, decides nothing",
        }
    return found


def _width(since_s: float, until_s: float) -> int:
    """Return the shortest width, in round spans, that shows a time in so many spans."""
    wanted_s = (until_s - since_s) / SHOWN_SPANS
    return next((width for width in _WIDTHS if width >= wanted_s), _WIDTHS[-1])


def _rows(
    spans: Sequence[Span], earned: Mapping[Cell, Mapping[str, Mapping[str, float]]], width_s: int
) -> list[dict[str, Any]]:
    """Return the spans with what was earned in each; spans that only earned among them, in the order of time."""
    places = {(span.version, span.at_s, span.width_s): span for span in spans}
    sums: dict[tuple[int, int, int], dict[str, dict[str, float]]] = {place: {} for place in places}
    for (version, at_s), metrics in earned.items():
        widths = (width_s, *(width for width, _ in LEVELS if width > width_s))
        candidates = [(version, at_s // width * width, width) for width in widths]
        place = next((one for one in candidates if one in places), candidates[0])
        own = sums.setdefault(place, {})
        for name, found in metrics.items():
            known = own.get(name, {"n": 0, "sum": 0.0})
            own[name] = {"n": known["n"] + found["n"], "sum": known["sum"] + found["sum"]}
    rows = []
    for place in sorted(sums, key=lambda one: (one[1], one[0], one[2])):
        version, at_s, width = place
        span = places.get(place) or Span(at_s=at_s, width_s=width, version=version)
        rows.append({**span.to_json(), "rewards": sums[place]})
    return rows
