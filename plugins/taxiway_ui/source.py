"""Asks the controller for the pages, on the server's side: its token never reaches a browser."""

import time
from typing import TYPE_CHECKING, Any

from taxiway_ui.views import endpoint_view, history_view, width_of

if TYPE_CHECKING:
    from taxiway.settings import Settings
    from taxiway_serving.client import Controller

VIEWER_CONNECTION = "taxiway_viewer"
"""A connection with a token that may only read; where there is none, the operators' connection is used."""
TIMEOUT_S = 5.0
PAGE = 10_000


def settings() -> "Settings":
    """Return where the controller is, and the token for it."""
    from airflow.sdk.exceptions import AirflowNotFoundException

    from taxiway.operators.hooks import TaxiwayHook

    try:
        return TaxiwayHook(VIEWER_CONNECTION).settings()
    except AirflowNotFoundException:
        return TaxiwayHook().settings()


def endpoints() -> dict[str, Any]:
    """Return every endpoint."""
    return {
        "now_s": time.time(),
        "endpoints": [endpoint_view(endpoint) for endpoint in _client().endpoints()],
    }


def endpoint(handle: str) -> dict[str, Any]:
    """Return one endpoint."""
    return {"now_s": time.time(), "endpoint": endpoint_view(_client().endpoint(handle))}


def history(handle: str, after: int) -> dict[str, Any]:
    """Return what the ledger says of an endpoint from a place on; a long one takes several calls."""
    entries = _client().ledger(handle, after=after, limit=PAGE)
    return history_view(entries, after=after, limit=PAGE)


def timeline(handle: str, since_s: float, until_s: float) -> dict[str, Any]:
    """Return requests, failures, latencies and rewards of each version in a span, in buckets that suit its length."""
    step_s = width_of(until_s - since_s)
    return {
        "rows": _client().timeline(handle, since_s=since_s // step_s * step_s, until_s=until_s, step_s=step_s)
    }


def _client() -> "Controller":
    from taxiway_serving.client import Controller

    found = settings()
    return Controller(
        found.controller_url, found.controller_token or "", timeout_s=TIMEOUT_S, actor="airflow-ui"
    )
