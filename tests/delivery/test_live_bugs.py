"""Bugs from the trackers of other delivery tools that only a real gateway could show, under load.

Those that need none are in `tests/serving/test_peers_bugs.py`.
"""

import time
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.load import Load
from benchmarks.plane import HANDLE, Plane, wait_until
from benchmarks.variants import behave
from taxiway_serving.names import HEADER_USER_ID, HEADER_VERSION
from taxiway_serving.split import Split

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HALF = {"kind": "canary", "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]}
RATE_RPS = 200.0


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name}-{time.time_ns()}"


@pytest.fixture
def versions(live: Plane) -> Iterator[tuple[int, int]]:
    """The version that is live, and one that is deployed and flawless; afterwards no rollout is under way."""
    stable = int(live.controller.endpoint(HANDLE)["stable"])
    candidate = 3 - stable
    live.deploy(candidate)
    yield stable, candidate
    behave(live.model(candidate))
    rollout = live.controller.endpoint(HANDLE)["rollout"]
    if rollout["status"] != "ended":
        live.controller.act(HANDLE, rollout["id"], "abort")
        live.wait_ended(rollout["id"], within_s=120)
    wait_until(lambda: len((live.split() or Split.of(1, {2: 50})).parts) == 1, what="one version alone")


def failed(load: Load) -> list[object]:
    return [sent for sent in load.sent() if sent.has_failed]


def test_candidate_gets_no_request_before_it_is_ready(live: Plane, name: str) -> None:
    """kserve#5983: requests met 503 while the canary's pods were starting."""
    with live.load(RATE_RPS) as load:
        cursor, asked_s = live.log_end(), time.time()
        behave(live.model(5), starts_after_s=3)
        live.controller.deploy(HANDLE, 5, live.spec(5))
        live.roll_out(5, name, strategy=HALF)
        live.wait_step(name, 1)
        live.controller.act(HANDLE, name, "abort")
        live.wait_ended(name, within_s=120)
        mine = [each for each in live.attempts(cursor) if each.assigned == 5]
    # It began after it was asked for, so it was not ready before that, however slow this machine is.
    assert [each for each in mine if each.at_s < asked_s + 3] == []
    assert {each.answered for each in mine} == {5}
    assert failed(load) == []


def test_candidate_that_was_just_killed_is_not_judged_by_what_the_gateway_still_believes(
    live: Plane, versions: tuple[int, int], name: str
) -> None:
    """kserve#5983 by another way: ready as a process, but not yet where the gateway's workers look.

    How soon they look again after a kill is chance; so it is done a few times.
    """
    _, candidate = versions
    with live.load(2 * RATE_RPS) as load:
        for number in range(3):
            live.deploy(candidate)
            live.roll_out(candidate, f"{name}-{number}", strategy=HALF, availability=0.9)
            live.wait_step(f"{name}-{number}", 1)
            time.sleep(0.5)
            live.kill_variant(candidate)
            ended = live.wait_ended(f"{name}-{number}", within_s=120)
            assert ended["outcome"] == "RolledBack"
    assert failed(load) == []


def test_canary_rollback_canary_leaks_nothing(live: Plane, versions: tuple[int, int], name: str) -> None:
    """argo-rollouts#2048, #3120: after an aborted canary the next one got stuck, or began where that had stopped."""
    stable, candidate = versions
    steps = [
        {"setWeight": 20},
        {"analysis": {"units": 20}},
        {"setWeight": 100},
        {"bake": {"duration_s": 0.5}},
    ]
    plan = {"kind": "canary", "steps": steps}
    with live.load(RATE_RPS) as load:
        behave(live.model(candidate), error_rate=0.5)
        live.roll_out(candidate, f"{name}-1", strategy=plan, availability=0.9)
        assert live.wait_ended(f"{name}-1", within_s=180)["outcome"] == "RolledBack"
        # What began before that may be written down later, and each of the gateway's workers learns it by itself.
        over_s = time.time() + 0.5
        time.sleep(1.5)
        late = [each for each in live.attempts() if each.at_s > over_s]
        assert candidate not in {each.assigned for each in late}
        assert late
        behave(live.model(candidate))
        live.roll_out(candidate, f"{name}-2", strategy=plan, availability=0.9)
        second = live.wait_ended(f"{name}-2", within_s=180)
    assert (second["outcome"], second["units"]["bad"]) == ("Promoted", 0)
    assert failed(load) == []
    assert live.controller.endpoint(HANDLE)["stable"] != stable


def test_users_stay_where_they_are_over_a_restart_of_gateway_and_controller(
    live: Plane, versions: tuple[int, int], name: str
) -> None:
    """Iter8 hashed users with a seed of its own at each start, so that a restart moved them."""
    _, candidate = versions
    with live.load(RATE_RPS):
        live.roll_out(candidate, name, strategy=HALF)
        live.wait_step(name, 1)
    before = versions_of_users(live)
    live.kill_gateway()
    live.kill_controller()
    live.start_gateway()
    live.start_controller()
    wait_until(lambda: set(versions_of_users(live).values()) == set(before.values()), what="both versions")
    assert versions_of_users(live) == before


def versions_of_users(live: Plane) -> dict[int, str]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        url = f"{live.settings.gateway_url}/{HANDLE}/predict"
        return {
            user: client.post(url, json={"x": 1}, headers={HEADER_USER_ID: f"user-{user}"}).headers.get(
                HEADER_VERSION, "none"
            )
            for user in range(60)
        }


def test_controller_that_lost_its_database_takes_no_traffic_away(live: Plane) -> None:
    """An xDS server that restarts with an empty set deletes every cluster: 503 for everybody."""
    split, database = live.split(), live.settings.home / "controller.db"
    kept = [path for path in live.settings.home.glob("controller.db*") if path.is_file()]
    with live.load(RATE_RPS) as load:
        live.kill_controller()
        for path in kept:
            path.rename(path.with_name(f"kept-{path.name}"))
        live.start_controller()
        time.sleep(2)
        lost = live.split()
        live.kill_controller()
        for path in live.settings.home.glob("controller.db*"):
            path.unlink()
        for path in kept:
            path.with_name(f"kept-{path.name}").rename(path)
        live.start_controller()
    assert database.exists()
    assert (lost, live.split()) == (split, split)
    assert failed(load) == []
