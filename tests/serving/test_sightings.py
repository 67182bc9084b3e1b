"""From the gateway's log to exposures and to the timeline."""

import pytest

from taxiway_serving.controller.sightings import Shares, exposures_of, served_of
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.feedback import NOT_DRAWN
from taxiway_serving.names import Via
from taxiway_serving.split import Split
from taxiway_serving.testing import attempt

FIVE, HALF = Split.of(1, {2: 5}), Split.of(1, {2: 50})


@pytest.fixture
def shares() -> Shares:
    made = Shares()
    made.note({"digits": FIVE}, now_s=100.0)
    made.note({"digits": HALF}, now_s=200.0)
    made.note({"digits": None, "other": None}, now_s=250.0)
    return made


@pytest.mark.parametrize(
    ("version", "at_s", "share"),
    [(2, 150.0, 0.05), (1, 150.0, 0.95), (2, 200.0, 0.5), (2, 50.0, 0.05), (3, 150.0, None)],
    ids=["then", "stable", "after the change", "before the first look", "not in any split"],
)
def test_share_is_that_of_the_split_at_the_time(
    shares: Shares, version: int, at_s: float, share: float
) -> None:
    assert shares.share("digits", version, at_s) == share


def test_share_of_a_version_that_got_traffic_before_its_split_was_read_back_is_that_splits(
    shares: Shares,
) -> None:
    shares.note({"digits": Split.whole(3)}, now_s=300.0)
    assert (shares.share("digits", 3, 299.9), shares.share("digits", 2, 300.1)) == (1.0, 0.5)


def test_share_of_an_unknown_handle_is_unknown(shares: Shares) -> None:
    assert shares.share("nothing", 1, 150.0) is None


def test_share_of_a_split_long_gone_is_not_that_of_a_request_now(shares: Shares) -> None:
    shares.note({"digits": Split.whole(1)}, now_s=300.0)
    assert (shares.share("digits", 2, 302.0), shares.share("digits", 2, 399.0)) == (0.5, None)
    shares.note({"digits": Split.of(1, {3: 50})}, now_s=400.0)
    assert shares.share("digits", 2, 401.0) is None


def test_exposure_is_the_first_attempt_of_what_chance_assigned(shares: Shares) -> None:
    attempts = [
        attempt(at_s=150.0, assigned=2, request_id="a"),
        attempt(at_s=150.0, assigned=2, answered=1, number=2, request_id="a"),
        attempt(at_s=150.0, assigned=2, request_id="c", via="pin"),
        attempt(at_s=150.0, assigned=9, request_id="d"),
    ]
    (found,) = exposures_of(attempts, shares)
    assert (found.request_id, found.version, found.unit, found.share) == ("a", 2, "user:ada", 0.05)


@pytest.mark.parametrize("via", ["header", "member"])
def test_exposure_of_who_was_routed_is_known_and_was_drawn_by_nobody(shares: Shares, via: Via) -> None:
    (found,) = exposures_of([attempt(at_s=150.0, assigned=9, request_id="b", via=via)], shares)
    assert (found.request_id, found.version, found.share) == ("b", 9, NOT_DRAWN)


@pytest.mark.parametrize(
    ("seen", "is_bad", "is_client_error", "latency_ms"),
    [
        (attempt(), False, False, 5.0),
        (attempt(status=500), True, False, 5.0),
        (attempt(status=404), False, True, 5.0),
        (attempt(status=429), False, False, 5.0),
        (attempt(status=0, flags="UF"), True, False, None),
        (attempt(status=503, flags="UO"), False, False, 5.0),
    ],
    ids=["well", "failed", "refused", "too many", "unreachable", "no room"],
)
def test_served_says_how_it_went(
    seen: Attempt, is_bad: bool, is_client_error: bool, latency_ms: float | None
) -> None:
    (found,) = served_of([seen])
    assert (found.is_bad, found.is_client_error, found.latency_ms) == (is_bad, is_client_error, latency_ms)


def test_served_is_each_live_request_once() -> None:
    attempts = [
        attempt(),
        attempt(number=2),
        attempt(via="pin"),
        attempt(via="member"),
        attempt(via="header"),
    ]
    assert len(list(served_of(attempts))) == 3
