"""Each component that reads what nobody declared, or what nobody could see, is named, whatever came of it is marked."""

import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway import research, traffic
from taxiway.datasets import DatasetVersion, repository, snapshot
from taxiway.errors import ArtifactChangedError, GateFailedError, UntraceableError
from taxiway.evaluation import evaluate
from taxiway.lineage import sources
from taxiway.packaging import libraries as wheels
from taxiway.packaging import package
from taxiway.registry import libraries, models, packages
from taxiway.reproduction import stages
from taxiway.settings import Settings
from taxiway.trace import BLIND
from taxiway.training import recipe_of, train
from taxiway.transform import transform
from tests.projects import EVALUATE, TRAIN, TRANSFORM, commit_all, write_project

pytestmark = pytest.mark.slow
Registers = Callable[..., Path]
SECOND = "open({path!r}).read()\n"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """Return a file that is no component's input."""
    path = tmp_path / "second.csv"
    path.write_text("1,2\n")
    return path


def register_all(folder: Path, settings: Settings, *kinds: str) -> None:
    packages.register(package(str(folder), settings, kinds=kinds), settings)


@pytest.mark.parametrize("command", ["python -I train.py", "env PYTHONPATH=. python train.py"])
def test_training_whose_reads_nobody_saw_is_refused_or_marked(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings, second: Path, command: str
) -> None:
    folder = register(handle, SECOND.format(path=str(second)) + TRAIN)
    document = folder / "pyproject.toml"
    document.write_text(document.read_text().replace("python train.py", command))
    commit_all(folder)
    register_all(folder, live, "training")
    with pytest.raises(UntraceableError, match=re.escape(BLIND)):
        train(handle, dataset, live)
    marked = train(handle, dataset, replace(live, allow_untraceable=True))
    assert marked.untraceable == (BLIND,)
    with pytest.raises(UntraceableError, match="never promoted"):
        models.refuse_untraceable(marked)


def test_data_and_source_models_that_change_while_training_runs_are_named(
    register: Registers, handle: str, live: Settings, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.txt").write_text(handle)
    dataset = snapshot(tmp_path / "data", "overwritten", live)
    register(handle)
    train(handle, dataset, live)
    tuned = "tuned_" + handle[:40]
    script = """
def overwrite(path):
    path.chmod(0o644)
    path.write_text('{"other": 1}')
    assert path.read_text()
data = pathlib.Path(os.environ["TAXIWAY_DATA_DIR"])
overwrite(data / "numbers.txt")
overwrite(next(pathlib.Path(os.environ["TAXIWAY_SOURCE_MODELS_DIR"]).rglob("weights.json")))
"""
    register(tuned, TRAIN + script, table=f'source_models = ["{handle}@1"]')
    marked = train(tuned, dataset, replace(live, allow_untraceable=True))
    data, source = marked.untraceable
    assert data.startswith(f"the data {dataset.tag} changed while it ran: ")
    assert source == f"the source model {handle}/1 changed while it ran"


def test_environment_that_a_training_changes_is_named_and_the_next_one_has_its_own_again(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    script = """
import six
if params["c"] == 0.1:
    os.unlink(six.__file__)
    pathlib.Path(six.__file__).write_text("changed = True")
assert not hasattr(six, "changed")
"""
    folder = register(handle, TRAIN + script)
    document = folder / "pyproject.toml"
    document.write_text(document.read_text().replace("training = []", 'training = ["six==1.17.0"]'))
    commit_all(folder)
    register_all(folder, live, "training")
    with pytest.raises(UntraceableError, match=r"its environment is not what was installed: six\.py"):
        train(handle, dataset, live, params={"c": 0.1})
    assert train(handle, dataset, live).untraceable == ()


def test_transform_that_reads_a_second_file_is_refused_and_its_mark_goes_to_the_model(
    register: Registers, handle: str, live: Settings, second: Path, tmp_path: Path
) -> None:
    folder = register(handle)
    (folder / "transform.py").write_text(SECOND.format(path=str(second)) + TRANSFORM)
    commit_all(folder)
    register_all(folder, live, "transform")
    allowing = replace(live, allow_untraceable=True)
    for _ in range(2):
        with pytest.raises(UntraceableError, match=re.escape(f"{second} (SHA-256")):
            transform(handle, live)
    made = transform(handle, allowing)
    with pytest.raises(UntraceableError):
        transform(handle, live)
    prepared = snapshot(made.path, "prepared_secretly", live, origin=made.origin)
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "numbers.txt").write_text("3 2 1")
    again = replace(made.origin, parents={prepared.tag: prepared.hash}, details={}, output="")
    onwards = snapshot(tmp_path / "sorted", "prepared_again", live, origin=again)
    for data in (prepared, onwards):
        with pytest.raises(UntraceableError, match=re.escape(f"its data {prepared.tag}: {second}")):
            train(handle, data, live)
    second.unlink()
    (folder / "transform.py").write_text(TRANSFORM)
    commit_all(folder)
    register_all(folder, live, "transform")
    clean = transform(handle, live)
    assert "untraceable" not in clean.origin.details
    assert snapshot(clean.path, "prepared_secretly", live, origin=clean.origin) == prepared
    assert train(handle, prepared, live).untraceable == ()


def test_transform_of_code_in_no_commit_is_refused_or_marked(
    handle: str, live: Settings, tmp_path: Path
) -> None:
    register_all(write_project(tmp_path / "loose", handle), live, "transform")
    with pytest.raises(UntraceableError, match="transform code has no Git commit"):
        transform(handle, live)
    (mark,) = transform(handle, replace(live, allow_untraceable=True)).origin.details["untraceable"]
    assert mark.startswith("transform code has no Git commit")


def test_evaluation_that_reads_a_second_file_opens_no_gate(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings, second: Path
) -> None:
    folder = register(handle)
    made = train(handle, dataset, live, params={"c": 0.3})
    reads = f"if pathlib.Path({str(second)!r}).exists(): {SECOND.format(path=str(second))}"
    (folder / "evaluate.py").write_text(EVALUATE + reads)
    commit_all(folder)
    register_all(folder, live, "evaluation")
    with pytest.raises(GateFailedError, match=f"cannot be relied on: {second}"):
        evaluate(handle, made.version, dataset, live)
    found = evaluate(handle, made.version, dataset, replace(live, allow_untraceable=True))
    assert found.passed
    assert str(second) in found.notes[-1]
    second.unlink()
    clean = evaluate(handle, made.version, dataset, live)
    assert not [note for note in clean.notes if "cannot be relied on" in note]


def test_wheel_of_a_library_that_was_tampered_with_is_refused_and_brought_again(
    register: Registers, handle: str, live: Settings, tmp_path: Path
) -> None:
    (tmp_path / "lib" / "bob_tamper").mkdir(parents=True)
    (tmp_path / "lib" / "bob_tamper" / "__init__.py").write_text("C = 0.3\n")
    library = research.publish(tmp_path / "lib", "bob-tamper", "1.0", settings=live)
    folder = register(handle)
    document = folder / "pyproject.toml"
    document.write_text(document.read_text().replace("training = []", 'training = ["bob-tamper==1.0"]'))
    commit_all(folder)
    (wheel,) = wheels.folder(live).glob("bob_tamper-*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("bob_tamper/more.py", "C = 0.4")
    with pytest.raises(ArtifactChangedError, match=f"{wheel.name}: its wheel has the hash"):
        package(str(folder), live, kinds=["training"])
    libraries.bring(live)
    (made,) = package(str(folder), live, kinds=["training"])
    assert made.manifest["libraries"]["bob-tamper"]["hash"] == library.hash


def test_version_whose_training_was_killed_before_its_stage_has_one_before_it_is_promoted(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    register(handle)
    with monkeypatch.context() as patched:
        patched.setattr(stages, "leave", die)
        with pytest.raises(KeyboardInterrupt):
            train(handle, dataset, live)
    assert repository.tagged(live.data_repository, f"models/{handle}") == {}
    traffic._candidate(handle, 1, live)
    assert set(repository.tagged(live.data_repository, f"models/{handle}")) == {1}


def test_folder_of_source_models_is_not_taken_away_from_who_uses_it(
    register: Registers, handle: str, dataset: DatasetVersion, live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(handle)
    train(handle, dataset, live)
    recipe = recipe_of(handle, dataset, live, params={}, seed=0, source_models={handle: 1})
    used: list[int] = []

    def use() -> None:
        folder = sources.deliver(recipe, live)
        assert folder is not None
        used.append(os.open(folder / handle, os.O_RDONLY))

    other, looking = threading.Thread(target=use), models.hash_of

    def look(folder: Path, *names: Iterable[str] | None, **memory: Any) -> str:
        seen = looking(folder, *names, **memory)
        if threading.current_thread() is threading.main_thread() and not other.ident:
            # What was seen is old by the time it is acted upon, unless the other one has to wait.
            other.start()
            other.join(1.0)
        return seen

    monkeypatch.setattr(models, "hash_of", look)
    sources.deliver(recipe, live)
    other.join()
    assert "weights.json" in os.listdir(used[0])
    os.close(used[0])
