"""Rollouts of several handles that are promoted together or not at all, over the fakes."""

from collections.abc import Sequence
from typing import Any

import pytest

from taxiway_serving.errors import ConflictError, InvalidSpecError
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.machine import GROUP_DEADLINE_S
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.strategies import rollout_from_json
from tests.serving.operating import (
    GATED,
    OTHER,
    QUICK,
    fail,
    outcome,
    two_handles,
    until,
)
from tests.serving.plane import HANDLE, Plane


@pytest.fixture
def pair(plane: Plane) -> Plane:
    return two_handles(plane)


def begin_pair(plane: Plane, *names: str, steps: Sequence[Any] = QUICK["steps"], **body: Any) -> None:
    group = {"name": "release", "handles": [HANDLE, OTHER]}
    strategy = {"kind": "canary", "steps": steps}
    for name in names or ("mine", "other"):
        version, handle = (2, HANDLE) if name == "mine" else (12, OTHER)
        plane.begin(version, name=name, handle=handle, strategy=strategy, group=group, **body)


def test_group_is_promoted_at_one_moment(pair: Plane) -> None:
    begin_pair(pair, "mine")
    pair.tick(10, requests=20)
    assert (pair.live(HANDLE), "waits for" in pair.state("mine").reason) == (1, True)
    begin_pair(pair, "other")
    pair.tick(10, requests=20)
    ends = [pair.state(name).ended_at_s for name in ("mine", "other")]
    assert ends[0] == ends[1] is not None
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_is_taken_back_when_one_of_it_fails(pair: Plane) -> None:
    fail(pair, 12)
    begin_pair(pair, steps=GATED["steps"])
    pair.tick(20, requests=50)
    assert [outcome(pair, name) for name in ("mine", "other")] == [Outcome.ROLLED_BACK] * 2
    assert (pair.weight_pct(2), pair.weight_pct(12, handle=OTHER)) == (0, 0)
    assert f"its group fails together: {OTHER}" in pair.state("mine").reason


@pytest.mark.parametrize("how", ["abort", "supersede"])
def test_group_is_taken_back_when_one_of_it_is_given_up(pair: Plane, how: str) -> None:
    begin_pair(pair, steps=GATED["steps"])
    until(pair, "mine", Status.PAUSED)
    if how == "abort":
        pair.act("other", "abort")
    else:
        pair.deploy(13, handle=OTHER)
        pair.begin(13, name="newer", handle=OTHER, strategy=QUICK, on_running="supersede")
    pair.tick(4, requests=20)
    assert (outcome(pair, "mine"), pair.weight_pct(2)) == (Outcome.ROLLED_BACK, 0)


def test_group_waits_for_a_member_that_nobody_starts_and_says_so_in_the_end(pair: Plane) -> None:
    begin_pair(pair, "mine")
    pair.tick(8, requests=20)
    pair.runtime.step(GROUP_DEADLINE_S + 1)
    pair.tick(2, requests=20)
    state = pair.state("mine")
    assert (state.status, state.outcome, pair.live(HANDLE)) == (Status.PAUSED, None, 1)
    assert "inconclusive" in state.reason
    assert OTHER in state.reason
    begin_pair(pair, "other")
    pair.act("mine", "resume")
    pair.tick(10, requests=20)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_waits_for_a_member_that_cannot_be_judged_at_the_last_look(pair: Plane) -> None:
    begin_pair(pair, "mine")
    pair.tick(8, requests=20)
    begin_pair(pair, "other")
    for _ in range(20):
        pair.tick(requests=20)
        if pair.state("other").is_ready:
            break
    pair.router.healthy = lambda variant: variant != VariantId(handle=OTHER, version=12)
    pair.tick(5, requests=20)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (1, 11)
    pair.router.healthy = pair.is_healthy
    pair.tick(5, requests=20)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_waits_for_a_member_that_a_person_has_paused(pair: Plane) -> None:
    begin_pair(pair, "mine")
    pair.tick(8, requests=20)
    assert pair.state("mine").is_ready
    pair.act("mine", "pause")
    begin_pair(pair, "other")
    pair.tick(10, requests=20)
    assert pair.live(OTHER) == 11
    pair.act("mine", "resume")
    pair.tick(5, requests=20)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_name_is_for_one_use(pair: Plane) -> None:
    begin_pair(pair)
    pair.tick(12, requests=20)
    pair.deploy(3)
    group = {"name": "release", "handles": [HANDLE, OTHER]}
    with pytest.raises(ConflictError, match="give this one another"):
        pair.begin(3, name="next", group=group)


def test_group_of_other_handles_under_the_same_name_is_refused(pair: Plane) -> None:
    begin_pair(pair, "mine")
    with pytest.raises(ConflictError, match=f"is of {HANDLE}, {OTHER}"):
        pair.begin(12, name="x", handle=OTHER, group={"name": "release", "handles": [OTHER]})


def test_group_of_rollouts_with_one_id_is_refused(pair: Plane) -> None:
    """An id names one rollout of all handles; twice in one request it would be neither's."""
    group = {"name": "release", "handles": [HANDLE, OTHER]}
    specs = [
        rollout_from_json({"id": "both", "handle": handle, "version": version, "group": group})
        for handle, version in ((HANDLE, 2), (OTHER, 12))
    ]
    with pytest.raises(InvalidSpecError, match="id: two rollouts have the same"):
        pair.commands.start_group(specs)
    assert pair.store.fleet().rollouts == ()
