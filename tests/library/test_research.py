"""The notebook's front, with a real MLflow: the operators' functions on a folder as it lies there."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway import research as tw
from taxiway.datasets import DatasetVersion
from taxiway.datasets.profile import profile_of, schema_of
from taxiway.errors import ArtifactChangedError, GateFailedError, InvalidSpecError
from taxiway.packaging import libraries as wheels
from taxiway.registry import libraries, models, packages, tracking
from taxiway.settings import Settings
from taxiway.training import train

pytestmark = pytest.mark.slow

Commit = Callable[..., str]


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_three_runs_make_one_table_ordered_by_the_metric(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    """R11, R12."""
    made = [tw.train(handled, dataset, params={"c": c}, settings=live) for c in (0.5, 0.3, 0.9)]
    table = tw.compare(handle, "score", settings=live)
    assert [row["params"] for row in table] == [{"c": "0.3"}, {"c": "0.5"}, {"c": "0.9"}]
    assert [row["version"] for row in table] == ["2", "1", "3"]
    assert {row["data"] for row in table} == {dataset.tag}
    assert {row["code"] for row in table} == {made[0].training_digest[:12]}
    worst_first = tw.compare(handle, "score", best="lowest", settings=live)
    assert [row["version"] for row in worst_first] == ["3", "1", "2"]
    assert made[0].url in [each.url for each in made]

    tw.evaluate(made[1], settings=live, log=print)
    by_class = tw.compare(handle, "per_class.a", settings=live)
    assert [row["version"] for row in by_class] == ["2"]
    with pytest.raises(InvalidSpecError, match=r"measured are per_class\.a, score"):
        tw.compare(handle, "f1", settings=live)
    with pytest.raises(GateFailedError):
        tw.evaluate(made[2], settings=live)


def test_what_a_run_logged_beside_its_results_is_not_compared(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    made = tw.train(handled, dataset, params={"c": 0.3}, settings=live)
    tw.evaluate(made, settings=live)
    experiment = tracking.ensure_experiment(handle, live)
    for kind in ("training", "evaluation"):
        (run,) = tracking.find_runs(experiment, {"taxiway.kind": kind}, live)
        tracking.log(run.run_id, live, metrics={"loss": 0.1})
    assert [row["version"] for row in tw.compare(handle, "per_class.a", settings=live)] == ["1"]
    with pytest.raises(InvalidSpecError, match=r"measured are per_class\.a, score$"):
        tw.compare(handle, "loss", settings=live)


def test_cell_and_operator_find_each_others_work_done(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    """R2, R3: a cell is no second path."""
    once = tw.train(handled, dataset, settings=live)
    assert train(handle, dataset, live) == once
    assert tw.train(handle, dataset.tag.replace("@", "@"), settings=live) == once
    found = tw.tune(handle, dataset, trials=2, settings=live)
    assert found.trials == 2
    assert len(tw.compare(handle, "score", kinds=["training", "trial"], settings=live)) >= 2


def test_code_that_nobody_committed_trains_and_is_marked(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    committed = tw.train(handled, dataset, settings=live)
    edit(handled, "train.py", "training with", "trying with")
    changed = tw.train(handled, dataset, settings=live)
    assert changed.version > committed.version
    assert packages.lookup(handle, "training", live).is_dirty
    with pytest.raises(InvalidSpecError, match=r"no pyproject.toml in"):
        tw.train(handled / "nowhere", dataset, settings=live)


def test_library_is_published_found_by_task_and_named_by_who_uses_it(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    """R14, R20: an improvement under a name and a version, with an edge to the models that were made with it."""
    source = tmp_path / "alice"
    (source / "alice_sharpen").mkdir(parents=True)
    (source / "alice_sharpen" / "__init__.py").write_text("def sharpen(c):\n    return 0.3\n")
    (source / "pyproject.toml").write_text('[project]\nname = "alice-sharpen"\nversion = "1.0"\n')
    told: dict[str, Any] = {
        "task": "visual recognition",
        "summary": "Sharper moving images",
        "settings": live,
    }
    library = tw.publish(source, **told)
    assert tw.publish(source, **told) == library
    (source / "alice_sharpen" / "__init__.py").write_text("def sharpen(c):\n    return 0.9\n")
    with pytest.raises(ArtifactChangedError, match="publish it under a new version"):
        tw.publish(source, **told)
    newer = tw.publish(source, version="1.1", **told)
    assert tw.find_libraries(task="Visual Recognition", settings=live) == (newer, library)
    assert tw.find_libraries("sharper moving", settings=live) == (newer, library)
    assert tw.find_libraries("tabular", settings=live) == ()

    edit(handled, "pyproject.toml", "training = []", f'training = ["{library.requirement}"]')
    edit(
        handled, "train.py", 'c = params["c"]', 'import alice_sharpen\nc = alice_sharpen.sharpen(params["c"])'
    )
    made = tw.train(handled, dataset, settings=live)
    assert made.metrics["score"] == 1.0
    package = packages.lookup(handle, "training", live, made.training_digest)
    assert package.manifest["libraries"] == {"alice-sharpen": {"version": "1.0", "hash": library.hash}}
    users = libraries.users_of("alice-sharpen", "1.0", live)
    assert f"{handle}.training version {package.version}" in users
    assert libraries.users_of("alice-sharpen", "1.1", live) == ()


def test_library_reaches_another_host_by_its_hash(live: Settings, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "shared_loss.py").write_text("LOSS = 1\n")
    tw.publish(tmp_path / "own", "shared-loss", "0.1", settings=live)
    other = replace(live, home=tmp_path / "other")
    brought = libraries.bring(other)
    mine = wheels.folder(live) / "shared_loss-0.1-py3-none-any.whl"
    assert mine.read_bytes() == (wheels.folder(other) / mine.name).read_bytes()
    assert wheels.folder(other) / mine.name in brought


def test_folder_that_is_a_package_is_published_under_its_own_name(live: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "bob_blur"
    folder.mkdir()
    (folder / "__init__.py").write_text("from bob_blur.kernel import SIZE\n")
    (folder / "kernel.py").write_text("SIZE = 3\n")
    library = tw.publish(folder, "bob-blur", "1.0", settings=live)
    libraries.bring(live)
    with zipfile.ZipFile(wheels.folder(live) / "bob_blur-1.0-py3-none-any.whl") as wheel:
        assert {"bob_blur/__init__.py", "bob_blur/kernel.py"} <= set(wheel.namelist())
    assert library.requirement == "bob-blur==1.0"
    unnamed = folder.rename(tmp_path / "bob-blur")
    with pytest.raises(InvalidSpecError, match="bob-blur is no name to import it by"):
        tw.publish(unnamed, "bob-blur", "1.1", settings=live)


def test_datasets_are_searched_with_a_text_alone(dataset: DatasetVersion, live: Settings) -> None:
    assert [found.version for found in tw.search(dataset.name, settings=live)] == [dataset]
    assert dataset in [found.version for found in tw.search(settings=live)]
    assert tw.search(dataset.name, licence="mit", settings=live) == ()


def test_library_without_name_version_or_files_is_refused_with_every_fault(
    live: Settings, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        tw.publish(tmp_path, "a b", settings=live)
    assert len(caught.value.faults) == 3


def test_schema_is_another_when_a_column_has_another_type(live: Settings, tmp_path: Path) -> None:
    def schema(text: str) -> dict[str, list[str]]:
        (tmp_path / "t.csv").write_text(text)
        return schema_of(profile_of({"t.csv": tmp_path / "t.csv"}))

    assert schema("age\n1\n2\n") == schema("age\n7\n9\n") != schema("age\nold\nyoung\n")


def test_models_that_one_search_left_are_one_training(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    first = tracking.get_run(tw.train(handled, dataset, settings=live).run_id, live)
    names = ("taxiway.kind", "taxiway.dataset", "taxiway.training.digest")
    for number in range(3):
        tags = {name: first.tags[name] for name in names} | {
            "taxiway.study": "s",
            "taxiway.trial": str(number),
        }
        run = tracking.create_run(first.experiment_id, f"trial {number}", tags, live)
        tracking.finish(run.run_id, "FINISHED", live)
    assert tw.readiness(handled, settings=live).stable_runs == 2


def test_readiness_names_all_that_blocks_packaging(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings, commit: Commit
) -> None:
    """R24, R25."""
    before = tw.readiness(handled, settings=live)
    assert before.blockers == ("nothing was trained on a dataset version; put the data, and train on it",)
    assert tracking.find_experiment(handle, live) is None
    tw.train(handled, dataset, settings=live)
    (young,) = tw.readiness(handled, runs=2, settings=live).blockers
    assert "changed within the last 2 trainings, the newest 1 agree" in young
    tw.train(handled, dataset, params={"c": 0.4}, settings=live)
    ready = tw.readiness(handled, runs=2, settings=live)
    assert (ready.is_ready, ready.stable_runs) == (True, 2)

    edit(handled, "train.py", "training with", "trying with")
    edit(handled, "pyproject.toml", "training = []", 'training = ["no-such-thing-anywhere==1.0"]')
    edit(handled, "service.py", "", "# another comment\n")
    (unsolved, uncommitted) = tw.readiness(handled, runs=2, settings=live).blockers
    assert "cannot be packaged: " in unsolved
    assert "training" in unsolved.partition(" cannot")[0]
    assert "no-such-thing-anywhere" in unsolved
    assert "differs from its commit" in uncommitted
    edit(handled, "pyproject.toml", 'training = ["no-such-thing-anywhere==1.0"]', "training = []")
    (_, untrained) = tw.readiness(handled, runs=2, settings=live).blockers
    assert untrained == "the newest training ran other code than lies here; train this"

    edit(handled, "pyproject.toml", 'minimum = { score = 0.9 }\ncompare = "score"', "")
    edit(handled, "pyproject.toml", "p99_ms = 250", "p99_ms = -1")
    blocked = tw.readiness(handled, runs=2, settings=live)
    assert len(blocked.blockers) == 3
    for part in ("p99_ms must be", "differs from its commit", "no bars"):
        assert part in str(blocked)
        assert part in blocked._repr_html_()
    edit(handled, "pyproject.toml", "p99_ms = -1", "p99_ms = 250")
    commit(handled)
    tw.train(handled, dataset, settings=live)
    assert tw.readiness(handled, runs=2, settings=live).stable_runs == 1
    assert models.get(handle, 3, live).untraceable == ()
