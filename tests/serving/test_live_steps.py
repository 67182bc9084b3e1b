"""Routes by header and the presets, as the gateway is given them."""

from typing import Any

import pytest

from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.routing.side_routes import SideRoutes
from tests.serving.operating import outcome, routes, until, until_pct
from tests.serving.plane import HANDLE, Plane


def test_header_route_is_there_for_its_steps_and_goes_with_the_rollout(live: Plane) -> None:
    route = {"setHeaderRoute": {"header": "x-beta", "value": "1"}}
    steps = [route, {"pause": {}}, {"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps})
    until(live, "r", Status.PAUSED)
    live.headers = {"x-beta": "1"}
    live.tick(1, requests=1)
    assert live.source.read("").attempts[-1].assigned == 2
    assert live.weight_pct(2) == 0
    live.act("r", "promote")
    until_pct(live, 50)
    assert live.router.observed_routes(HANDLE).headers[0].version == 2
    live.act("r", "abort")
    live.tick(3)
    assert live.router.observed_routes(HANDLE) == SideRoutes()


def test_header_route_is_taken_away_by_its_step(live: Plane) -> None:
    steps = [
        {"setHeaderRoute": {"header": "x-beta", "value": "1"}},
        {"setHeaderRoute": {}},
        {"pause": {}},
        {"setWeight": 100},
    ]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps})
    until(live, "r", Status.PAUSED)
    published = [bool(route.headers) for route in routes(live)]
    assert published[-2:] == [True, False]


@pytest.mark.parametrize(
    ("strategy", "shares"),
    [
        ({"kind": "linear", "step_pct": 30, "interval_s": 3}, [0, 30, 60, 90, 100]),
        ({"kind": "all_at_once", "bake_s": 2}, [0, 100]),
    ],
    ids=["linear", "all at once"],
)
def test_preset_moves_the_traffic_in_its_steps(
    live: Plane, strategy: dict[str, Any], shares: list[float]
) -> None:
    live.begin(2, name="r", strategy=strategy, availability=0.9)
    seen = []
    for _ in range(80):
        live.tick(requests=100)
        seen.append(live.weight_pct(2))
    assert list(dict.fromkeys([0, *seen])) == shares
    assert outcome(live, "r") is Outcome.PROMOTED
