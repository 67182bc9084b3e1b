"""How attempts become units: users once, retries to the version that failed, testers not at all."""

from dataclasses import replace
from typing import Any

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.controller.tally import Known, Tally, concerns, tally
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.metrics import metric_from_json
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.statistics.label import Counts

SPEC = RolloutSpec(id="r", handle="digits", version=2)
STATE: RolloutState = begin(stable=1, now_s=5.0)


def _tally(attempts: list[Attempt], known: Known | None = None) -> Tally:
    return tally(attempts, SPEC, STATE, known or {})


def _errors(attempts: list[Attempt], known: Known | None = None) -> Counts:
    return _tally(attempts, known).counts["2/errors"]


def _attempt(unit: str, assigned: int, *, status: int = 200, **options: Any) -> Attempt:
    values: dict[str, Any] = {
        "at_s": 10.0,
        "handle": "digits",
        "request_id": unit,
        "unit": unit,
        "assigned": assigned,
        "answered": assigned,
        "status": status,
        "flags": "",
        "duration_ms": 3.0,
        "number": 1,
    }
    return Attempt(**{**values, **options})


def test_tally_counts_units_by_assigned_arm() -> None:
    attempts = [_attempt("user:a", 2), _attempt("user:a", 2), _attempt("user:b", 1), _attempt("request:c", 1)]
    assert _errors(attempts) == Counts(canary=1, control=2, fresh=1, requests=2)


def test_tally_blames_candidate_for_request_that_stable_answered() -> None:
    failed = _attempt("user:a", 2, status=500, at_s=11.0)
    rescued = _attempt("user:a", 2, answered=1, number=2)
    counted = _tally([failed, rescued])
    assert counted.counts["2/errors"] == Counts(canary=1, bad_canary=1, fresh=1, requests=1)
    assert counted.first_bad_at_s == 11.0
    assert counted.marks == (("user:a", 2, frozenset({"errors"})),)


def test_tally_counts_failover_at_first_attempt_as_bad() -> None:
    assert _errors([_attempt("user:a", 2, answered=1)]).bad_canary == 1


def test_tally_counts_first_bad_event_of_a_unit_only() -> None:
    attempts = [_attempt("user:a", 2, status=503)]
    known = {"user:a": {1: frozenset({"errors"}), 2: frozenset[str]()}}
    assert _errors(attempts, known) == Counts(past_risk=1)


def test_unit_that_was_bad_on_stable_proves_nothing_and_has_met_the_candidate() -> None:
    counted = _errors([_attempt("user:a", 2)], {"user:a": {1: frozenset({"errors"})}})
    assert counted == Counts(spent=1, past_risk=1)
    assert (counted.met, counted.asking, counted.fresh) == (1, 1, 0)


def test_unit_that_was_bad_on_stable_and_asks_stable_again_has_not_met_the_candidate() -> None:
    counted = _errors([_attempt("user:a", 1)], {"user:a": {1: frozenset({"errors"})}})
    assert (counted.met, counted.asking) == (0, 1)


def test_tally_counts_known_good_unit_at_risk_but_not_fresh() -> None:
    counted = _errors([_attempt("user:a", 2, status=0, answered=None)], {"user:a": {2: frozenset()}})
    assert counted == Counts(canary=1, bad_canary=1, fresh=0, requests=1)


def test_tally_forgets_good_requests_that_have_no_user() -> None:
    assert _tally([_attempt("request:a", 2)]).marks == ()


def test_pinned_earlier_and_abandoned_attempts_are_no_evidence() -> None:
    chosen = _attempt("user:a", 2, via="pin")
    earlier = _attempt("user:b", 2, at_s=1.0)
    other = _attempt("user:c", 7)
    given_up = _attempt("user:e", 2, status=0, answered=2)
    attempts = (chosen, earlier, other, given_up)
    assert not any(concerns(attempt, SPEC, STATE) for attempt in attempts)
    assert concerns(_attempt("user:d", 1), SPEC, STATE)


def test_client_that_was_kept_waiting_and_gave_up_speaks_against_the_version() -> None:
    hung = _attempt("user:a", 2, status=0, duration_ms=5000.0)
    assert concerns(hung, SPEC, STATE)
    assert _errors([hung]).bad_canary == 1


def test_tally_counts_requests_up_to_the_first_bad_one() -> None:
    attempts = [_attempt("user:a", 2), _attempt("user:a", 2, status=500), _attempt("user:a", 2, status=500)]
    assert _errors(attempts) == Counts(canary=1, bad_canary=1, fresh=1, requests=2)


@pytest.mark.parametrize(("status", "bad"), [(200, 0), (404, 1), (429, 0), (500, 0)])
def test_tally_counts_4xx_but_too_many_requests_as_refused(status: int, bad: int) -> None:
    counted = _tally([_attempt("user:a", 2, status=status)]).counts["2/client_errors"]
    assert (counted.canary, counted.bad_canary) == (1, bad)


@pytest.mark.parametrize(("kind", "limit_ms"), [("latency", 50.0), ("latency_slo", 80.0)])
def test_tally_counts_answers_slower_than_the_limit_of_the_metric(kind: str, limit_ms: float) -> None:
    metrics = (metric_from_json(kind),)
    spec, state = replace(SPEC, metrics=metrics, latency_ms=80.0), replace(STATE, baseline_ms=50.0)
    attempts = [
        _attempt("user:a", 2, answer_ms=limit_ms),
        _attempt("user:b", 2, answer_ms=limit_ms + 1),
        _attempt("user:c", 1, answer_ms=limit_ms + 1),
        _attempt("user:d", 2, answer_ms=limit_ms + 1, number=2),
    ]
    counted = tally(attempts, spec, state, {}).counts[f"2/{kind}"]
    assert (counted.canary, counted.bad_canary, counted.control, counted.bad_control) == (3, 1, 1, 1)


def test_tally_counts_no_latency_before_the_baseline_is_known() -> None:
    spec = replace(SPEC, metrics=(metric_from_json("latency"),))
    assert "2/latency" not in tally([_attempt("user:a", 2)], spec, STATE, {}).counts


def test_tally_counts_answers_of_which_the_service_says_whether_they_keep_the_contract() -> None:
    spec = replace(SPEC, metrics=(metric_from_json("schema"),))
    attempts = [
        _attempt("user:a", 2, keeps_contract=Answer.YES),
        _attempt("user:b", 2),
        _attempt("user:b", 2, keeps_contract=Answer.NO, at_s=12.0),
        _attempt("user:c", 2),
        _attempt("user:d", 2, answered=1, keeps_contract=Answer.NO),
        _attempt("user:e", 1, keeps_contract=Answer.YES),
    ]
    found = tally(attempts, spec, STATE, {})
    assert found.counts["2/schema"] == Counts(canary=2, control=1, bad_canary=1, fresh=2, requests=2)
    assert ("user:b", 2, frozenset({"schema"})) in found.marks


@pytest.mark.parametrize("flags", ["UO", "URX,UO"])
def test_attempt_that_the_machine_had_no_room_for_is_no_evidence(flags: str) -> None:
    full = _attempt("user:a", 2, status=503, flags=flags, answered=None)
    rescue = _attempt("user:a", 2, answered=1, number=2)
    assert not any(concerns(attempt, SPEC, STATE) for attempt in (full, rescue))
    assert concerns(replace(full, flags="UF"), SPEC, STATE)
