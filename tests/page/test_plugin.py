"""The plugin without a server: what Airflow loads, what it may answer to, what leaves for a browser."""

import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest

from taxiway_ui.views import history_view, width_of

LOADED = """
import airflow.plugins_manager, sys
before = set(sys.modules)
import taxiway_ui.plugin
view, = taxiway_ui.plugin.TaxiwayPlugin().external_views
print(*sorted(name for name in set(sys.modules) - before if not name.startswith("taxiway_ui")))
"""


def entry(seq: int, kind: str, **body: Any) -> dict[str, Any]:
    head = {"seq": seq, "at_s": float(seq), "handle": "digits", "kind": kind, "actor": "ann", "reason": "so"}
    return {**body, **head, "previous": "", "digest": ""}


def split(**parts: int) -> dict[str, Any]:
    return {"stable": 1, "parts": {name.removeprefix("v"): n for name, n in parts.items()}}


def test_plugin_is_found_by_its_entry_point() -> None:
    (found,) = [each for each in entry_points(group="airflow.plugins") if each.name == "taxiway"]
    assert found.load().name == "taxiway"


@pytest.mark.slow
def test_plugin_costs_a_process_that_shows_no_page_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.usefixtures("airflow_home")
@pytest.mark.filterwarnings("ignore:Using .httpx. with .starlette.testclient.")  # Airflow's own import
def test_every_route_reads_and_none_is_open() -> None:
    from taxiway_ui.app import create_app

    app = create_app()
    routes: list[Any] = list(app.routes)
    assert len(routes) >= 8
    assert {method for route in routes for method in route.methods} <= {"GET", "HEAD"}
    assert all(route.dependencies for route in routes)


def test_view_keeps_changes_and_leaves_out_looks_that_waited() -> None:
    entries = [
        entry(1, "deployed", version=2),
        entry(2, "split", observed=split(v1=10_000)),
        entry(3, "decision", verdict="hold", look={"candidate": "YES"}),
        entry(
            4,
            "decision",
            verdict="advance",
            version=2,
            split=split(v2=500, v1=9500),
            observed=split(v1=10_000),
        ),
        entry(5, "split", observed=split(v2=500, v1=9500)),
    ]
    view = history_view(entries, after=0, limit=5)
    assert [event["seq"] for event in view["events"]] == [1, 4]
    assert [point["at_s"] for point in view["points"]] == [2.0, 4.0, 5.0]
    assert view["points"][1]["wanted"] == {2: 5.0, 1: 95.0}
    assert (view["next_after"], view["has_more"]) == (5, True)


def test_view_of_nothing_new_stays_where_it_is() -> None:
    assert history_view([], after=7, limit=5) == {
        "points": [],
        "events": [],
        "next_after": 7,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("span_s", "width_s"), [(1, 10), (3600, 10), (3601, 30), (86_400, 300), (1e9, 86_400)]
)
def test_buckets_of_a_chart_grow_with_its_span(span_s: float, width_s: int) -> None:
    assert width_of(span_s) == width_s
