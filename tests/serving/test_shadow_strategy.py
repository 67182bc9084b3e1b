"""The shadow's walk: likeness is proven, a difference is found, and no traffic ever moves."""

from typing import Any

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.observation import Compared
from taxiway_serving.rollout.state import Outcome, Status
from tests.serving.rollouts import GOOD, Walk, asked, seen


def _walk(**options: Any) -> Walk:
    return Walk(asked(strategy={"kind": "shadow", "samples": 200, **options}))


def _look(walk: Walk, *, times: int = 1, **counts: int) -> None:
    walk.look(seen(compared={2: Compared(**counts)}), times=times)


def test_identical_version_passes_and_leaves_stable_live() -> None:
    walk = _walk(sample_pct=25)
    walk.look(GOOD)
    assert (walk.state.mirror_pct, walk.state.weights) == (25, {})
    _look(walk, times=50, samples=20)
    assert (walk.state.outcome, walk.state.mirror_pct, walk.weights) == (Outcome.COMPLETED, 0, [0])
    assert walk.state.compared[2].samples >= 200


def test_version_that_differs_fails() -> None:
    walk = _walk()
    _look(walk, times=10, samples=20, only_candidate=6)
    assert (walk.state.outcome, walk.weights) == (Outcome.ROLLED_BACK, [0])
    assert "differ beyond noise" in walk.state.reason


def test_noisy_model_passes_when_it_is_no_noisier_than_stable() -> None:
    """One answer in ten differs by chance, on either side; a difference of 5 % can still be ruled out."""
    walk = _walk(most_different_pct=5)
    walk.look(GOOD, times=2)
    _look(walk, times=100, samples=20, only_candidate=2, only_noise=2)
    assert walk.state.outcome is Outcome.COMPLETED


def test_noisy_model_that_differs_beyond_its_noise_fails() -> None:
    walk = _walk(most_different_pct=5)
    walk.look(GOOD, times=2)
    _look(walk, times=100, samples=20, only_candidate=6, only_noise=2)
    assert walk.state.outcome is Outcome.ROLLED_BACK


def test_dead_shadow_fails_and_no_traffic_moves() -> None:
    """Nobody answers for the candidate: each call that failed is a difference."""
    walk = _walk()
    _look(walk, times=10, samples=20, only_candidate=20, failed=20)
    assert (walk.state.outcome, walk.weights) == (Outcome.ROLLED_BACK, [0])
    died = _walk()
    died.look(GOOD, times=2)
    died.look(seen(Answer.NO), times=2)
    assert (died.state.outcome, died.state.mirror_pct, died.weights) == (Outcome.ROLLED_BACK, 0, [0])


def test_few_comparisons_hold_until_the_deadline() -> None:
    walk = _walk(deadline_s=30)
    _look(walk, times=3, samples=20)
    walk.look(GOOD, times=40)
    assert walk.state.status is Status.PAUSED
    assert "of 200 mirrored requests compared" in walk.state.reason


def test_person_may_end_a_shadow_that_is_stuck() -> None:
    walk = _walk()
    walk.look(GOOD, times=3)
    walk.say("promote-full")
    assert walk.state.mirror_pct == 0
    assert walk.look(GOOD).outcome is Outcome.COMPLETED


def test_shadow_without_its_comparison_is_not_over_by_its_own() -> None:
    walk = _walk(samples=1, most_different_pct=50)
    walk.look(GOOD, times=30)
    assert walk.state.outcome is None
