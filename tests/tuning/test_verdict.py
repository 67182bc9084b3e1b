"""A verdict is right as often as its interval promises, and says nothing where it knows nothing."""

import numpy as np
import pytest

from taxiway.errors import InvalidSpecError
from taxiway.tuning.verdict import _T, FEWEST, MOST, Verdict, judge

ITEMS, SEEDS = 500, 5


def judged(differences: "np.ndarray", metric: str = "accuracy") -> Verdict:
    return judge(differences, metric, 30, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("won", "lost", "better"),
    [(60, 5, "yes"), (5, 60, "no"), (30, 28, "inconclusive"), (0, 0, "inconclusive")],
    ids=["better", "worse", "noise", "the same answers"],
)
def test_verdict_follows_the_interval(won: int, lost: int, better: str) -> None:
    row = np.array([1.0] * won + [-1.0] * lost + [0.0] * (ITEMS - won - lost))
    found = judged(np.array([row] * SEEDS))
    assert found.better == better
    assert found.low is not None
    assert found.high is not None
    assert found.difference is not None
    assert found.difference == pytest.approx((won - lost) / ITEMS)
    assert found.low <= found.difference <= found.high
    assert "500 items that the search did not see" in found.reason


@pytest.mark.parametrize("value", [0.001, 1e-17, 0.0])
def test_difference_without_any_scatter_is_inconclusive(value: float) -> None:
    """It is a point: nothing was sampled, or floating point differs."""
    found = judged(np.full((SEEDS, ITEMS), value), "overlap")
    assert found.better == "inconclusive"
    assert "no sample" in found.reason


def test_seeds_that_disagree_widen_the_interval() -> None:
    random = np.random.default_rng(2)
    items = random.normal(0.05, 0.2, ITEMS)
    alike = judged(np.array([items] * SEEDS), "overlap")
    apart = judged(np.array([items + shift for shift in (-0.2, -0.1, 0.0, 0.1, 0.2)]), "overlap")
    assert (alike.better, apart.better) == ("yes", "inconclusive")


def test_few_items_say_nothing() -> None:
    found = judged(np.ones((SEEDS, 29)))
    assert (found.better, found.difference) == ("inconclusive", None)
    assert "29 items are too few, 30 are needed" in found.reason


@pytest.mark.parametrize("count", [FEWEST - 1, MOST + 1])
def test_too_few_or_too_many_seeds_are_refused(count: int) -> None:
    with pytest.raises(InvalidSpecError, match="3 to 30 seeds"):
        judged(np.zeros((count, ITEMS)))


def test_there_is_a_quantile_for_every_number_of_seeds() -> None:
    assert len(_T) == MOST - 1
    assert list(_T) == sorted(_T, reverse=True)


def answers(rival: "np.ndarray", quality: "np.ndarray", random: np.random.Generator) -> "np.ndarray":
    """Return which items models of some quality answer right: one in five is answered on its own, the rest alike."""
    shape = (len(quality), len(rival))
    own = random.random(shape) < quality
    return np.where(random.random(shape) < 0.2, own, rival > 0).astype(float)


def searched(random: np.random.Generator, luck: float) -> tuple[Verdict, Verdict, Verdict]:
    """Search 40 parameter sets of one quality and judge the best.

    On other items, against a model and against trainings with the same seeds; and on the items of the search.

    Args:
        random: Draws what each model answers.
        luck: Standard deviation of what a seed does to a model's accuracy.
    """

    def quality(count: int) -> "np.ndarray":
        return 0.9 + luck * random.normal(size=(count, 1))

    rivals_seen, rivals_other = (random.random((2, ITEMS)) < 0.9).astype(float)
    seen = answers(rivals_seen, quality(40), random)
    best = seen[seen.mean(axis=1).argmax()]
    again = answers(rivals_other, quality(SEEDS), random)
    trained = answers(rivals_other, quality(SEEDS), random)
    on_seen = judged(np.array([best] * SEEDS) - rivals_seen)
    return judged(again - rivals_other), judged(again - trained), on_seen


@pytest.mark.parametrize("luck", [0.0, 0.01], ids=["seeds do nothing", "seeds matter"])
def test_best_of_many_equal_parameter_sets_is_seldom_called_better(luck: float) -> None:
    """Of 2,000 searches at most 2.5 % may say yes; four standard errors are 1.4 points.

    By the items that the search chose the best by, it would be several times as many.
    """
    random = np.random.default_rng(7)
    found = [searched(random, luck) for _ in range(2_000)]
    model, trainings, seen = (
        np.mean([each.better == "yes" for each in row]) for row in zip(*found, strict=True)
    )
    assert model < 0.039
    assert trainings < 0.039
    assert seen > 0.1


def test_interval_holds_the_truth_as_often_as_it_promises() -> None:
    """Of 300 at least 95 % must; four standard errors are 5 points."""
    random = np.random.default_rng(11)
    truth, covered = 0.02, []
    for _ in range(300):
        items, seeds = random.normal(0, 0.3, ITEMS), random.normal(0, 0.01, (SEEDS, 1))
        found = judged(truth + items + seeds, "overlap")
        assert found.low is not None
        assert found.high is not None
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) > 0.9
