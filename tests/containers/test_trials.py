"""Trials in containers: one that does badly is ended early, and a lost worker leaves none of its own behind."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.engine import Engine
from taxiway.runners import DockerRunner
from taxiway.runners import containers as runner_of
from taxiway.settings import Settings
from taxiway.tuning import open_study, pruning, study, tune
from tests.containers.conftest import BASE_IMAGE, URL, containers_of, registered, silent
from tests.library.scripted import Script, serving

pytestmark = [pytest.mark.docker, pytest.mark.slow]
Until = Callable[..., None]
STEPS = 3

# No file of this host is there: what a trial shall do it asks for. It logs as any program could.
TRAIN = """
import json, os, pathlib, time, urllib.request
params, output = json.loads(os.environ["TAXIWAY_PARAMS"]), pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])

def mood():
    return urllib.request.urlopen(params["ask"] + "/" + os.environ["MLFLOW_RUN_ID"]).read().decode()

def log(value, step):
    body = {"run_id": os.environ["MLFLOW_RUN_ID"], "key": "score", "value": value, "step": step,
            "timestamp": int(time.time() * 1000)}
    url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/log-metric"
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}))

for step in range(3):
    log(0.01 if mood() == "cursed" else 0.5, step)
while mood() != "well":
    time.sleep(0.2)
(output / "model").mkdir()
(output / "model" / "weights.json").write_text(json.dumps({"c": params["c"]}))
(output / "metrics.json").write_text(json.dumps({"score": 1 - (params["c"] - 0.3) ** 2}))
"""
WORKER = """
import json, sys
from taxiway.datasets.versions import DatasetVersion
from taxiway.settings import Settings
from taxiway.tuning import tune
asked = json.loads(sys.argv[1])
dataset = DatasetVersion.from_json(asked.pop("dataset"))
tune(asked.pop("handle"), dataset, Settings.from_environment(), repeats=0, **asked)
"""


@pytest.fixture
def mood() -> Iterator[Script]:
    """Return what every trial that asks is told."""
    with serving() as made:
        made.answers = [(200, "well")]
        yield made


def waiting(mood: Script) -> int:
    """Return how many trials wait to be well: they ask once a step, and then again and again."""
    return sum(times > STEPS for times in Counter(path for _, path, _ in mood.seen).values())


def test_bad_trial_is_ended_early_and_a_lost_worker_leaves_no_container(
    boxed: Settings,
    handled: Path,
    handle: str,
    dataset: DatasetVersion,
    client: Any,
    engine: Engine,
    mood: Script,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (handled / "train.py").write_text(TRAIN)
    registered(handled, boxed, ("training",))
    monkeypatch.setattr(pruning, "LOOK_S", 0.2)
    settings = replace(boxed, containers=replace(boxed.containers, network="host"))
    runner: DockerRunner = runner_of(settings, client)
    asked: dict[str, Any] = {"params": {"ask": mood.url}, "parallel": 2}
    lines: list[str] = []
    tune(handle, dataset, settings, trials=5, repeats=0, runner=runner, log=lines.append, **asked)

    # The worker is lost while two trials run: their containers go on.
    mood.answers = [(200, "waiting")]
    mood.seen.clear()
    worker = lost_worker(handle, dataset, settings, asked)
    until(lambda: waiting(mood) == 2, 120)
    worker.send_signal(signal.SIGKILL)
    worker.wait(60)
    left = containers_of(engine, runner)
    assert len(left) == 2
    mood.answers = [(200, "well")]
    tune(handle, dataset, settings, trials=7, repeats=0, runner=runner, log=lines.append, **asked)
    assert containers_of(engine, runner) == []
    assert sum("left open by a worker that is gone" in line for line in lines) == 2

    mood.answers = [(200, "cursed")]
    found = tune(
        handle, dataset, settings, trials=8, repeats=0, runner=runner, log=silent, **asked | {"parallel": 1}
    )
    assert (found.trials, found.pruned, found.failed) == (8, 1, 2)
    plan = open_study(handle, dataset, settings, trials=8, params=asked["params"], log=silent)
    with study.opened(plan, settings) as kept:
        states = [each.state.name for each in kept.get_trials()]
    assert (states.count("COMPLETE"), states.count("PRUNED"), states.count("FAIL")) == (7, 1, 2)
    assert containers_of(engine, runner) == []


def lost_worker(
    handle: str, dataset: DatasetVersion, settings: Settings, asked: dict[str, Any]
) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "TAXIWAY_HOME": str(settings.home),
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "TAXIWAY_DATA_REPOSITORY": str(settings.data_repository),
        "TAXIWAY_DATA_REMOTE": str(settings.data_remote),
        "TAXIWAY_RUNNER": "docker",
        "TAXIWAY_BASE_IMAGE": BASE_IMAGE,
        "TAXIWAY_CONTAINER_NETWORK": "host",
        "DOCKER_HOST": URL,
    }
    text = json.dumps(asked | {"handle": handle, "dataset": dataset.to_json(), "trials": 7})
    return subprocess.Popen([sys.executable, "-c", WORKER, text], env=environment, stdout=subprocess.DEVNULL)


def test_pruning_without_a_network_is_announced(
    boxed: Settings, handled: Path, handle: str, dataset: DatasetVersion
) -> None:
    registered(handled, boxed, ("training",))
    lines: list[str] = []
    tune(handle, dataset, boxed, trials=1, repeats=0, log=lines.append)
    assert any("no trial is ended early" in line and "TAXIWAY_CONTAINER_NETWORK" in line for line in lines)
    assert any("trial 0 | training with" in line for line in lines)
