"""What is asked twice is done once: commands with a name, undos, groups; and what a retry asks for anew."""

from typing import Any

import pytest

from taxiway_serving.controller.repeats import next_name
from taxiway_serving.errors import ConflictError, InvalidSpecError, NotFoundError
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.spec import RolloutSpec, spec_from_json
from taxiway_serving.rollout.state import Outcome, Status
from tests.serving.operating import GATED, OTHER, QUICK, entries, fail, heal, outcome, two_handles, until
from tests.serving.plane import HANDLE, Plane

BAKED = {
    "kind": "canary",
    "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}, {"bake": 600}],
}


@pytest.fixture
def pair(plane: Plane) -> Plane:
    return two_handles(plane)


def say(plane: Plane, name: str, verb: str, command_id: str) -> None:
    plane.commands.act(HANDLE, name, verb, actor="ann", command_id=command_id)


def test_command_that_is_sent_twice_is_done_once(live: Plane) -> None:
    live.begin(2, name="slow", strategy=BAKED)
    until(live, "slow", Status.PAUSED)
    for _ in range(2):
        say(live, "slow", "promote", "gate")
        live.tick(5, requests=50)
    assert (live.state("slow").status, live.weight_pct(2)) == (Status.PROGRESSING, 100)
    say(live, "slow", "promote", "another gate")
    live.tick(5, requests=50)
    assert outcome(live, "slow") is Outcome.PROMOTED


def test_command_that_had_nothing_to_do_is_not_done_later(live: Plane) -> None:
    live.begin(2, name="slow", strategy=BAKED)
    say(live, "slow", "promote", "early")
    until(live, "slow", Status.PAUSED)
    say(live, "slow", "promote", "early")
    live.tick(5, requests=50)
    assert live.state("slow").status is Status.PAUSED
    said = [entry.reason for entry in live.store.entries(HANDLE, after=0, limit=1000) if entry.kind == "verb"]
    assert said == ["promote: nothing to do"]


def test_command_is_remembered_by_a_new_controller(live: Plane) -> None:
    live.begin(2, name="slow", strategy=BAKED)
    until(live, "slow", Status.PAUSED)
    say(live, "slow", "promote", "gate")
    live.restart()
    say(live, "slow", "promote", "gate")
    live.tick(5, requests=50)
    assert live.state("slow").status is Status.PROGRESSING


@pytest.mark.parametrize("how", ["aborted", "superseded", "rolled back", "never ready"])
def test_retry_asks_for_a_rollout_that_was_given_up_once_more(live: Plane, how: str) -> None:
    _give_up(live, how)
    again = live.act("first", "retry")
    assert (again.spec.id, again.spec.options, again.spec.steps) == (
        "first~1",
        live.rollout("first").spec.options,
        live.rollout("first").spec.steps,
    )
    live.tick(20, requests=50)
    assert outcome(live, "first~1") is Outcome.PROMOTED
    assert live.live(HANDLE) == again.spec.version


def _give_up(plane: Plane, how: str) -> None:
    version = 3 if how == "never ready" else 2
    if how == "never ready":
        plane.runtime.break_(VariantId(handle=HANDLE, version=3))
        plane.deploy(3)
    if how == "rolled back":
        fail(plane, 2)
    plane.begin(version, name="first", strategy=QUICK)
    if how == "never ready":
        plane.tick(2)
        plane.runtime.kill(VariantId(handle=HANDLE, version=3))
    if how == "aborted":
        plane.act("first", "abort")
    if how == "superseded":
        plane.deploy(4)
        plane.begin(4, name="other", strategy=GATED, on_running="supersede")
        plane.tick(3, requests=20)
        plane.act("other", "abort")
    plane.tick(30, requests=50)
    heal(plane)
    plane.runtime._broken.clear()


def test_retry_twice_is_one_retry(live: Plane) -> None:
    live.begin(2, name="first", strategy=GATED)
    live.act("first", "abort")
    live.tick(5, requests=20)
    ids = {live.act("first", "retry").spec.id for _ in range(3)}
    assert ids == {"first~1"}
    asked = [entry for entry in live.store.entries(HANDLE, after=0, limit=1000) if entry.kind == "asked"]
    assert [entry.reason for entry in asked if "again" in entry.reason] == [
        "canary of version 2, first again"
    ]


@pytest.mark.parametrize("moment", ["running", "promoted"])
def test_retry_of_what_was_not_given_up_does_nothing(live: Plane, moment: str) -> None:
    live.begin(2, name="first", strategy=GATED if moment == "running" else QUICK)
    live.tick(20, requests=50)
    live.reconciler.settle()
    before = live.state("first")
    assert live.act("first", "retry").spec.id == "first"
    assert (live.state("first"), live.store.rollout("first~1")) == (before, None)


def test_next_names_count() -> None:
    assert [next_name(name) for name in ("a", "a~1", "a~9", "a~b", "a~")] == [
        "a~1",
        "a~2",
        "a~10",
        "a~b~1",
        "a~~1",
    ]


def group_of(
    *names: str, handles: tuple[str, ...] = (HANDLE, OTHER), group: str = "release"
) -> list[RolloutSpec]:
    versions = {HANDLE: 2, OTHER: 12}
    asked: list[dict[str, Any]] = [
        {
            "id": name,
            "handle": handle,
            "version": versions[handle],
            "strategy": QUICK,
            "group": {"name": group, "handles": list(handles)},
        }
        for name, handle in zip(names, handles, strict=True)
    ]
    return [spec_from_json(each) for each in asked]


def test_group_begins_whole_and_is_found_again(pair: Plane) -> None:
    specs = group_of("mine", "other")
    begun = [each.spec.id for each in pair.commands.start_group(specs)]
    before = entries(pair)
    assert [each.spec.id for each in pair.commands.start_group(specs)] == begun == ["mine", "other"]
    assert entries(pair) == before
    pair.tick(15, requests=50)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_of_which_one_cannot_begin_leaves_nothing_and_can_be_asked_for_again(pair: Plane) -> None:
    pair.deploy(13, handle=OTHER)
    pair.begin(13, name="in the way", handle=OTHER, strategy=GATED)
    before = entries(pair)
    with pytest.raises(ConflictError, match="a rollout is running"):
        pair.commands.start_group(group_of("mine", "other"))
    assert (entries(pair), pair.store.rollout("mine")) == (before, None)
    pair.act("in the way", "abort")
    pair.tick(10, requests=20)
    pair.commands.start_group(group_of("mine", "other"))
    pair.tick(15, requests=50)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_needs_each_of_its_members_once(pair: Plane) -> None:
    with pytest.raises(InvalidSpecError, match="each once"):
        pair.commands.start_group(group_of("mine", "other")[:1])
    with pytest.raises(InvalidSpecError, match="of several groups"):
        pair.commands.start_group([group_of("a", "b")[0], group_of("a", "b", group="another")[1]])


def test_retried_members_make_a_new_group(pair: Plane) -> None:
    fail(pair, 2)
    pair.commands.start_group(group_of("mine", "other"))
    pair.tick(30, requests=50)
    heal(pair)
    assert [outcome(pair, name) for name in ("mine", "other")] == [Outcome.ROLLED_BACK] * 2
    pair.act("mine", "retry")
    pair.act("other", "retry")
    pair.tick(15, requests=50)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_undo_takes_no_name_of_another_rollout(live: Plane) -> None:
    live.go_live(2)
    with pytest.raises(ConflictError, match="give the undo an id of its own"):
        live.commands.undo(HANDLE, actor="ann", rollout_id="to-2")
    live.commands.undo(HANDLE, actor="ann", rollout_id="back", version=1)
    live.tick(5, requests=20)
    with pytest.raises(ConflictError, match="is undo of digits/1"):
        live.commands.undo(HANDLE, actor="ann", rollout_id="back", version=2)
    assert live.commands.undo(HANDLE, actor="ann", rollout_id="back").spec.id == "back"


def test_retry_needs_a_rollout(live: Plane) -> None:
    with pytest.raises(NotFoundError):
        live.commands.act(HANDLE, "nobody", "retry", actor="ann")
