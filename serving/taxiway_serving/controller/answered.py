"""The route that tells which version answered a request: from the gateway's log, else from what feedback remembers."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Depends, FastAPI

from taxiway_serving.controller.roles import Right, Tokens, allowed
from taxiway_serving.errors import NotFoundError
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.feedback import Exposure


def add_request_route(
    app: FastAPI,
    *,
    attempts_of: Callable[[str], Sequence[Attempt]],
    exposure_of: Callable[[str], Exposure | None],
    tokens: Tokens,
) -> None:
    """Add the route.

    Args:
        app: Where to.
        attempts_of: What the gateway's log still has of a request, in order.
        exposure_of: What feedback remembers of it.
        tokens: Who may.
    """

    @app.get("/v1/requests/{request_id}", dependencies=[Depends(allowed(tokens, Right.READ))])
    def show_request(request_id: str) -> dict[str, Any]:
        """Show which version answered a request, pinned ones too, as long as the gateway's log is kept."""
        attempts = attempts_of(request_id)
        if attempts:
            return _of_attempts(request_id, attempts)
        exposure = exposure_of(request_id)
        if exposure is None:
            next_step = "send the x-request-id of an answer; the gateway's log no longer has it, or never had"
            raise NotFoundError("request", request_id, next_step)
        return {
            "request_id": request_id,
            "handle": exposure.handle,
            "version": exposure.version,
            "at_s": exposure.at_s,
            "via": None,
            "status": None,
            "attempts": [],
        }


def _of_attempts(request_id: str, attempts: Sequence[Attempt]) -> dict[str, Any]:
    first, last = attempts[0], attempts[-1]
    return {
        "request_id": request_id,
        "handle": last.handle,
        "version": last.answered or last.assigned,
        "at_s": first.at_s,
        "via": first.via,
        "status": last.status,
        "attempts": [
            {
                "number": each.number,
                "assigned": each.assigned,
                "answered": each.answered,
                "status": each.status,
            }
            for each in attempts
        ],
    }
