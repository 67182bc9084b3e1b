"""The cap on the users who may meet a candidate before it is proven, over the fakes."""

import pytest

from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.routing.side_routes import SideRoutes
from taxiway_serving.split import Split
from tests.serving.operating import fail, outcome, until
from tests.serving.plane import HANDLE, Plane


@pytest.fixture
def capped(live: Plane) -> Plane:
    """Half of 200 users may meet version 2, at most 20 of them."""
    live.users = 200
    steps = [{"setWeight": 20}, {"bake": {"duration_s": 900}}, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps}, max_users=20)
    until(live, "r", Status.PAUSED, requests=9)
    live.tick(2, requests=9)
    return live


def test_cap_keeps_the_candidate_for_exactly_those_who_have_met_it(capped: Plane) -> None:
    met = {a.unit for a in capped.source.read("").attempts if a.assigned == 2 and a.at_s > capped.now_s - 900}
    route = capped.router.running.route(HANDLE)
    assert route is not None
    assert route.members is not None
    assert set(route.members.units) == met
    assert (len(met) <= 20, capped.weight_pct(2)) == (True, 0)
    capped.tick(60, requests=50)
    later = {a.unit for a in capped.source.read("").attempts if a.assigned == 2}
    assert later == met


@pytest.mark.parametrize("verb", ["promote", "resume"])
def test_cap_is_lifted_by_a_person(capped: Plane, verb: str) -> None:
    capped.act("r", verb)
    capped.tick(3, requests=9)
    assert capped.router.observed_routes(HANDLE) == SideRoutes()
    assert capped.weight_pct(2) == (100 if verb == "promote" else 20)
    assert capped.state("r").is_open


def test_lifting_the_cap_is_no_sample_ratio_mismatch(capped: Plane) -> None:
    capped.users = 0
    capped.tick(20, requests=100)
    capped.act("r", "resume")
    capped.tick(20, requests=100)
    assert capped.state("r").status is Status.PROGRESSING


def test_abort_behind_the_cap_takes_the_candidate_from_everybody(capped: Plane) -> None:
    capped.act("r", "abort")
    capped.tick(3, requests=9)
    assert capped.router.observed_routes(HANDLE) == SideRoutes()
    assert capped.router.observed(HANDLE) == Split.whole(1)


def test_candidate_that_fails_those_who_keep_it_is_taken_back(capped: Plane) -> None:
    fail(capped, 2)
    capped.tick(30, requests=200)
    assert (outcome(capped, "r"), capped.router.observed_routes(HANDLE)) == (
        Outcome.ROLLED_BACK,
        SideRoutes(),
    )


def test_closed_door_proves_nothing_by_comparison(capped: Plane) -> None:
    """Twenty listed users beside everybody else are no pair: fewer failures among them are no proof."""
    before = capped.state("r")
    capped.fails = lambda version, number: version == 1 and number % 9 == 0
    capped.tick(30, requests=100)
    after = capped.state("r")
    assert after.totals["2/errors"].bad_control > before.totals["2/errors"].bad_control
    for name in ("2/error_ratio", "2/ratio_certificate"):
        assert after.guards.get(name) == before.guards.get(name)


def test_cap_holds_where_everybody_has_failed_on_stable_before(live: Plane) -> None:
    """Who was bad on any version proves nothing more, and yet meets the candidate."""
    live.users = 400
    live.fails = lambda version, _number: version == 1
    steps = [
        {"bake": {"duration_s": 9}},
        {"setWeight": 20},
        {"bake": {"duration_s": 900}},
        {"setWeight": 100},
    ]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps}, max_users=20)
    live.tick(9, requests=100)
    live.tick(60, requests=9)
    met = {a.unit for a in live.source.read("").attempts if a.assigned == 2}
    assert live.state("r").is_closed
    assert 0 < len(met) <= 20
    assert live.state("r").exposed == len(met)


def test_cap_holds_when_a_weight_rises_before_users_who_have_failed(live: Plane) -> None:
    live.users = 150
    live.fails = lambda version, _number: version == 1
    steps = [{"setWeight": 1}, {"bake": {"duration_s": 60}}, {"setWeight": 50}, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps}, max_users=20)
    live.tick(120, requests=50)
    met = {a.unit for a in live.source.read("").attempts if a.assigned == 2}
    assert (live.state("r").is_closed, live.state("r").is_open, len(met) <= 20) == (True, False, True)
