"""What `explain` of one model version costs among 10,000, each evaluated once: `python -m benchmarks.lineage`.

A real MLflow server on SQLite; its rows are copies of one version and one evaluation that came in by REST, since 10,000
calls would take minutes, and so are the tags of their stages in the data repository. The index is made by its own
rebuild over REST, and every `explain` looks for news first, as it always does: at MLflow, at a controller that serves
the newest version, and in the data repository; with an origin of that, on the same disk, it is measured once more.
"""

import json
import os
import random
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx

from benchmarks.report import Figure, report, told
from taxiway import lineage
from taxiway.datasets import DatasetVersion, snapshot
from taxiway.lineage.index import path_of
from taxiway.registry import tracking
from taxiway.settings import Settings
from taxiway.trace import Trace

HANDLE, VERSIONS, CODES, SEED = "visual_recognition", 10_000, 200, 7
ROUNDS, BAR_MS = 60, 150.0
START_S = 120.0


def main() -> int:
    """Measure, and return 1 where the median is over the bar."""
    with tempfile.TemporaryDirectory() as folder, _mlflow(Path(folder)) as uri, _controller() as controller:
        home = Path(folder) / "home"
        home.mkdir()
        settings = Settings(
            home=home,
            tracking_uri=uri,
            data_repository=home / "datasets",
            data_remote=None,
            controller_url=controller,
        )
        _fill(Path(folder), settings)
        return report("lineage", list(told(_figures(settings))))


def _figures(settings: Settings) -> Iterator[Figure]:
    began = time.perf_counter()
    nodes, edges = lineage.rebuild(settings)
    yield Figure(name="rebuild of the index over REST, s", value=time.perf_counter() - began)
    yield Figure(name="nodes in it", value=nodes)
    yield Figure(name="edges in it", value=edges)
    yield Figure(name="its size, MB", value=path_of(settings).stat().st_size / 1e6)
    picks = random.Random(SEED).sample(range(1, VERSIONS + 1), ROUNDS)  # noqa: S311 - a choice of versions
    versions = [_ms(partial(lineage.explain, f"{HANDLE}/{pick}", settings)) for pick in picks]
    yield Figure(name="explain of one version, median ms", value=statistics.median(versions), bar=BAR_MS)
    yield Figure(name="explain of one version, slowest ms", value=max(versions))
    data = [_ms(lambda: lineage.explain("numbers@v1", settings)) for _ in range(ROUNDS // 6)]
    yield Figure(name="explain of the data of all, median ms", value=statistics.median(data))
    _give_origin(settings.data_repository)
    asked = [_ms(partial(lineage.explain, f"{HANDLE}/{pick}", settings)) for pick in picks[: ROUNDS // 6]]
    yield Figure(name="of one version, data with an origin, median ms", value=statistics.median(asked))


def _ms(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def _fill(folder: Path, settings: Settings) -> None:
    """Put one version in as a training does, and its copies as MLflow's store has them."""
    (folder / "numbers").mkdir()
    (folder / "numbers" / "numbers.txt").write_text("1 2 3", encoding="utf-8")
    dataset = snapshot(folder / "numbers", "numbers", settings, log=lambda _line: None)
    experiment = tracking.ensure_experiment(HANDLE, settings)
    run = tracking.create_run(experiment, "train", {}, settings)
    tracking.ensure_registered_model(HANDLE, {"taxiway.kind": "model"}, settings)
    tracking.create_version(HANDLE, run.run_id, "model", _tags(1, dataset), "", settings)
    judged = tracking.create_run(experiment, "evaluate", _judged(1, dataset), settings)
    tracking.finish(judged.run_id, "FINISHED", settings)
    with closing(sqlite3.connect(folder / "mlflow.db", timeout=60)) as store, store:
        _copy(store, dataset)
        _copy_evaluations(store, judged.run_id, dataset)
    _tag(settings.data_repository, dataset)


def _tag(root: Path, dataset: DatasetVersion) -> None:
    """Tag a stage for each version, as a training leaves one in the data repository."""
    tags = (
        f"create refs/tags/models/{HANDLE}@v{number} {dataset.commit}\n" for number in range(1, VERSIONS + 1)
    )
    subprocess.run(["git", "update-ref", "--stdin"], cwd=root, input="".join(tags), text=True, check=True)


def _give_origin(root: Path) -> None:
    origin = root.with_name("origin.git")
    subprocess.run(["git", "clone", "--quiet", "--bare", root, origin], check=True)
    subprocess.run(["git", "remote", "add", "origin", origin], cwd=root, check=True)


def _copy(store: sqlite3.Connection, dataset: DatasetVersion) -> None:
    store.row_factory = sqlite3.Row
    row = dict(store.execute("SELECT * FROM model_versions").fetchone())
    tag = dict(store.execute("SELECT * FROM model_version_tags").fetchone())
    numbers = range(2, VERSIONS + 1)
    _insert(store, "model_versions", (_version_row(row, number) for number in numbers))
    _insert(
        store,
        "model_version_tags",
        (
            {**tag, "version": number, "key": key, "value": value}
            for number in numbers
            for key, value in _tags(number, dataset).items()
        ),
    )


def _copy_evaluations(store: sqlite3.Connection, run_id: str, dataset: DatasetVersion) -> None:
    row = dict(store.execute("SELECT * FROM runs WHERE run_uuid = ?", (run_id,)).fetchone())
    numbers = {f"e{number:031x}": number for number in range(2, VERSIONS + 1)}
    _insert(store, "runs", (_run_row(row, name, number) for name, number in numbers.items()))
    tags = (
        {"key": key, "value": value, "run_uuid": name}
        for name, number in numbers.items()
        for key, value in _judged(number, dataset).items()
    )
    _insert(store, "tags", tags)


def _run_row(row: dict[str, Any], name: str, number: int) -> dict[str, Any]:
    made_ms = row["end_time"] + (number - VERSIONS) * 60_000
    return {**row, "run_uuid": name, "start_time": made_ms, "end_time": made_ms}


def _judged(number: int, dataset: DatasetVersion) -> dict[str, str]:
    return {
        "taxiway.kind": "evaluation",
        "taxiway.handle": HANDLE,
        "taxiway.model_version": str(number),
        "taxiway.dataset": dataset.tag,
        "taxiway.evaluation.digest": f"{number % CODES:064x}",
        "taxiway.gate": "passed",
    }


def _version_row(row: dict[str, Any], number: int) -> dict[str, Any]:
    # One a minute, up to now: an index that looks for news must not find all of them new.
    made_ms = row["creation_time"] + (number - VERSIONS) * 60_000
    run_id = f"{number:032x}"
    own = {"version": number, "run_id": run_id, "creation_time": made_ms, "last_updated_time": made_ms}
    return {**row, **own, "source": f"runs:/{run_id}/model"}


def _insert(store: sqlite3.Connection, table: str, rows: Iterator[dict[str, Any]]) -> None:
    first = next(rows)
    columns, marks = ", ".join(first), ", ".join(f":{name}" for name in first)
    query = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - names are those of the table itself
    store.execute(query, first)
    store.executemany(query, rows)


def _tags(number: int, dataset: DatasetVersion) -> dict[str, str]:
    code = f"{number % CODES:064x}"
    told_of = {
        "key": f"{number:064x}",
        "training_digest": code,
        "inference_digest": code,
        "dataset": dataset.to_json(),
        "params": {"learning_rate": number / VERSIONS, "epochs": 3, "layers": [64, 32]},
        "metrics": {"accuracy": 0.9, "loss": 0.1},
        "model_hash": f"{number:064x}",
        "source_models": {HANDLE: number - 1} if number % 10 == 0 else {},
        "untraceable": [],
    }
    trace = Trace(source_hash=code, method="audit hook", read={"dataset": 1, "source": 2})
    return {
        "taxiway.lineage": json.dumps(told_of),
        "taxiway.trace": json.dumps(trace.to_json()),
        "taxiway.handle": HANDLE,
        "taxiway.key": f"{number:064x}",
        "taxiway.training.digest": code,
        "taxiway.training.lock": code,
        "taxiway.inference.digest": code,
        "taxiway.inference.lock": code,
        "taxiway.dataset": dataset.tag,
        "taxiway.dataset.hash": dataset.hash,
        "taxiway.dataset.commit": dataset.commit,
        "taxiway.seed": "0",
        "taxiway.airflow.dag_id": "visual_recognition",
        "taxiway.airflow.task_id": "train",
    }


class _Endpoints(BaseHTTPRequestHandler):
    """Answers as a controller does that serves the newest version."""

    def do_GET(self) -> None:
        """Answer what endpoints there are, whatever is asked."""
        newest = str(VERSIONS)
        endpoint = {"handle": HANDLE, "url": "", "stable": VERSIONS, "previous": None, "phase": "ready"}
        endpoint |= {"split": {"observed": {newest: 100.0}, "desired": {newest: 100.0}}}
        endpoint |= {"variants": {newest: {"wish": "live", "phase": "ready"}}}
        body = json.dumps({"endpoints": [endpoint]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _controller() -> Iterator[str]:
    """Run what answers in a controller's place, in a process of its own as that is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endpoints) as server:
        process = get_context("fork").Process(target=server.serve_forever, daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            process.terminate()
            process.join()


@contextmanager
def _mlflow(folder: Path) -> Iterator[str]:
    """Run MLflow's server on a SQLite file in a folder."""
    mlflow, store = str(Path(sys.executable).parent / "mlflow"), f"sqlite:///{folder}/mlflow.db"
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {**os.environ, **quiet}
    subprocess.run([mlflow, "db", "upgrade", store], check=True, capture_output=True, env=environment)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [mlflow, "server", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _wait(url: str) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.HTTPError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
