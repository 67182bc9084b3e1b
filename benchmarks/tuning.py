"""What a search costs over plain Optuna: `python -m benchmarks.tuning` (`--quick`: 10 trials, once).

A training of one second, that logs to MLflow as it goes, is searched for 40 trials in three ways, in turn and twice, by
two workers each and with every run in one MLflow: by Optuna alone in two processes that have the training imported, by
Taxiway, and by Taxiway with a fresh process for each trial (20 of them). What is compared is trials in a minute, from
the first to the last.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import Figure, report
from benchmarks.services import Running, running
from taxiway.datasets import DatasetVersion, snapshot
from taxiway.packaging import package
from taxiway.registry import packages, tracking
from taxiway.runners import Runner, on_this_host
from taxiway.tools import run
from taxiway.tuning import tune

HANDLE = "benchmark"
WORKERS = 2
ROUNDS = 2
OVER_PLAIN_BAR, OVER_FRESH_BAR = 1 / 0.8, 1 / 2.5
SPACE = {"c": {"type": "float", "low": 0.0, "high": 1.0}}

PROJECT = f"""
[project]
name = "{HANDLE}"
requires-python = ">=3.11"
[dependency-groups]
training = ["mlflow-skinny", "numpy", "scikit-learn"]
inference = ["bentoml>=1.4,<1.5"]
[tool.taxiway]
handle = "{HANDLE}"
[tool.taxiway.training]
command = "python train.py"
files = ["train.py"]
params = {{ c = 0.5, way = "" }}
[tool.taxiway.inference]
service = "service:Service"
files = ["service.py"]
[tool.taxiway.sla]
p99_ms = 250
availability = 0.99
rate_rps = 20
[tool.taxiway.tuning]
metric = "score"
direction = "maximize"
pruner = "none"
space = {{ c = {{ type = "float", low = 0.0, high = 1.0 }} }}
"""

TRAIN = """
import json
import os
import time
from pathlib import Path

import mlflow
import numpy as np
from sklearn.neural_network import MLPClassifier

SECONDS, STEPS = 1.0, 4

def fit(c):
    began = time.monotonic()
    random = np.random.RandomState(0)
    x, y = random.rand(500, 20), random.randint(0, 2, 500)
    network = MLPClassifier((16,), learning_rate_init=0.001 + c / 100, random_state=0)
    for step in range(STEPS):
        while time.monotonic() - began < SECONDS * (step + 1) / STEPS:
            network.partial_fit(x, y, classes=[0, 1])
        mlflow.log_metric("loss", float(network.loss_), step=step)
    return {"score": 1 - (c - 0.3) ** 2}

def main():
    output = Path(os.environ["TAXIWAY_OUTPUT_DIR"])
    with mlflow.start_run():
        metrics = fit(json.loads(os.environ["TAXIWAY_PARAMS"])["c"])
    (output / "model").mkdir()
    (output / "model" / "weights.json").write_text(json.dumps(metrics))
    (output / "metrics.json").write_text(json.dumps(metrics))

if __name__ == "__main__":
    main()
"""

SERVICE = """
import bentoml

@bentoml.service(name="benchmark")
class Service:
    @bentoml.api
    def predict(self, x: float) -> float:
        return x
"""

PLAIN = """
import os, pathlib, sys, time
sys.path.insert(0, sys.argv[1])
import mlflow, optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from train import fit
optuna.logging.set_verbosity(optuna.logging.WARNING)
mlflow.set_experiment("plain")

def objective(trial):
    c = trial.suggest_float("c", 0.0, 1.0)
    with mlflow.start_run(run_name=f"trial {trial.number}"):
        mlflow.log_params(trial.params)
        metrics = fit(c)
        mlflow.log_metrics(metrics)
    return metrics["score"]

storage = JournalStorage(JournalFileBackend(sys.argv[2]))
study = optuna.create_study(storage=storage, study_name="plain", direction="maximize", load_if_exists=True)
signal = pathlib.Path(sys.argv[4])
signal.with_name(f"{signal.name}.{os.getpid()}").touch()
while not signal.exists():
    time.sleep(0.01)
began = time.time()
study.optimize(objective, n_trials=int(sys.argv[3]))
print(began, time.time(), flush=True)
"""


@dataclass(slots=True, kw_only=True)
class Way:
    """One way to search, and what it took: seconds and trials of each round."""

    seconds: list[float] = field(default_factory=list)
    trials: int = 0

    def add(self, seconds: float, trials: int) -> None:
        self.seconds.append(seconds)
        self.trials += trials

    @property
    def per_minute(self) -> float:
        return 60 * self.trials / sum(self.seconds)


def plain(world: Running, trials: int) -> float:
    """Return the seconds that Optuna alone takes, in processes with everything imported."""
    journal = world.layout.home / f"plain-{time.monotonic_ns()}.journal"
    source = world.layout.home / "project"
    command = [sys.executable, "-c", PLAIN, str(source), str(journal), str(trials // WORKERS)]
    signal = world.layout.home / f"begin-{time.monotonic_ns()}"
    quiet = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    workers = [
        subprocess.Popen(
            [*command, str(signal)], env={**world.environment, **quiet}, stdout=subprocess.PIPE, text=True
        )
        for _ in range(WORKERS)
    ]
    while sum(path.exists() for path in _ready(signal, workers)) < WORKERS:
        time.sleep(0.1)
    signal.touch()
    times = [[float(word) for word in worker.communicate()[0].split()] for worker in workers]
    return max(end for _, end in times) - min(began for began, _ in times)


def _ready(signal: Path, workers: "Sequence[subprocess.Popen[str]]") -> list[Path]:
    """Return the files that workers make when they have imported everything; both begin at one signal."""
    gone = [worker.pid for worker in workers if worker.poll() is not None]
    if gone:
        raise ChildProcessError(f"plain workers {gone} ended before they began")
    return [signal.with_name(f"{signal.name}.{worker.pid}") for worker in workers]


def ours(
    world: Running, dataset: DatasetVersion, trials: int, way: str, runner: Runner | None = None
) -> tuple[float, float]:
    """Return the seconds from the first trial to the last, and those of the whole call."""
    began = time.monotonic()
    found = tune(
        HANDLE,
        dataset,
        world.settings,
        trials=trials,
        params={"way": way},
        parallel=WORKERS,
        repeats=0,
        runner=runner,
        log=lambda _: None,
    )
    whole_s = time.monotonic() - began
    study = world.settings.home / "studies" / f"{found.study}.journal"
    if found.trials != trials:
        raise RuntimeError(f"{found.trials} of {trials} trials ended well")
    return _span_s(study), whole_s


def _span_s(journal: Path) -> float:
    """Return the seconds between the first moment and the last that a journal has of its trials."""
    from datetime import datetime

    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    moments = [
        line[key] for line in lines for key in ("datetime_start", "datetime_complete") if line.get(key)
    ]
    times = sorted(datetime.fromisoformat(moment) for moment in moments)
    return (times[-1] - times[0]).total_seconds()


def prepare(world: Running) -> DatasetVersion:
    """Register the project, and return data for it."""
    project, data = world.layout.home / "project", world.layout.home / "numbers"
    for folder in (project, data):
        folder.mkdir()
    for name, text in {"pyproject.toml": PROJECT, "train.py": TRAIN, "service.py": SERVICE}.items():
        (project / name).write_text(text)
    (data / "numbers.txt").write_text("1 2 3")
    identity = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "made")):
        run(["git", *identity, *words], cwd=project)
    packages.register(package(str(project), world.settings, kinds=["training"]), world.settings)
    tracking.ensure_experiment("plain", world.settings)
    return snapshot(data, "numbers", world.settings)


def measure(world: Running, trials: int, fresh_trials: int, rounds: int) -> list[Figure]:
    """Search in every way, in turn, and return the figures."""
    dataset = prepare(world)
    # The environment is made, and its modules are compiled, before anything is measured.
    ours(world, dataset, WORKERS, "first", on_this_host(world.settings))
    alone, warm, fresh, whole = Way(), Way(), Way(), Way()
    for at in range(rounds):
        alone.add(plain(world, trials), trials)
        span_s, whole_s = ours(world, dataset, trials, f"warm {at}")
        warm.add(span_s, trials)
        whole.add(whole_s, trials)
        fresh.add(
            ours(world, dataset, fresh_trials, f"fresh {at}", on_this_host(world.settings))[0], fresh_trials
        )
        print(
            f"  round {at + 1}: {alone.per_minute:.1f}, {warm.per_minute:.1f}, {fresh.per_minute:.1f}",
            file=sys.stderr,
        )
    return [
        Figure(name="plain Optuna, trials per minute", value=alone.per_minute),
        Figure(name="Taxiway, trials per minute", value=warm.per_minute),
        Figure(name="Taxiway with its start, trials per minute", value=whole.per_minute),
        Figure(name="a fresh process each, trials per minute", value=fresh.per_minute),
        Figure(name="plain over Taxiway", value=alone.per_minute / warm.per_minute, bar=OVER_PLAIN_BAR),
        Figure(name="fresh over Taxiway", value=fresh.per_minute / warm.per_minute, bar=OVER_FRESH_BAR),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 trials, once")
    is_quick = parser.parse_args(arguments).quick
    trials, fresh_trials, rounds = (10, 6, 1) if is_quick else (40, 20, ROUNDS)
    with running("mlflow") as world:
        return report("tuning", measure(world, trials, fresh_trials, rounds))


if __name__ == "__main__":
    sys.exit(main())
