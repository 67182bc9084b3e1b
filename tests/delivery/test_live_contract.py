"""A candidate whose answers break its contract, over a real gateway: seen in live answers, proven again at 100 %."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plane import HANDLE, Plane, plane
from benchmarks.variants import Files
from taxiway_serving.answers import Answer
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STABLE, TELLING, PROVEN = 1, 2, 3
CONTRACT = {
    "api": "predict",
    "requests": [{"name": "seven", "json": {}, "expect": {"label": "seven"}}],
    "response": {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]},
    "malformed": [{"name": "nothing", "body": ""}],
}


def telling(home: Path) -> Files:
    """Return `telling_upstream.py` as what the runtime's own command starts."""
    package = home / "telling" / "bentoml"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("telling_upstream.py"), package / "__main__.py")
    python = home / "telling" / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.executable).resolve())
    return Files(bento=package, python=python, environment={"PYTHONPATH": str(package.parent)})


def tell(live: Plane, version: int, *, breaks: float = 0.0, tells: bool = True) -> None:
    model = live.model(version)
    model.mkdir(parents=True, exist_ok=True)
    draft = model / ".telling.json"
    draft.write_text(json.dumps({"breaks": breaks, "tells": tells}))
    draft.replace(model / "telling.json")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """Version 1 live, its answers as its contract says."""
    ports = [free_port() for _ in range(3)]
    with plane(telling, home=tmp_path_factory.mktemp("plane"), ports=ports) as made:
        tell(made, STABLE)
        made.go_live(STABLE)
        yield made


def deploy(live: Plane, version: int, **spec: Any) -> None:
    tell(live, version)
    live.controller.deploy(HANDLE, version, {**live.spec(version), **spec})
    live.controller.wait_ready(HANDLE, version, deadline_s=120)


def test_answers_that_say_that_they_break_the_contract_take_the_candidate_back(live: Plane) -> None:
    """Each answer is a 200 and comes fast: only the service that gave it knows."""
    deploy(live, TELLING)
    steps = [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]
    with live.load(60.0):
        live.roll_out(TELLING, "told", strategy={"kind": "canary", "steps": steps}, metrics=["schema"])
        live.wait_step("told", 1)
        cursor = live.log_end()
        time.sleep(2.0)
        assert live.rollout("told")["status"] != "ended"
        tell(live, TELLING, breaks=0.5)
        ended = live.wait_ended("told", within_s=180)
    assert ended["outcome"] == "RolledBack"
    assert "answers that break the contract" in ended["reason"]
    seen = {(each.assigned, each.keeps_contract) for each in live.attempts(cursor)}
    assert seen == {(STABLE, Answer.YES), (TELLING, Answer.YES), (TELLING, Answer.NO)}


def test_contract_that_breaks_at_100_per_cent_takes_the_candidate_back(live: Plane) -> None:
    """It says nothing of its answers: the contract's own requests find it out."""
    contract = live.settings.home / "contract.json"
    contract.write_text(json.dumps(CONTRACT))
    deploy(live, PROVEN, contract=str(contract))
    tell(live, PROVEN, tells=False)
    steps = [{"setWeight": 100}, {"bake": {"duration_s": 600}}]
    with live.load(60.0):
        live.roll_out(PROVEN, "proven", strategy={"kind": "canary", "steps": steps}, metrics=["schema"])
        live.wait_step("proven", 1)
        time.sleep(2.0)
        assert live.rollout("proven")["weights"] == {str(PROVEN): 100}
        tell(live, PROVEN, breaks=1.0, tells=False)
        ended = live.wait_ended("proven", within_s=180)
    assert (ended["outcome"], live.controller.endpoint(HANDLE)["stable"]) == ("RolledBack", STABLE)
    assert "no longer holds its contract" in ended["reason"]
