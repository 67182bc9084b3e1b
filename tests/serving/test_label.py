"""The e-processes against simulation: false alarms stay under alpha at every look, harm is found, correlated
units do no harm."""

from math import log

import numpy as np
import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.guard import Guard, Interval
from taxiway_serving.rollout.guards import Budget, BudgetCertificate, Ratio, RatioCertificate
from taxiway_serving.statistics.label import Counts, label_terms, log_mean_exp

LOOKS, RUNS = 100, 400


def _fired_at(guard: Guard, intervals: list[Counts], share: float) -> int | None:
    state, total = guard.start(), Counts()
    for look, interval in enumerate(intervals):
        state, total = guard.update(state, Interval(counts=interval, share=share)), total + interval
        if guard.judge(state, total).answer is Answer.YES:
            return look
    return None


def _intervals(
    rng: np.random.Generator, *, weight: float, canary: float, control: float, units: int
) -> list[Counts]:
    n = rng.binomial(units, weight, LOOKS)
    bad_canary = rng.binomial(n, canary)
    bad_control = rng.binomial(units - n, control)
    return [
        Counts(
            canary=int(a),
            control=int(units - a),
            bad_canary=int(x),
            bad_control=int(y),
            fresh=int(a),
            requests=int(a),
        )
        for a, x, y in zip(n, bad_canary, bad_control, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.01, 0.05, 0.5])
def test_error_ratio_keeps_alpha_on_healthy_canary(weight: float) -> None:
    rng = np.random.default_rng(1)
    guard = Ratio(alpha=0.05)
    runs = [_intervals(rng, weight=weight, canary=0.005, control=0.005, units=1000) for _ in range(RUNS)]
    false_alarms = sum(_fired_at(guard, run, weight) is not None for run in runs)
    assert false_alarms / RUNS <= 0.05 + 2 * (0.05 * 0.95 / RUNS) ** 0.5


def test_error_ratio_ignores_incident_on_both_arms() -> None:
    rng = np.random.default_rng(2)
    guard = Ratio(alpha=0.05)
    runs = [_intervals(rng, weight=0.05, canary=0.3, control=0.3, units=200) for _ in range(RUNS)]
    assert sum(_fired_at(guard, run, 0.05) is not None for run in runs) / RUNS <= 0.05 + 0.022


def test_error_ratio_finds_outage_at_first_look() -> None:
    rng = np.random.default_rng(3)
    runs = [_intervals(rng, weight=0.05, canary=0.2, control=0.005, units=1000) for _ in range(50)]
    found = [_fired_at(Ratio(alpha=0.05), run, 0.05) for run in runs]
    assert all(look is not None and look <= 1 for look in found)


def test_error_ratio_says_nothing_without_control() -> None:
    alone = Counts(canary=100, bad_canary=100, fresh=100)
    guard = Ratio(alpha=0.05)
    assert guard.judge(
        guard.update(guard.start(), Interval(counts=alone, share=1.0)), alone
    ).log_e == pytest.approx(0)


def test_error_budget_guards_where_no_control_runs() -> None:
    rng = np.random.default_rng(4)
    guard = Budget(alpha=0.05, budget=0.01)
    healthy = [_intervals(rng, weight=1, canary=0.01, control=0, units=50) for _ in range(RUNS)]
    broken = [_intervals(rng, weight=1, canary=0.3, control=0, units=50) for _ in range(50)]
    assert sum(_fired_at(guard, run, 1.0) is not None for run in healthy) / RUNS <= 0.05 + 0.022
    assert all(_fired_at(guard, run, 1.0) == 0 for run in broken)


def test_budget_certificate_passes_flawless_canary_the_ratio_never_does() -> None:
    flawless = [Counts(canary=10, control=190, fresh=10)] * LOOKS
    assert _fired_at(RatioCertificate(alpha=0.025), flawless, 0.05) is None
    assert _fired_at(BudgetCertificate(alpha=0.025, budget=0.01), flawless, 0.05) is not None


def test_budget_certificate_refuses_version_at_the_budget() -> None:
    rng = np.random.default_rng(5)
    guard = BudgetCertificate(alpha=0.05, budget=0.01)
    runs = [_intervals(rng, weight=0.25, canary=0.01, control=0.01, units=100) for _ in range(RUNS)]
    assert sum(_fired_at(guard, run, 0.25) is not None for run in runs) / RUNS <= 0.05 + 0.022


def test_budget_certificate_does_not_count_the_same_unit_twice() -> None:
    again = [Counts(canary=10, control=190, fresh=10)] + [Counts(canary=10, control=190)] * LOOKS
    assert _fired_at(BudgetCertificate(alpha=0.05, budget=0.01), again, 0.05) is None


def test_label_terms_have_mean_one_under_null() -> None:
    """One bad unit, canary's with probability = share: the expected factor of each alternative is exactly
    1."""
    share = 0.05
    hit = Counts(canary=5, control=95, bad_canary=1, fresh=5)
    miss = Counts(canary=5, control=95, bad_control=1, fresh=5)
    for ratio in (1.5, 5.0, 50.0):
        (on_hit,) = label_terms(hit, share, null_ratio=1, ratios=(ratio,))
        (on_miss,) = label_terms(miss, share, null_ratio=1, ratios=(ratio,))
        assert share * np.exp(on_hit) + (1 - share) * np.exp(on_miss) == pytest.approx(1)


def _sticky_counts(
    rng: np.random.Generator, *, weight: float, users: int, per_look: int, error_rate: float, broken: int
) -> list[Counts]:
    """Count sticky users as the tally does: `broken` of them always fail, each other request at `error_rate`."""
    on_canary = rng.random(users) < weight
    seen, bad = np.zeros(users, bool), np.zeros(users, bool)
    found = []
    for _ in range(LOOKS):
        asking = rng.integers(0, users, per_look)
        fails = (asking < broken) | (rng.random(per_look) < error_rate)
        units = np.unique(asking[~bad[asking]])
        requests, newly_bad = 0, []
        for unit in units:
            own = fails[asking == unit]
            first = int(own.argmax()) + 1 if own.any() else len(own)
            requests += first if on_canary[unit] else 0
            newly_bad += [unit] if own.any() else []
        now_bad = np.array(newly_bad, int)
        found.append(
            Counts(
                canary=int(on_canary[units].sum()),
                control=int((~on_canary[units]).sum()),
                bad_canary=int(on_canary[now_bad].sum()),
                bad_control=int((~on_canary[now_bad]).sum()),
                fresh=int((on_canary[units] & ~seen[units]).sum()),
                requests=requests,
            )
        )
        seen[units], bad[now_bad] = True, True
    return found


@pytest.mark.slow
def test_error_ratio_keeps_alpha_with_permanently_failing_users() -> None:
    rng = np.random.default_rng(6)
    runs = [
        _sticky_counts(rng, weight=0.05, users=400, per_look=40, error_rate=0.002, broken=10)
        for _ in range(200)
    ]
    false_alarms = sum(_fired_at(Ratio(alpha=0.05), run, 0.05) is not None for run in runs)
    assert false_alarms / 200 <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_error_budget_keeps_alpha_with_busy_users_inside_the_slo() -> None:
    """Many requests of one user in one look are as many chances to fail; they are counted as such."""
    rng = np.random.default_rng(7)
    runs = [
        _sticky_counts(rng, weight=1, users=100, per_look=400, error_rate=0.005, broken=0) for _ in range(60)
    ]
    guard = Budget(alpha=0.05, budget=0.01)
    assert sum(_fired_at(guard, run, 1.0) is not None for run in runs) / 60 <= 0.05


def test_error_ratio_learns_from_one_request_at_a_time() -> None:
    """At low traffic a look holds one unit of one arm; the evidence counts all the same."""
    looks = [Counts(canary=1, bad_canary=1, fresh=1, requests=1)] + [Counts(control=1)] * 19
    assert _fired_at(Ratio(alpha=0.05), looks * 5, 0.05) is not None
    both_fail = [Counts(canary=1, bad_canary=1, fresh=1, requests=1)] + [
        Counts(control=1, bad_control=1)
    ] * 19
    assert _fired_at(Ratio(alpha=0.05), both_fail * 5, 0.05) is None


def test_log_mean_exp_survives_large_values() -> None:
    assert log_mean_exp((1000.0, 1000.0)) == pytest.approx(1000)
    assert log_mean_exp((0.0, -1e9)) == pytest.approx(log(0.5))


@pytest.mark.parametrize("counts", [{"canary": 1, "bad_canary": 2}, {"control": -1}])
def test_counts_refuse_what_cannot_be(counts: dict[str, int]) -> None:
    with pytest.raises(InvalidSpecError, match="counts"):
        Counts(**counts)
