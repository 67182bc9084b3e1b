"""Files of a model are read when somebody may have written to them since they were hashed, and not each time."""

import dataclasses
import os
from pathlib import Path

import pytest

from taxiway import stamps
from taxiway.datasets import DatasetVersion
from taxiway.errors import ArtifactChangedError
from taxiway.lineage import sources
from taxiway.packaging import source
from taxiway.registry import mlmodel, models
from taxiway.registry.models import ModelVersion
from taxiway.settings import Settings

OLD_NS, NEVER_NS = -(10**12), 10**18
"""Ticks of the file system's clock at which every file counts as settled, and none."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the folders whose files were read and hashed, one entry each time."""
    found: list[Path] = []
    hashing = source.content_hash

    def noted(root: Path, files: list[str]) -> str:
        found.append(root)
        return hashing(root, files)

    monkeypatch.setattr(source, "content_hash", noted)
    return found


@pytest.fixture
def model(tmp_path: Path) -> tuple[ModelVersion, Settings]:
    """Return a version whose files are on this host."""
    settings = Settings(home=tmp_path, data_repository=tmp_path / "datasets")
    folder = tmp_path / "models" / "digits" / "1"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_text("one")
    values = {
        "name": "d",
        "version": 1,
        "tag": "d@v1",
        "commit": "c",
        "hash": "h",
        "size_bytes": 1,
        "files": 1,
    }
    dataset = DatasetVersion.from_json(values | {"repository": ""})
    made = ModelVersion(
        handle="digits",
        version=1,
        run_id="r",
        key="k",
        training_digest="t",
        inference_digest="i",
        dataset=dataset,
        params={},
        metrics={},
        model_hash=models.hash_of(folder),
    )
    return made, settings


def wait_for_a_tick(after_ns: int, probe: Path) -> None:
    """Return when the file system's clock has gone on: what is written from now on has another stamp."""
    while True:
        probe.write_text("")
        if probe.stat().st_ctime_ns > after_ns:
            return


def test_model_that_nobody_wrote_to_is_read_once(
    model: tuple[ModelVersion, Settings], reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "TICK_NS", OLD_NS)
    folder = models.download(*model)
    for _ in range(2):
        assert models.download(*model) == folder
    assert reads == [folder]
    (folder.parent / "1.checked.json").write_text('{"hash": ')
    models.download(*model)
    assert reads == [folder, folder]


def test_young_files_are_never_believed(
    model: tuple[ModelVersion, Settings], reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "TICK_NS", NEVER_NS)
    for _ in range(3):
        models.download(*model)
    assert len(reads) == 3


@pytest.mark.parametrize("change", ["rewritten", "replaced", "gone"])
def test_size_and_time_of_a_file_do_not_hide_a_change(
    model: tuple[ModelVersion, Settings], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(stamps, "TICK_NS", OLD_NS)
    path = models.download(*model) / "weights.bin"
    seen = path.stat()
    wait_for_a_tick(seen.st_ctime_ns, model[1].home / "probe")
    if change == "rewritten":
        path.write_text("two")
    else:
        path.unlink()
    if change == "replaced":
        path.write_text("two")
    if change != "gone":
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(ArtifactChangedError, match="digits/1"):
        models.download(*model)


def test_description_by_which_a_model_is_loaded_is_checked_too(model: tuple[ModelVersion, Settings]) -> None:
    """A version that is older than its hash keeps the rule of its time."""
    old, settings = model
    folder = models.download(old, settings)
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: good}}\nrun_id: r1\n")
    made = dataclasses.replace(old, mlmodel=mlmodel.hash_of(folder))
    assert made.content != old.content
    assert models.download(made, settings) == folder
    assert sources.is_intact(folder, made)
    for text in ("flavors: {python_function: {loader_module: evil}}\nrun_id: r1\n", None):
        (folder / "MLmodel").unlink()
        if text:
            (folder / "MLmodel").write_text(text)
        with pytest.raises(ArtifactChangedError, match="digits/1: its MLmodel"):
            models.download(made, settings)
        assert not sources.is_intact(folder, made)
        assert models.download(old, settings) == folder


def test_copy_of_a_source_model_is_read_once_and_again_when_a_file_comes(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "TICK_NS", OLD_NS)
    copy = tmp_path / "recipe" / "digits"
    copy.mkdir(parents=True)
    (copy / "weights.bin").write_text("one")
    first = sources.hash_of(copy)
    assert (sources.hash_of(copy), len(reads)) == (first, 1)
    assert first == models.hash_of(copy)
    (copy / "more.bin").write_text("two")
    assert sources.hash_of(copy) != first
