"""The whole path, real in every part: what a DAG run leaves, and that doing it again does nothing twice."""

import hashlib
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxiway.registry import models, packages, tracking
from taxiway.settings import Settings
from taxiway.trial.samples import read_images
from taxiway.trial.services import HANDLE
from tests.path.world import DagRun, World

pytestmark = pytest.mark.slow

KINDS = ("transform", "training", "evaluation", "inference")
PROJECT = Path(__file__).parents[2] / "examples" / "visual_recognition"


def _versions(settings: Settings) -> list[models.ModelVersion]:
    found = tracking.find_versions(HANDLE, {}, settings)
    return sorted(
        (models.get(HANDLE, each.number, settings) for each in found), key=lambda each: each.version
    )


def test_first_run_ends_well_in_every_task(first_run: DagRun) -> None:
    """R30, R47, R61: no research before it, no older version beside it."""
    assert {name: task["state"] for name, task in first_run.tasks.items()} == dict.fromkeys(
        first_run.tasks, "success"
    )
    assert first_run.result("traffic")["outcome"] == "Promoted"


def test_endpoint_names_the_digit_and_who_answered(world: World, first_run: DagRun) -> None:
    """R5, R30, R53."""
    version = str(world.controller.endpoint(HANDLE)["stable"])
    answer = world.post((PROJECT / "samples" / "seven.png").read_bytes())
    assert answer.json()["label"] == 7
    assert sum(answer.json()["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert answer.headers["x-taxiway-handle"] == HANDLE
    assert answer.headers["x-taxiway-version"] == version
    assert answer.headers["x-taxiway-model"] == f"{HANDLE}/{version}"
    assert len(answer.headers["x-request-id"]) == 36


def test_curl_with_a_png_answers_its_label(world: World, first_run: DagRun) -> None:
    image = PROJECT / "samples" / "three.png"
    url = f"{world.addresses.endpoint}/predict"
    command = ["curl", "--silent", "--noproxy", "*", "--form", f"image=@{image}", url]
    assert (
        '"label":3' in subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    )


@pytest.mark.parametrize("body", [b"", b"seven", b'{"pixels": [[NaN]]}', b"\x89PNG\r\n\x1a\n"], ids=repr)
def test_endpoint_refuses_what_is_no_digit_with_a_reason(
    world: World, first_run: DagRun, body: bytes
) -> None:
    answer = world.post(body, kind="application/json" if body.startswith(b"{") else "image/png")
    assert 400 <= answer.status_code < 500
    assert answer.json()


def test_handle_finds_all_that_belongs_to_it(world: World, first_run: DagRun) -> None:
    """R4, R45, R46: nothing but the handle is given."""
    for kind in KINDS:
        assert packages.lookup(HANDLE, kind, world.settings).kind == kind
    assert models.get(HANDLE, models.CHAMPION, world.settings).handle == HANDLE


def test_model_version_names_every_edge_of_its_lineage(world: World, first_run: DagRun) -> None:
    """R16, R28, R29, R50, R75."""
    version = models.get(HANDLE, first_run.result("train")["version"], world.settings)
    tags = tracking.version(HANDLE, version.version, world.settings).tags  # type: ignore[union-attr]
    assert version.training_digest == packages.lookup(HANDLE, "training", world.settings).digest
    assert version.inference_digest == packages.lookup(HANDLE, "inference", world.settings).digest
    assert version.dataset.hash == first_run.result("snapshot")["hash"]
    assert tags["taxiway.airflow.dag_id"] == "taxiway_visual_recognition"
    assert tags["taxiway.airflow.task_id"] == "train"


def test_second_run_makes_nothing_twice(world: World, first_run: DagRun, second_run: DagRun) -> None:
    """R10, R15: each operator twice. Same code, data and parameters: the same packages, dataset and model version."""
    assert second_run.state == "success"
    for task in ("package_code", "register_code", "package_inference", "register_inference", "snapshot"):
        assert second_run.result(task) == first_run.result(task), task
    for task in ("train", "deploy"):
        assert second_run.result(task)["version"] == first_run.result(task)["version"], task
    assert "already" in second_run.result("traffic")["reason"]
    key = models.get(HANDLE, first_run.result("train")["version"], world.settings).key
    assert [version.key for version in _versions(world.settings)].count(key) == 1


def test_tuned_version_is_better_and_promoted_by_canary(
    world: World, first_run: DagRun, tuned_run: DagRun
) -> None:
    """R13, R49, R51, R62, R64: one setting tunes instead of training; traffic moves with no failed request."""
    assert tuned_run.state == "success", tuned_run.log[-6000:]
    before, after = (run.result("evaluate")["metrics"]["accuracy"] for run in (first_run, tuned_run))
    assert after > before
    version = tuned_run.result("train")["version"]
    assert tuned_run.result("traffic")["previous"] == first_run.result("train")["version"]
    assert models.get(HANDLE, models.CHAMPION, world.settings).version == version
    weights = [
        entry["observed"]["parts"].get(str(version), 0) // 100
        for entry in world.controller.ledger(HANDLE)
        if entry["kind"] == "split" and entry["observed"]
    ]
    assert [weight for weight in weights if weight][:3] == [5, 25, 100]


def test_pinned_request_reaches_the_version_it_names(
    world: World, first_run: DagRun, tuned_run: DagRun
) -> None:
    """R68: the version before stays online and answers direct probes."""
    image = (PROJECT / "samples" / "seven.png").read_bytes()
    before = str(first_run.result("train")["version"])
    assert world.post(image, x_taxiway_version=before).headers["x-taxiway-version"] == before
    unknown = world.post(image, x_taxiway_version="99")
    assert unknown.status_code == 404
    assert unknown.json()


def test_every_registered_version_finds_its_data_in_a_fresh_clone(
    world: World, tuned_run: DagRun, tmp_path: Path
) -> None:
    """R15: `dvc pull` brings the data of any registered model version, byte for byte."""
    for version in {each.dataset.commit: each for each in _versions(world.settings)}.values():
        clone = tmp_path / f"clone-{version.version}"
        _run("git", "clone", "--quiet", str(world.settings.data_repository), str(clone))
        _run("git", "checkout", "--quiet", version.dataset.commit, cwd=clone)
        _run("dvc", "pull", "--quiet", cwd=clone, env=dict(world.environment))
        trained_on = Path(tuned_run.result("transform")["path"])
        assert _content(clone / version.dataset.name) == _content(trained_on)


def test_undo_goes_back_and_loads_nothing(world: World, tuned_run: DagRun) -> None:
    """R66, R69."""
    endpoint = world.controller.endpoint(HANDLE)
    before = {version: each["pid"] for version, each in endpoint["variants"].items()}
    image = read_images(world.layout.samples)[0]
    for expected in (endpoint["previous"], endpoint["stable"]):
        undone = world.controller.undo(HANDLE, f"undo-{time.time_ns()}")
        world.wait_for_rollout(undone["id"], within_s=20)
        assert world.post(image).headers["x-taxiway-version"] == str(expected)
    after = {version: each["pid"] for version, each in world.controller.endpoint(HANDLE)["variants"].items()}
    assert after == before


def test_controller_shows_nothing_without_its_token(world: World, first_run: DagRun) -> None:
    url = world.addresses.url("controller")
    for path in ("/v1/endpoints", f"/v1/endpoints/{HANDLE}", f"/v1/endpoints/{HANDLE}/ledger"):
        assert httpx.get(url + path, trust_env=False).status_code == 401


def test_token_reaches_no_log_and_no_lineage(world: World, tuned_run: DagRun) -> None:
    token = world.layout.token_file.read_text()
    texts = [path.read_text(errors="replace") for path in world.layout.logs.iterdir()]
    texts += [tuned_run.log, str(world.controller.ledger(HANDLE)), str(_versions(world.settings))]
    assert not any(token in text for text in texts)


def _run(*command: str, **options: Any) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120, **options)


def _content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".gitignore")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
