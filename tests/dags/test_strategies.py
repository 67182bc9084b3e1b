"""The DAG of each strategy as it is committed, over a real controller, Envoy and MLflow, under traffic."""

import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from taxiway.datasets.versions import get
from taxiway.errors import ForbiddenStrategyError
from taxiway.packaging.package import package
from taxiway.registry.packages import register
from taxiway.traffic import shift
from taxiway.training import train
from taxiway.trial.load import Load
from taxiway.trial.services import HANDLE
from tests.dags.conftest import PARAMS, Versions
from tests.dags.team import People, Run, Team
from tests.dags.users import rewarded
from tests.library.scripted import Script
from tests.path.world import DagRun, World, wait_until

# The first test pays for the world.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800), pytest.mark.usefixtures("settled")]

RATE_RPS = 75.0
QUICK = {
    "kind": "canary",
    "steps": [
        {"setWeight": 5},
        {"pause": {"duration_s": 3}},
        {"setWeight": 100},
        {"bake": {"duration_s": 1}},
    ],
}
SHIFT = """
from taxiway.settings import Settings
from taxiway.traffic import shift
shift({handle!r}, {version}, Settings.from_environment(), strategy={strategy!r}, rollout_id={name!r})
"""


def shares(world: World, version: int, since_s: float) -> list[int]:
    """Return the shares above 0 % of a version that were read back since a time, one after the other."""
    entries = (entry for entry in world.controller.ledger(HANDLE, limit=10_000) if entry["at_s"] > since_s)
    seen = [entry["observed"] for entry in entries if entry["kind"] == "split" and entry["observed"]]
    found = (split["parts"].get(str(version), 0) // 100 for split in seen)
    return [share for share, _ in itertools.groupby(found) if share]


def begin(world: World, team: Team, name: str, **conf: Any) -> Run:
    """Start a DAG, and wait until its rollout begins."""
    before, begun = running(world)["id"], team.start(name, **conf)
    begun.wait_for(lambda: running(world)["id"] != before, what="its rollout began")
    return begun


@contextmanager
def rolling_out(world: World, team: Team, name: str, **conf: Any) -> Iterator[tuple[Run, Load]]:
    """Start a DAG, and send traffic from when its rollout begins until the context is left."""
    begun = begin(world, team, name, **conf)
    with world.traffic(rate_rps=RATE_RPS) as load:
        yield begun, load


def running(world: World) -> dict[str, Any]:
    """Return the rollout that is under way, or else the last; one that has ended shows no weight."""
    rollout: dict[str, Any] = world.controller.endpoint(HANDLE)["rollout"]
    return rollout if rollout["status"] != "ended" else rollout | {"weight_pct": 0.0}


def check_success(run: DagRun) -> None:
    assert run.state == "success", run.log[-8000:]


def test_canary_dag_promotes_by_steps_and_fails_nobody(world: World, versions: Versions, team: Team) -> None:
    candidate, began_at_s = versions.others[0], time.time()
    with rolling_out(world, team, "canary", version=candidate) as (begun, load):
        run = begun.result()
    check_success(run)
    assert run.result("canary")["outcome"] == "Promoted"
    assert run.result("canary")["version"] == versions.live == candidate
    assert shares(world, candidate, began_at_s) == [5, 25, 100]
    assert load.counts.failed == 0
    assert f"5 % on version {candidate}" in run.log


def test_canary_dag_tells_the_team_of_a_rollback(
    world: World, versions: Versions, team: Team, webhook: Script
) -> None:
    stable, candidate = versions.live, versions.others[0]
    with rolling_out(world, team, "canary", version=candidate) as (begun, load):
        begun.wait_for(lambda: running(world)["weight_pct"] >= 5, what="the first step")
        world.kill(world.variant_tree(candidate))
        run = begun.result()
    assert run.state == "failed"
    assert run.state_of("canary") == "failed"
    assert versions.live == stable
    assert load.counts.failed == 0
    (told,) = [body for _, _, body in webhook.seen]
    assert told["rollout"]["outcome"] == "RolledBack"
    assert told["text"].startswith(f"{HANDLE} version {candidate}: RolledBack: ")
    assert told["task"]["link"].startswith(world.addresses.url("airflow"))
    webhook.seen.clear()


def test_blue_green_dag_switches_at_once_and_undo_dag_loads_nothing(
    world: World, versions: Versions, team: Team
) -> None:
    before, candidate, began_at_s = versions.live, versions.others[0], time.time()
    with rolling_out(world, team, "blue_green", version=candidate) as (begun, load):
        check_success(begun.result())
        assert versions.live == candidate
        processes = world.pids(before, candidate)
        undone = team.run("undo")
    check_success(undone)
    assert undone.result("undo")["version"] == versions.live == before
    assert shares(world, candidate, began_at_s) == [100]
    assert world.pids(before, candidate) == processes
    assert load.counts.failed == 0


def test_undo_dag_goes_to_what_was_live_at_a_time(world: World, versions: Versions, team: Team) -> None:
    then, at = versions.live, datetime.now(UTC).isoformat()
    first, second = versions.others
    with world.traffic(rate_rps=RATE_RPS):
        for number in (first, second):
            world.deploy(number)
            shift(HANDLE, number, world.settings, strategy=QUICK, rollout_id=f"quick-{time.time_ns()}")
        assert versions.live == second
        run = team.run("undo", to=at)
    check_success(run)
    assert run.result("undo")["version"] == versions.live == then


def test_approval_dag_goes_on_when_a_person_says_so(
    world: World, versions: Versions, team: Team, people: People
) -> None:
    candidate = versions.others[0]
    with rolling_out(world, team, "approval", version=candidate) as (begun, _):
        begun.wait_for(lambda: bool(people.questions("taxiway_approval")), what="the question")
        (question,) = people.questions("taxiway_approval")
        assert running(world)["weight_pct"] == 25
        assert str(candidate) in question["subject"]
        people.answer(question, "promote")
        run = begun.result()
    check_success(run)
    assert versions.live == run.result("carry_out")["version"] == candidate
    verb = [entry for entry in world.controller.ledger(HANDLE, limit=10_000) if entry["kind"] == "verb"][-1]
    person, _, task = verb["actor"].partition(" through airflow ")
    assert person not in {"", "nobody"}
    assert task.startswith("taxiway_approval.carry_out")


def test_rollback_outranks_the_approval(world: World, versions: Versions, team: Team, people: People) -> None:
    """A version that dies at the gate goes back without an answer, and an answer does not bring it forward."""
    stable, candidate = versions.live, versions.others[0]
    with rolling_out(world, team, "approval", version=candidate) as (begun, load):
        begun.wait_for(lambda: bool(people.questions("taxiway_approval")), what="the question")
        (question,) = people.questions("taxiway_approval")
        world.kill(world.variant_tree(candidate))
        wait_until(lambda: running(world)["weight_pct"] == 0, within_s=240, what="the rollback")
        people.answer(question, "promote")
        run = begun.result()
    assert run.state == "failed"
    assert run.state_of("promoted") == "failed"
    assert run.result("carry_out")["outcome"] == "RolledBack"
    assert versions.live == stable
    assert load.counts.failed == 0


def test_bandit_dag_promotes_the_version_that_earns_most(
    world: World, versions: Versions, team: Team
) -> None:
    stable, (first, second) = versions.live, versions.others
    quick = {"window_s": 3, "update_s": 2, "min_s": 5}
    begun = begin(world, team, "bandit", versions=[first, second], options=quick)
    with rewarded(world, {stable: 0.3, first: 0.3, second: 0.9}):
        run = begun.result()
    check_success(run)
    assert [run.result(f"deploy[{index}]")["version"] for index in (0, 1)] == [first, second]
    bandit = run.result("bandit")
    assert (bandit["outcome"], bandit["version"]) == ("Promoted", second)
    assert versions.live == second
    arms = bandit["report"]["arms"]
    assert max(arms, key=lambda version: arms[version]["mean"]) == str(second)


def test_ab_dag_reports_and_promotes_nothing(world: World, versions: Versions, team: Team) -> None:
    stable, candidate = versions.live, versions.others[0]
    begun = begin(world, team, "ab", version=candidate, units=400, window_s=3)
    with rewarded(world, {stable: 0.2, candidate: 0.8}):
        run = begun.result()
    check_success(run)
    compared = run.result("compare")
    assert (compared["outcome"], compared["version"]) == ("Completed", stable)
    assert compared["report"]["winner"] == candidate
    assert versions.live == stable
    assert running(world)["weight_pct"] == 0


def test_shadow_dag_compares_answers_that_no_user_sees(world: World, versions: Versions, team: Team) -> None:
    stable, candidate = versions.live, versions.others[0]
    mirrored = {"sample_pct": 50, "samples": 60, "most_different_pct": 60}
    with rolling_out(world, team, "shadow", version=candidate, **mirrored) as (begun, load):
        run = begun.result()
    check_success(run)
    shadow = run.result("shadow")
    assert (shadow["outcome"], shadow["version"]) == ("Completed", stable)
    assert shadow["report"]["comparison"][str(candidate)]["samples"] >= 60
    assert set(load.counts.versions) == {stable}
    assert load.counts.failed == 0


def test_superseded_canary_is_a_skipped_task(world: World, versions: Versions, team: Team) -> None:
    first, second = versions.others
    world.deploy(second)
    newer = {**QUICK, "on_running": "supersede"}
    with rolling_out(world, team, "canary", version=first) as (begun, load):
        begun.wait_for(lambda: running(world)["weight_pct"] >= 5, what="the first step")
        shift(HANDLE, second, world.settings, strategy=newer, rollout_id="newer")
        run = begun.result()
    assert (run.state, run.state_of("canary")) == ("success", "skipped")
    assert "superseded by newer" in run.log
    assert versions.live == second
    assert load.counts.failed == 0


def test_killed_traffic_task_is_followed_again_by_its_retry(world: World, versions: Versions) -> None:
    candidate, name = versions.others[0], f"killed-{time.time_ns()}"
    world.deploy(candidate)
    with world.traffic(rate_rps=RATE_RPS):
        task = world.start(SHIFT.format(handle=HANDLE, version=candidate, strategy=QUICK, name=name))
        wait_until(lambda: running(world)["id"] == name, within_s=240, what="the rollout")
        task.send_signal(signal.SIGKILL)
        task.communicate(timeout=120)
        result = shift(HANDLE, candidate, world.settings, strategy=QUICK, rollout_id=name)
    assert (result.rollout_id, result.outcome) == (name, "Promoted")
    begun = [entry for entry in world.controller.ledger(HANDLE, limit=10_000) if entry["kind"] == "rollout"]
    assert [entry["rollout"] for entry in begun].count(name) == 1


def test_strategy_that_the_project_forbids_moves_no_traffic(world: World, versions: Versions) -> None:
    policy = '\n[tool.taxiway.traffic]\nforbid = ["blue_green"]\nreason = "clinics see it"\n'
    world.change_project("pyproject.toml", lambda text: text + policy)
    project = str(world.layout.bundle / "examples" / "visual_recognition")
    try:
        register(package(project, world.settings, kinds=["inference"]), world.settings)
        made = train(HANDLE, get(HANDLE, "latest", world.settings), world.settings, params=PARAMS[0])
    finally:
        world.change_project("pyproject.toml", lambda text: text.replace(policy, ""))
        register(package(project, world.settings, kinds=["inference"]), world.settings)
    before = len(world.controller.ledger(HANDLE, limit=10_000))
    with pytest.raises(ForbiddenStrategyError, match="blue_green: clinics see it; no traffic moved"):
        shift(HANDLE, made.version, world.settings, strategy={"kind": "blue_green"}, rollout_id="forbidden")
    assert len(world.controller.ledger(HANDLE, limit=10_000)) == before
