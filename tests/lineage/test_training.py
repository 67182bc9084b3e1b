"""What a training really did is part of its version: planted faults are named, source models are edges and files."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway import lineage, research
from taxiway.datasets import DatasetVersion
from taxiway.errors import ArtifactChangedError, ModelNotFoundError, UntraceableError
from taxiway.lineage import gathering
from taxiway.packaging import package
from taxiway.provenance import Provenance
from taxiway.registry import models, packages, tracking
from taxiway.settings import Settings
from taxiway.tools import remove
from taxiway.trace import Trace
from taxiway.training import train
from tests.projects import TRAIN, commit_all

pytestmark = pytest.mark.slow
Registers = Callable[..., Path]
TASK = Provenance(dag_id="paths", run_id="manual__1", task_id="train")

READS_SECRETLY = """
import pathlib
pathlib.Path({path!r}).exists() and pathlib.Path({path!r}).read_text()
""" + TRAIN.replace("{", "{{").replace("}", "}}")

READS_DATA = (
    TRAIN
    + """
(pathlib.Path(os.environ["TAXIWAY_DATA_DIR"]) / "numbers.txt").read_text()
"""
)

FINE_TUNES = """
import json, os, pathlib
params = json.loads(os.environ["TAXIWAY_PARAMS"])
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(source,) = pathlib.Path(os.environ["TAXIWAY_SOURCE_MODELS_DIR"]).iterdir()
start = json.loads((source / "weights.json").read_text())
(output / "model").mkdir()
(output / "model" / "step-0.json").write_text(json.dumps(start))
(output / "model" / "weights.json").write_text(json.dumps({"c": start["c"] / 2}))
(output / "metrics.json").write_text(json.dumps({"score": 1.0}))
"""


def trace_of(handle: str, version: int, settings: Settings) -> Trace:
    found = tracking.version(handle, version, settings)
    assert found is not None
    return Trace.from_json(json.loads(found.tags[models.TRACE]))


def test_what_ran_and_what_it_read_is_on_the_run_and_on_the_version(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    register(handle, READS_DATA)
    made = train(handle, dataset, live)
    seen = trace_of(handle, made.version, live)
    assert seen == models.trace_of(tracking.get_run(made.run_id, live))
    assert seen.source_hash == packages.lookup(handle, "training", live).source_hash
    assert (seen.method, seen.read, seen.undeclared_count) == ("audit hook", {"dataset": 1, "source": 1}, 0)
    listed = json.loads(tracking.download(made.run_id, "lineage/files.json", tmp_path, live).read_text())
    assert set(listed["files"].values()) == {"dataset", "source"}


def test_script_that_secretly_reads_a_second_file_is_refused_and_the_file_named(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    secret = tmp_path / "second.csv"
    secret.write_text("1,2\n")
    register(handle, READS_SECRETLY.format(path=str(secret)))
    lines: list[str] = []
    for provenance in (TASK, replace(TASK, try_number=2)):
        with pytest.raises(UntraceableError, match=re.escape(f"{secret} (SHA-256")):
            train(handle, dataset, live, provenance=provenance, log=lines.append)
    assert any(line.startswith(f"{handle}.training: {secret}") for line in lines)

    marked = train(handle, dataset, replace(live, allow_untraceable=True))
    assert str(secret) in marked.untraceable[0]
    with pytest.raises(UntraceableError, match="never promoted"):
        models.refuse_untraceable(marked)
    assert f"UNTRACEABLE: {secret}" in lineage.render(lineage.explain(f"{handle}/{marked.version}", live))

    secret.unlink()
    clean = train(handle, dataset, live)
    assert (clean.untraceable, clean.version) == ((), marked.version + 1)
    assert models.download(marked, live) != models.download(clean, live)


def test_code_that_changes_while_it_runs_is_refused(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    register(handle, TRAIN + "pathlib.Path('train.py').write_text('other')\n")
    with pytest.raises(UntraceableError, match=r"the code changed while it ran: train\.py"):
        train(handle, dataset, live)


def test_version_whose_training_nobody_watched_is_refused(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    register(handle)
    made = train(handle, dataset, live)
    tracking.log(made.run_id, live, tags={models.TRACE: ""})
    again = train(handle, dataset, live)
    assert (again.version, again.run_id == made.run_id) == (made.version, True)
    assert (
        len(tracking.find_runs(tracking.ensure_experiment(handle, live), {"taxiway.kind": "training"}, live))
        == 2
    )


def test_dirty_tree_is_detected_and_its_difference_is_reached_from_the_version(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    folder = register(handle)
    clean = train(handle, dataset, live)
    assert lineage.differences(handle, clean.version, live) == {}
    with (folder / "train.py").open("a") as file:
        file.write("# not committed\n")
    packages.register(package(str(folder), live, kinds=["training"]), live)
    dirty = train(handle, dataset, live)
    assert "+# not committed" in lineage.differences(handle, dirty.version, live)["training"]
    tags = tracking.find_versions(handle, {}, live)[0].tags
    assert tags["mlflow.source.git.dirty"] == "true"
    shown = lineage.render(lineage.explain(f"{handle}/{dirty.version}", live))
    assert "dirty: its difference is kept beside it" in shown


def test_tree_that_is_committed_later_is_of_that_commit(
    register: Registers,
    handle: str,
    dataset: DatasetVersion,
    live: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As a minute later: what was read once is not read again.
    monkeypatch.setattr(gathering, "SLACK_S", -0.001)
    folder = register(handle)
    with (folder / "train.py").open("a") as file:
        file.write("# not committed\n")
    (made,) = package(str(folder), live, kinds=["training"])
    packages.register((made,), live)
    assert train(handle, dataset, live).version == 1
    name, code = f"{handle}/1", f"{handle}.training@{made.digest[:12]}"
    for what in (name, code):
        assert "dirty" in lineage.render(lineage.explain(what, live))
    commit_all(folder)
    packages.register(package(str(folder), live, kinds=["training"]), live)
    for what in (name, code):
        assert "dirty" not in lineage.render(lineage.explain(what, live))
    assert train(handle, dataset, live).version == 1
    found = tracking.version(handle, 1, live)
    assert found is not None
    assert (found.tags["mlflow.source.git.dirty"], found.tags["taxiway.training.diff"]) == ("false", "")
    assert lineage.differences(handle, 1, live) == {}


def test_published_library_is_a_part_of_the_graph(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    (tmp_path / "lib" / "alice_graph").mkdir(parents=True)
    (tmp_path / "lib" / "alice_graph" / "__init__.py").write_text("C = 0.3\n")
    research.publish(tmp_path / "lib", "alice-graph", "1.0", task="numbers", settings=live)
    folder = register(handle, "import alice_graph\n" + TRAIN)
    document = folder / "pyproject.toml"
    document.write_text(document.read_text().replace("training = []", 'training = ["alice-graph==1.0"]'))
    commit_all(folder)
    packages.register(package(str(folder), live, kinds=["training"]), live)
    made = train(handle, dataset, live)
    found = lineage.explain(f"{handle}/{made.version}", live)
    code, library = f"{handle}.training@{made.training_digest}", "library.alice-graph@1.0"
    assert (code, "built_with", library) in {(edge.child, edge.kind, edge.parent) for edge in found.up}
    assert f"built with {library} (for numbers)" in lineage.render(found)
    down = lineage.explain("alice-graph==1.0", live).down
    assert {edge.child for edge in down} == {code, f"{handle}/{made.version}"}


@pytest.mark.parametrize("name", ["source.tar.gz", "lock.txt"])
def test_package_that_was_changed_in_mlflow_is_refused(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings, mlflow_folder: Path, name: str
) -> None:
    register(handle)
    (code,) = tracking.find_versions(f"{handle}.training", {}, live)
    (stored,) = (mlflow_folder / "artifacts").rglob(f"{code.run_id}/**/{name}")
    (other,) = (mlflow_folder / "artifacts").rglob(
        f"{tracking.find_versions(f'{handle}.inference', {}, live)[0].run_id}/**/{name}"
    )
    stored.write_bytes(other.read_bytes())
    remove(live.home / "packages")
    with pytest.raises(ArtifactChangedError, match=rf"{handle}\.training .* its (source|lock) has the hash"):
        train(handle, dataset, live)


class TestSourceModels:
    def test_step_zero_is_the_source_and_the_edge_is_in_the_lineage(
        self, register: Registers, handle: str, dataset: DatasetVersion, live: Settings
    ) -> None:
        register(handle)
        register("tuned_" + handle[:40], FINE_TUNES, table=f'source_models = ["{handle}@1"]')
        source = train(handle, dataset, live, params={"c": 0.25})
        train(handle, dataset, live, params={"c": 0.75})
        made = train("tuned_" + handle[:40], dataset, live)
        assert made.source_models == {handle: 1}
        folder = models.download(made, live)
        step0 = json.loads((folder / "step-0.json").read_text())
        assert (
            step0 == json.loads((models.download(source, live) / "weights.json").read_text()) == {"c": 0.25}
        )
        (delivered,) = (live.home / "source_models").rglob("weights.json")
        assert delivered.stat().st_mode & 0o222 == 0
        assert trace_of(made.handle, made.version, live).read["source models"] == 1
        found = lineage.explain(f"{handle}/1", live)
        assert (f"{made.handle}/1", "uses") in {(edge.child, edge.kind) for edge in found.down}
        upwards = lineage.explain(f"{made.handle}/1", live).up
        assert {edge.parent for edge in upwards if edge.child == f"{handle}/1"} > {dataset.tag}
        # R35: both handles were trained on one and the same dataset version, which names both.
        trained = {
            edge.child for edge in lineage.explain(dataset.tag, live).down if edge.kind == "trained_on"
        }
        assert trained >= {f"{handle}/1", f"{made.handle}/1"}

    def test_argument_wins_over_the_project_and_takes_an_alias(
        self, register: Registers, handle: str, dataset: DatasetVersion, live: Settings
    ) -> None:
        register(handle)
        first, second = (train(handle, dataset, live, params={"c": c}) for c in (0.1, 0.2))
        models.set_alias(handle, "best", second.version, live)
        tuned = "tuned_" + handle[:40]
        register(tuned, FINE_TUNES, table=f'source_models = ["{handle}@{first.version}"]')
        versions = [
            train(tuned, dataset, live, source_models=given)
            for given in (None, {handle: "best"}, {handle: second.version})
        ]
        assert [made.source_models[handle] for made in versions] == [1, 2, 2]
        assert [made.version for made in versions] == [1, 2, 2]

    def test_deleted_or_unknown_source_is_refused(
        self, register: Registers, handle: str, dataset: DatasetVersion, live: Settings
    ) -> None:
        register(handle, FINE_TUNES, table='source_models = ["nobody_knows"]')
        with pytest.raises(ModelNotFoundError, match="nobody_knows/champion"):
            train(handle, dataset, live)
        with pytest.raises(ModelNotFoundError, match="nobody_knows/7"):
            train(handle, dataset, live, source_models={"nobody_knows": 7})

    def test_tampered_source_is_refused(
        self, register: Registers, handle: str, dataset: DatasetVersion, live: Settings, mlflow_folder: Path
    ) -> None:
        register(handle)
        source = train(handle, dataset, live)
        tuned = "tuned_" + handle[:40]
        register(tuned, FINE_TUNES, table=f'source_models = ["{handle}@1"]')
        train(tuned, dataset, live)
        (delivered,) = (live.home / "source_models").rglob("weights.json")
        delivered.chmod(0o644)
        delivered.write_text("tampered")
        assert json.loads((models.download(source, live) / "weights.json").read_text()) == {"c": 0.5}
        train(tuned, dataset, live, seed=1)
        (stored,) = (mlflow_folder / "artifacts").rglob(f"{source.run_id}/**/weights.json")
        stored.write_text("{}")
        remove(live.home / "models")
        remove(live.home / "source_models")
        with pytest.raises(ArtifactChangedError, match=f"{handle}/1: its model has the hash"):
            train(tuned, dataset, live, seed=2)

    def test_version_from_an_untraceable_source_is_untraceable(
        self, register: Registers, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
    ) -> None:
        (tmp_path / "second").write_text("1")
        register(handle, READS_SECRETLY.format(path=str(tmp_path / "second")))
        allowing = replace(live, allow_untraceable=True)
        train(handle, dataset, allowing)
        tuned = "tuned_" + handle[:40]
        register(tuned, FINE_TUNES, table=f'source_models = ["{handle}@1"]')
        with pytest.raises(UntraceableError, match=f"its source model {handle}/1 is untraceable"):
            train(tuned, dataset, live)
        assert train(tuned, dataset, allowing).untraceable == (f"its source model {handle}/1 is untraceable",)
