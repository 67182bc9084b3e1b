"""Groups, verbs and retries as Airflow asks for them, of the real controller over fakes, whose clock goes on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway import traffic
from taxiway.errors import TransportError
from taxiway.operators.verb import RolloutVerbOperator
from taxiway.packaging.package import CodePackage
from taxiway.rollouts import RolloutResult
from taxiway.settings import Settings
from taxiway_serving.client import Controller
from taxiway_serving.errors import ConflictError
from taxiway_serving.rollout.state import RolloutState, Status
from tests.page.world import TOKEN, Served, World
from tests.serving.operating import GATED, OTHER, QUICK, two_handles, until
from tests.serving.plane import HANDLE, Plane

VERSIONS = {HANDLE: 2, OTHER: 12}
BAKED = {
    "kind": "canary",
    "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}, {"bake": {"duration_s": 600}}],
}
BAKE = 3


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "controller")
    yield made
    made.close()


@pytest.fixture
def plane(world: World) -> Plane:
    return two_handles(world.plane)


@pytest.fixture
def served(world: World, plane: Plane) -> Iterator[Served]:
    made = Served(world)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def settings(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings for the controller; packages and aliases are in a registry, which `tests/dags` has."""
    manifest = {"sla": {"availability": 0.99, "p99_ms": 50.0, "rate_rps": 20.0}}
    code = CodePackage(
        handle=HANDLE,
        kind="inference",
        digest="d",
        source_hash="s",
        lock_hash="l",
        python="3.11",
        manifest=manifest,
    )
    monkeypatch.setattr(traffic, "_candidate", lambda handle, version, settings: code)
    monkeypatch.setattr(traffic, "project_aliases", lambda handle, settings: None)
    monkeypatch.setattr(traffic, "POLL_S", 0.01)
    found = Settings.from_environment({"TAXIWAY_HOME": str(tmp_path), "TAXIWAY_CONTROLLER_URL": served.url})
    return replace(found, controller_token=TOKEN)


@contextmanager
def going(plane: Plane) -> Iterator[None]:
    """Let the controller's clock go on, with traffic, while the context lasts."""
    over = threading.Event()

    def go() -> None:
        while not over.is_set():
            plane.tick(requests=20)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def shift_both(settings: Settings, **strategy: Any) -> dict[str, RolloutResult]:
    return traffic.shift_group(VERSIONS, settings, strategy=QUICK | strategy, group="g", log=lambda _: None)


def begun(plane: Plane) -> list[str]:
    """Return the rollouts of the group that were ever begun."""
    entries = plane.store.entries(None, after=0, limit=10_000)
    found = [str(entry.body["rollout"]) for entry in entries if entry.kind == "rollout"]
    return [name for name in found if name.startswith("g-")]


def test_group_is_promoted_together(plane: Plane, settings: Settings) -> None:
    with going(plane):
        results = shift_both(settings)
    assert {handle: result.outcome for handle, result in results.items()} == dict.fromkeys(
        VERSIONS, "Promoted"
    )
    assert {plane.live(HANDLE), plane.live(OTHER)} == set(VERSIONS.values())


def test_group_with_a_conflict_begins_nothing_and_its_retry_succeeds(
    plane: Plane, settings: Settings
) -> None:
    """The second handle is busy: what would be begun first is not begun either, so that it can be asked for again."""
    plane.deploy(13, handle=OTHER)
    plane.tick(3)
    plane.begin(13, name="busy", handle=OTHER, strategy=GATED)
    with pytest.raises(ConflictError, match="a rollout is running"):
        shift_both(settings)
    assert begun(plane) == []
    assert plane.weight_pct(2) == 0
    plane.act("busy", "abort")
    plane.tick(5, requests=20)
    with going(plane):
        results = shift_both(settings)
    assert {result.outcome for result in results.values()} == {"Promoted"}
    assert sorted(begun(plane)) == sorted(traffic.names_of_group("g", VERSIONS).values())


def test_group_whose_answer_was_lost_is_followed_by_its_retry(
    plane: Plane, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Controller.start_group

    def lose(controller: Controller, rollouts: Any) -> Any:
        asked(controller, rollouts)
        raise TransportError("controller", "the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(Controller, "start_group", lose)
        with pytest.raises(TransportError, match="the answer was lost"):
            shift_both(settings)
    with going(plane):
        results = shift_both(settings)
    assert {result.outcome for result in results.values()} == {"Promoted"}
    assert len(begun(plane)) == len(VERSIONS)


class TaskInstance:
    """The part of a running task instance that an operator reads."""

    dag_id, run_id, try_number, map_index = "a_dag", "manual__1", 1, -1

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id


@pytest.fixture
def waiting(
    plane: Plane,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    airflow_home: Path,
) -> Plane:
    """Return a plane whose rollout waits for a person, before its bake; Airflow knows the controller."""
    monkeypatch.setenv("TAXIWAY_CONTROLLER_URL", settings.controller_url)
    token = tmp_path / "controller-token"
    token.write_text(TOKEN)
    monkeypatch.setenv("TAXIWAY_TOKEN_FILE", str(token))
    plane.begin(2, name="r1", strategy=BAKED)
    until(plane, "r1", Status.PAUSED)
    return plane


def promote(task_id: str = "carry_out", **options: Any) -> dict[str, Any]:
    """Run the operator as one try of a task does."""
    context: Any = {"ti": TaskInstance(task_id)}
    options = {"handle": HANDLE, "rollout": "r1", "verb": "promote"} | options
    return RolloutVerbOperator(task_id=task_id, **options).execute(context)


def baking(plane: Plane) -> RolloutState:
    """Return the rollout in its bake."""
    for _ in range(30):
        plane.tick(requests=20)
        if plane.state("r1").step == BAKE:
            return plane.state("r1")
    raise AssertionError(f"never baked: {plane.state('r1')}")


def has_baked_on(plane: Plane) -> bool:
    """Return whether the bake has not been ended by a word: its time is far from over."""
    plane.tick(20, requests=20)
    state = plane.state("r1")
    return (state.step, state.outcome, state.is_waived) == (BAKE, None, False)


def test_promote_that_is_tried_twice_ends_one_step(waiting: Plane) -> None:
    promote()
    baking(waiting)
    assert promote()["step"] == BAKE
    assert has_baked_on(waiting)


def test_promote_that_names_its_step_ends_no_other(waiting: Plane) -> None:
    step = waiting.state("r1").step
    assert promote("first", step=str(step))["rollout_id"] == "r1"
    baking(waiting)
    promote("second", step=step)
    assert has_baked_on(waiting)


def test_promote_of_another_task_is_another_promote(waiting: Plane) -> None:
    """What keeps the bake in the tests above is the command's name and the step, not that a bake cannot be ended."""
    promote("first")
    baking(waiting)
    promote("second")
    assert not has_baked_on(waiting)


def test_retry_asks_again_for_what_was_aborted(waiting: Plane) -> None:
    promote("give_up", verb="abort")
    waiting.tick(5, requests=20)
    again = promote("again", verb="retry")
    assert (again["rollout_id"], again["version"]) == ("r1~1", 2)
    assert promote("again", verb="retry")["rollout_id"] == "r1~1"
    until(waiting, "r1~1", Status.PAUSED)


def test_retry_of_a_rollout_that_goes_on_changes_nothing(waiting: Plane) -> None:
    assert promote(verb="retry")["rollout_id"] == "r1"
    assert waiting.state("r1").status is Status.PAUSED
