"""Controllers and Envoys that are killed in turn, under load, in the middle of a canary: nobody notices but the log.

And whose request is under way in an Envoy that is killed: it is asked again, of the other one, as a load balancer does.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.replaying import differences
from taxiway_serving.ledger.chain import broken_at
from taxiway_serving.ledger.sql import SqlStore
from tests.postgres import Postgres
from tests.serving.conftest import Toy, contract_of, wait_until
from tests.serving.failing_over import HANDLE, START_S, Site, Users, Watch, reached

WEIGHTS = [10.0, 25.0, 40.0, 60.0, 80.0, 100.0]
WAITS: dict[str, object] = {"pause": {}}
STEPS = [step for weight in WEIGHTS[:-1] for step in ({"setWeight": weight}, WAITS)] + [{"setWeight": 100}]


@pytest.fixture(params=[("files", 1), ("ads", 2)], ids=["one-envoy-by-files", "two-envoys-by-ads"])
def site(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Iterator[Site]:
    router, envoys = request.param
    with closing(Site(tmp_path / "home", postgres.database(), router=router, envoys=envoys)) as made:
        yield made


def go_live(site: Site, toys: list[Toy]) -> None:
    """Deploy all, each with its contract in a folder that both hosts see, and let the first take all traffic."""
    for toy in toys:
        contract = site.homes[0] / f"contract-{toy.version}.json"
        contract.write_text(contract_of(toy.version))
        spec = {
            "model": f"{HANDLE}/{toy.version}",
            "url": f"http://127.0.0.1:{toy.port}",
            "contract": str(contract),
        }
        site.controller.deploy(HANDLE, toy.version, spec)
        site.controller.wait_ready(HANDLE, toy.version, deadline_s=START_S)
    site.controller.start_rollout(HANDLE, {"id": "to-1", "version": 1})
    reached(site, 0.0)
    wait_until(lambda: site.rollout("to-1")["status"] == "ended", deadline_s=START_S)
    for number in range(len(site.envoys)):
        site.wait_answered(number)


def go_on(site: Site, weight_pct: float) -> None:
    """Promote the step that waits, and wait until every Envoy has the next weight."""
    try:
        wait_until(lambda: site.rollout("to-2")["status"] == "paused", deadline_s=START_S)
    except AssertionError as late:
        raise AssertionError(site.told("to-2")) from late
    site.controller.act(HANDLE, "to-2", "promote", step=site.rollout("to-2")["step"])
    reached(site, weight_pct)


def led_by(site: Site, number: int) -> None:
    wait_until(lambda: site.leader() == number, deadline_s=START_S)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_controllers_and_envoys_killed_in_turn_fail_no_request_and_move_no_weight(
    site: Site, toy: Callable[..., Toy]
) -> None:
    site.open()
    one, two = site.controllers
    led_by(site, 0)
    go_live(site, [toy(1), toy(2)])
    with Users(site.gateways).sending() as users, Watch(site).looking() as watch:
        strategy = {"kind": "canary", "steps": STEPS}
        site.controller.start_rollout(HANDLE, {"id": "to-2", "version": 2, "strategy": strategy})
        reached(site, 10)

        one.end(signal.SIGKILL)
        led_by(site, 1)
        go_on(site, 25)

        one.start()
        one.wait_ready()
        two.end(signal.SIGTERM)
        assert "leads no more: this controller stops" in two.log()
        led_by(site, 0)
        go_on(site, 40)

        for number in range(len(site.envoys)) if len(site.envoys) > 1 else ():
            site.replace_envoy(number)
            reached(site, 40)

        two.start()
        two.wait_ready()
        one.send(signal.SIGSTOP)
        led_by(site, 1)
        go_on(site, 60)
        one.send(signal.SIGCONT)
        wait_until(lambda: "leads no more: " in one.log(), deadline_s=START_S)
        go_on(site, 80)
        go_on(site, 100)
        wait_until(lambda: site.rollout("to-2")["status"] == "ended", deadline_s=START_S)
    assert users.failed == []
    assert [retry for retry in users.retried if not site.was_away(retry)] == []
    assert set(users.versions) == {"1", "2"}
    check(site, watch)


def check(site: Site, watch: Watch) -> None:
    """Nothing was seen on any Envoy but the plan's weights in their order, and the ledger says the same again."""
    for seen in watch.seen:
        assert set(seen) <= {0.0, *WEIGHTS}
        assert all(before < after for before, after in pairwise(seen)), seen
        assert seen[-1] == 100
    assert site.rollout("to-2")["outcome"] == "Promoted"
    assert [*differences(site.database_url)] == []
    with closing(SqlStore(site.database_url)) as store:
        assert broken_at(store.entries(None, after=0, limit=10_000)) is None
