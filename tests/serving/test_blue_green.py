"""Blue-green's walk: preview, gate, switch, bake, proof; and an undo, which needs none of them."""

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.state import HeaderRoute, Outcome, Status
from taxiway_serving.rollout.steps import Bake, SetWeight
from taxiway_serving.statistics.label import Counts
from tests.serving.rollouts import GOOD, Walk, asked, seen, units

ALL_OF_IT = seen(errors=units(canary=60, control=0))
PREVIEW = HeaderRoute(header="x-preview", versions={"new": 2})


def _walk(**options: object) -> Walk:
    return Walk(asked(strategy={"kind": "blue_green", **options}))


def test_blue_green_switches_at_once_bakes_and_proves() -> None:
    walk = _walk(bake_s=5, units=50)
    walk.look(GOOD)
    assert (walk.state.header, walk.state.weight_pct) == (PREVIEW, 0)
    walk.look(ALL_OF_IT, times=30)
    assert (walk.weights, walk.state.outcome) == ([0, 100], Outcome.PROMOTED)
    assert walk.state.header is None


def test_blue_green_waits_at_its_gate_for_a_person_who_saw_the_preview() -> None:
    walk = _walk(auto_promote=False)
    walk.look(GOOD, times=20)
    assert (walk.state.status, walk.state.weight_pct, walk.state.header) == (Status.PAUSED, 0, PREVIEW)
    walk.say("resume")
    assert walk.look(GOOD).weight_pct == 100


def test_blue_green_waits_for_its_preview_units() -> None:
    walk = _walk(preview_units=40)
    walk.look(seen(errors=units(canary=10, control=50)), times=4)
    assert (walk.state.weight_pct, walk.state.step) == (0, 1)
    walk.look(seen(errors=units(canary=10, control=50)), times=3)
    assert walk.state.weight_pct == 100


def test_preview_that_fails_never_gets_the_traffic() -> None:
    walk = _walk(preview_units=40)
    walk.look(GOOD, times=2)
    walk.look(seen(errors=units(canary=10, bad=8)), times=2)
    assert (walk.weights, walk.state.outcome) == ([0], Outcome.ROLLED_BACK)


def test_testers_prove_nothing() -> None:
    walk = _walk(preview_units=5000, bake_s=0, units=1)
    walk.look(GOOD, times=2)
    walk.look(seen(errors=units(canary=1000, control=1000)), times=5)
    walk.look(seen(errors=units(canary=5, control=0)), times=3)
    assert (walk.state.outcome, walk.state.weight_pct) == (None, 100)
    assert "not proven yet" in walk.state.reason


def test_blue_green_goes_back_when_its_version_fails_at_full_traffic() -> None:
    walk = _walk(bake_s=60)
    walk.look(GOOD, times=5)
    walk.look(seen(errors=units(canary=50, control=0, bad=20)), times=2)
    assert (walk.weights, walk.state.outcome) == ([0, 100, 0], Outcome.ROLLED_BACK)


def test_blue_green_holds_its_version_to_the_4xx_of_the_one_before() -> None:
    walk = _walk(bake_s=60)
    before = {"2/client_errors": units(canary=0, control=2000, bad_control=20)}
    walk.look(seen(counts=before))
    walk.look(GOOD, times=4)
    refusing = {"2/client_errors": units(canary=50, control=0, bad=20)}
    walk.look(seen(counts=refusing), times=2)
    assert walk.state.outcome is Outcome.ROLLED_BACK
    assert "4xx" in walk.state.reason


def test_blue_green_without_traffic_proves_nothing() -> None:
    walk = _walk()
    walk.look(GOOD, times=60)
    assert (walk.state.outcome, walk.state.weight_pct) == (None, 100)


def test_bake_looks_at_one_user_who_fails_for_ever_as_one_failure() -> None:
    walk = _walk(bake_s=600)
    walk.look(GOOD, times=5)
    one = seen(errors=Counts(canary=60, bad_canary=1, requests=60))
    walk.look(one)
    walk.look(seen(errors=Counts(canary=59, requests=59)), times=40)
    assert walk.state.outcome is None


def test_undo_is_over_when_its_weight_is_read_back() -> None:
    walk = Walk(asked(strategy="undo"))
    walk.look(GOOD, times=2)
    assert (walk.state.outcome, walk.weights) == (Outcome.PROMOTED, [0, 100])


def test_all_at_once_bakes_under_the_budget() -> None:
    good, bad = (Walk(asked(strategy={"kind": "all_at_once", "bake_s": 5})) for _ in range(2))
    assert good.steps == (SetWeight(weight_pct=100), Bake(duration_s=5))
    for walk, failing in ((good, 0), (bad, 20)):
        walk.look(GOOD, times=2)
        walk.look(seen(errors=units(canary=60, control=0, bad=failing)), times=8)
    assert (good.state.outcome, bad.state.outcome) == (Outcome.PROMOTED, Outcome.ROLLED_BACK)


def test_first_deployment_of_any_strategy_takes_all_traffic_and_waits_for_no_proof() -> None:
    for kind in ("canary", "linear", "all_at_once", "blue_green", "bandit", "undo"):
        walk = Walk(asked(strategy=kind), stable=None)
        walk.look(seen(errors=units(canary=10, control=0)), times=6)
        assert (walk.weights, walk.state.outcome) == ([0, 100], Outcome.PROMOTED), kind


def test_first_deployment_that_fails_keeps_the_traffic_and_says_so() -> None:
    walk = Walk(asked(strategy="blue_green"), stable=None)
    walk.look(GOOD)
    walk.look(seen(errors=units(canary=50, control=0, bad=40)))
    assert (walk.state.outcome, walk.state.weight_pct) == (Outcome.ABORTED, 100)
    assert "no older version to go back to" in walk.state.reason


def test_first_deployment_that_dies_unready_ends_without_traffic() -> None:
    walk = Walk(asked(), stable=None)
    walk.look(seen(Answer.NO))
    assert (walk.state.status, walk.state.weights) == (Status.ENDED, {})
