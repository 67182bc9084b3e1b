"""The traffic's digits: from the transform's test split, or the project's own few."""

from pathlib import Path

from taxiway.trial.samples import keep_samples, read_images


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_samples_are_of_the_test_split(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train" / "3" / "00001.png", b"train")
    write(tmp_path / "data" / "test" / "7" / "00002.png", b"test")
    (tmp_path / "samples").mkdir()

    keep_samples(tmp_path / "data", tmp_path / "samples")

    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["7-00002.png"]


def test_images_come_from_the_first_folder_that_has_any(tmp_path: Path) -> None:
    write(tmp_path / "own" / "seven.png", b"seven")
    write(tmp_path / "own" / "contract.json", b"{}")

    assert read_images(tmp_path / "kept", tmp_path / "own") == (b"seven",)
