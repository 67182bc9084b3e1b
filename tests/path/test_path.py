"""The whole path, real in every part: what a DAG run leaves, and that doing it again does nothing twice."""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from taxiway.datasets import DatasetVersion
from taxiway.evaluation import evaluate
from taxiway.registry import models, packages, tracking
from taxiway.runners import on_this_host
from taxiway.settings import Settings
from taxiway.training import execute, prepare, recipe_of
from taxiway.trial.samples import read_images
from taxiway.trial.services import HANDLE
from tests.path.world import DagRun, World, command_line

# The first test pays for the world and for every DAG run before it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

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
    """R5, R30."""
    version = str(world.controller.endpoint(HANDLE)["stable"])
    answer = world.post((PROJECT / "samples" / "seven.png").read_bytes())
    assert answer.json()["label"] == 7
    assert sum(answer.json()["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert answer.headers["x-taxiway-handle"] == HANDLE
    assert answer.headers["x-taxiway-version"] == version
    assert answer.headers["x-taxiway-model"] == f"{HANDLE}/{version}"
    assert len(answer.headers["x-request-id"]) == 36


def test_upload_of_a_png_answers_its_label(world: World, first_run: DagRun) -> None:
    url = f"{world.addresses.endpoint}/predict"
    with (PROJECT / "samples" / "three.png").open("rb") as image:
        answer = httpx.post(url, files={"image": image}, timeout=60, trust_env=False)
    assert answer.json()["label"] == 3


@pytest.mark.skipif(not shutil.which("curl"), reason="this machine has no curl")
def test_curl_with_a_png_answers_its_label(world: World, first_run: DagRun) -> None:
    image = PROJECT / "samples" / "three.png"
    url = f"{world.addresses.endpoint}/predict"
    command = ["curl", "--silent", "--noproxy", "*", "--form", f"image=@{image}", url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert '"label":3' in answer


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
    """R28, R29, R50."""
    version = models.get(HANDLE, first_run.result("train")["version"], world.settings)
    tags = tracking.version(HANDLE, version.version, world.settings).tags  # type: ignore[union-attr]
    made = [*first_run.result("package_code")["packages"], *first_run.result("package_inference")["packages"]]
    digests = {package["kind"]: package["digest"] for package in made}
    assert version.training_digest == digests["training"]
    assert version.inference_digest == digests["inference"]
    assert version.dataset.hash == first_run.result("snapshot")["hash"]
    assert tags["taxiway.airflow.dag_id"] == "taxiway_visual_recognition"
    assert tags["taxiway.airflow.task_id"] == "train"
    went_live = next(entry for entry in world.controller.ledger(HANDLE) if entry["kind"] == "live")
    made_of = went_live["lineage"][str(version.version)]
    assert (made_of["dataset_hash"], made_of["model_hash"]) == (version.dataset.hash, version.model_hash)


def test_second_run_makes_nothing_twice(world: World, first_run: DagRun, second_run: DagRun) -> None:
    """R10, R15: each operator twice. Same code, data and parameters: the same packages, dataset and model version."""
    assert second_run.state == "success"
    _check_same_results(first_run, second_run)


def test_tuned_run_again_makes_nothing_twice(world: World, tuned_run: DagRun, tuned_again: DagRun) -> None:
    """The study has its trials, and no run of training, trial or evaluation is made again."""
    assert tuned_again.state == "success"
    _check_same_results(tuned_run, tuned_again)
    assert tuned_again.result("tune")["params"] == tuned_run.result("tune")["params"]
    keys = [version.key for version in _versions(world.settings)]
    assert len(keys) == len(set(keys))
    experiment = tracking.ensure_experiment(HANDLE, world.settings)
    for kind in ("training", "trial", "evaluation"):
        runs = tracking.find_runs(experiment, {"taxiway.kind": kind}, world.settings)
        made = [run.tags.get("taxiway.key", "") + run.tags.get("mlflow.parentRunId", "") for run in runs]
        assert len(made) == len(set(made)), kind


def _check_same_results(once: DagRun, again: DagRun) -> None:
    same = (
        "package_code",
        "register_code",
        "package_inference",
        "register_inference",
        "snapshot",
    )
    for task in same:
        assert again.result(task) == once.result(task), task
    # It brings its own data, so it runs for each DAG run; what it leaves is the same, and so is the dataset version.
    assert again.result("transform")["origin"] == once.result("transform")["origin"]
    for task in ("train", "deploy"):
        assert again.result(task)["version"] == once.result(task)["version"], task
    assert again.result("evaluate")["metrics"] == once.result("evaluate")["metrics"]
    assert [check["answer"] for check in again.result("verify")["checks"]] == ["yes"] * 4
    assert "already" in again.result("traffic")["reason"]


def test_training_repeated_gives_the_same_model(world: World, first_run: DagRun) -> None:
    """R2, R8: the functions of the DAG, called as a notebook does, make the same bytes of the same recipe."""
    version = models.get(HANDLE, first_run.result("train")["version"], world.settings)
    recipe = recipe_of(HANDLE, version.dataset, world.settings, params=version.params, seed=0)
    runner = on_this_host(world.settings)
    bench = prepare(recipe, world.settings, runner)
    run = tracking.create_run(bench.experiment_id, "again", {"taxiway.kind": "rehearsal"}, world.settings)
    result, metrics = execute(recipe, bench, run, world.settings, runner, print)
    tracking.finish(run.run_id, "FINISHED", world.settings)
    assert models.hash_of(result.output_dir / "model") == version.model_hash
    assert metrics == version.metrics


def test_tuned_version_is_better_and_promoted_by_canary(
    world: World, first_run: DagRun, tuned_run: DagRun
) -> None:
    """R13, R49, R51, R62, R64: one setting tunes instead of training; traffic moves with no failed request."""
    assert tuned_run.state == "success", tuned_run.log[-6000:]
    before, after = (run.result("evaluate")["metrics"]["accuracy"] for run in (first_run, tuned_run))
    assert after > before
    version = tuned_run.result("train")["version"]
    assert tuned_run.result("traffic")["previous"] == first_run.result("train")["version"]
    weights = [
        entry["observed"]["parts"].get(str(version), 0) // 100
        for entry in world.controller.ledger(HANDLE)
        if entry["kind"] == "split" and entry["observed"]
    ]
    assert [weight for weight in weights if weight][:3] == [5, 25, 100]


def test_gate_holds_a_version_against_what_the_controller_serves_whatever_the_alias_says(
    world: World, first_run: DagRun, tuned_run: DagRun
) -> None:
    numbers = [run.result("train")["version"] for run in (first_run, tuned_run)]
    assert tuned_run.result("evaluate")["champion"] == numbers[0]
    live = world.controller.endpoint(HANDLE)["stable"]
    other = next(number for number in numbers if number != live)
    models.set_alias(HANDLE, models.CHAMPION, other, world.settings)
    dataset = DatasetVersion.from_json(tuned_run.result("snapshot"))
    found = evaluate(HANDLE, other, dataset, world.settings, minimum={}, tolerance=1.0)
    assert (found.version, found.champion) == (other, live)
    assert models.get(HANDLE, models.CHAMPION, world.settings).version == live


def test_new_inference_code_is_a_new_version_of_the_same_training(
    world: World, tuned_run: DagRun, recoded_run: DagRun
) -> None:
    """R68: and blue-green switches all of the traffic to it at once."""
    assert recoded_run.state == "success", recoded_run.log[-6000:]
    before, after = (
        models.get(HANDLE, run.result("train")["version"], world.settings) for run in (tuned_run, recoded_run)
    )
    assert after.version > before.version
    assert (after.run_id, after.model_hash) == (before.run_id, before.model_hash)
    assert after.inference_digest != before.inference_digest
    assert recoded_run.result("traffic")["outcome"] == "Promoted"
    rollout = world.controller.rollout(HANDLE, recoded_run.result("traffic")["rollout_id"])
    assert [step for step in rollout["steps"] if "setWeight" in step] == [{"setWeight": 100}]


def test_closed_gate_stops_deployment_and_traffic(
    world: World, recoded_run: DagRun, refused_run: DagRun
) -> None:
    """R76: what follows a gate does not run."""
    assert refused_run.state == "failed"
    assert refused_run.state_of("evaluate") == "failed"
    assert {refused_run.state_of(task) for task in ("deploy", "verify", "traffic")} == {"upstream_failed"}
    assert "0.999" in refused_run.log


def test_variant_runs_the_packages_that_are_registered(world: World, recoded_run: DagRun) -> None:
    """R75: one digest in the registry, in the lineage and in the process that answers."""
    number = recoded_run.result("train")["version"]
    version = models.get(HANDLE, number, world.settings)
    root, *_ = world.variant_tree(number)
    assert version.inference_digest in " ".join(root.cmdline())
    served = Path(root.environ()["TAXIWAY_MODEL_DIR"])
    assert models.hash_of(served) == version.model_hash


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
        world.wait_for_rollout(undone["id"], within_s=180)
        assert world.post(image).headers["x-taxiway-version"] == str(expected)
    after = {version: each["pid"] for version, each in world.controller.endpoint(HANDLE)["variants"].items()}
    assert after == before


def test_controller_shows_nothing_without_its_token(world: World, first_run: DagRun) -> None:
    url = world.addresses.url("controller")
    for path in ("/v1/endpoints", f"/v1/endpoints/{HANDLE}", f"/v1/endpoints/{HANDLE}/ledger"):
        assert httpx.get(url + path, trust_env=False, timeout=60).status_code == 401


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file; folders that a live service removes meanwhile have none."""
    for place, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(place, name)).is_file() and not path.is_symlink())


def content_of(path: Path) -> bytes:
    """Return what a file holds; one that a live service removed meanwhile holds nothing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_token_reaches_no_file_no_lineage_and_no_command_line(world: World, tuned_run: DagRun) -> None:
    token = world.layout.token_file.read_bytes()
    kept = (world.layout.taxiway / "environments", world.layout.token_file)
    told = [
        path
        for path in files_below(world.layout.home)
        if not path.is_relative_to(kept[0]) and path != kept[1] and token in content_of(path)
    ]
    assert told == []
    assert token.decode() not in tuned_run.log
    assert not [process.pid for process in psutil.process_iter() if token.decode() in command_line(process)]


def _run(*command: str, **options: Any) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=400, **options)


def _content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".gitignore")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
