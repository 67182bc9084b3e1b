"""Equal bytes are one dataset version, and whoever finds a version can pull it.

Each DVC command costs a process start of half a second, so tests that only read share one history.
"""

import shutil
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from taxiway.datasets import DatasetVersion, fetch, get, repository, snapshot
from taxiway.errors import DataChangedError, DatasetNotFoundError, InvalidSpecError, ToolFailedError
from taxiway.settings import Settings
from taxiway.tools import program, remove


def write_data(folder: Path) -> Path:
    (folder / "a b").mkdir(parents=True)
    for name in ("1.txt", "10.txt", "a b/é.txt", "a.txt"):
        (folder / name).write_text(f"content of {name}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A data repository with two versions, and what each holds."""

    settings: Settings
    versions: tuple[DatasetVersion, DatasetVersion]
    contents: tuple[dict[str, bytes], dict[str, bytes]]
    folder: Path


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Return a history that tests read and do not change."""
    base = tmp_path_factory.mktemp("history")
    home = base / "home"
    settings = Settings(home=home, data_repository=home / "datasets", data_remote=str(home / "remote"))
    folder = write_data(base / "data")
    before = contents(folder)
    first = snapshot(folder, "digits", settings, message="the first digits")
    (folder / "a.txt").write_text("content of b.txt")
    second = snapshot(folder, "digits", settings)
    return History(
        settings=settings, versions=(first, second), contents=(before, contents(folder)), folder=folder
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder of files with awkward names."""
    return write_data(tmp_path / "data")


def test_snapshot_of_the_same_bytes_makes_no_new_version(history: History, data: Path) -> None:
    first, second = history.versions
    assert snapshot(history.folder, "digits", history.settings) == second
    # The bytes of an older version are that version, also when a newer one came between.
    assert snapshot(data, "digits", history.settings) == first
    assert repository.git(history.settings.data_repository, "status", "--porcelain") == ""


def test_changed_byte_is_a_new_version_and_the_old_one_stays(history: History) -> None:
    first, second = history.versions
    assert [version.tag for version in history.versions] == ["digits@v1", "digits@v2"]
    assert first.hash != second.hash
    for version, content in zip(history.versions, history.contents, strict=True):
        assert contents(fetch(version, history.settings)) == content


def test_hash_is_short_enough_for_mlflow(history: History) -> None:
    assert len(history.versions[1].hash) == 36


@pytest.mark.slow
def test_version_is_what_dvc_would_have_made(history: History, tmp_path: Path) -> None:
    """The same `.dvc` file, and the same objects in the cache and the remote, byte for byte."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    shutil.copytree(history.folder, tmp_path / "digits")
    second = history.versions[1]
    for command in (
        ["init", "-q"],
        ["add", "-q", "digits"],
        ["remote", "add", "-q", "-d", "s", "s"],
        ["push", "-q"],
    ):
        subprocess.run([program("dvc"), *command], cwd=tmp_path, check=True, capture_output=True)
    root = history.settings.data_repository
    assert (
        repository.git(root, "show", f"{second.commit}:digits.dvc") == (tmp_path / "digits.dvc").read_text()
    )
    remote = Path(history.settings.data_remote or "")
    for theirs, ours in ((tmp_path / ".dvc" / "cache", root / ".dvc" / "cache"), (tmp_path / "s", remote)):
        assert contents(theirs / "files" / "md5").items() <= contents(ours / "files" / "md5").items()


def test_message_of_a_snapshot_is_that_of_its_commit(history: History) -> None:
    root, first = history.settings.data_repository, history.versions[0]
    assert repository.git(root, "log", "-1", "--format=%s", first.commit).strip() == "the first digits"


def test_version_is_found_by_every_name_it_has(history: History) -> None:
    first, second = history.versions
    for revision in (1, "1", "v1", "digits@v1", first.commit, first.commit[:10]):
        assert get("digits", revision, history.settings) == first
    assert get("digits", "latest", history.settings) == second
    with pytest.raises(DatasetNotFoundError, match="known: v1, v2"):
        get("digits", "v7", history.settings)


def test_version_of_a_tag_that_a_person_made_is_found(history: History) -> None:
    root, second = history.settings.data_repository, history.versions[1]
    repository.git(root, "tag", "digits@v3", second.commit)
    try:
        assert get("digits", 3, history.settings) == replace(second, version=3, tag="digits@v3")
    finally:
        repository.git(root, "tag", "--delete", "digits@v3")


def test_version_survives_json(history: History) -> None:
    assert DatasetVersion.from_json(history.versions[0].to_json()) == history.versions[0]


def test_version_of_an_unknown_dataset_is_refused(settings: Settings) -> None:
    with pytest.raises(DatasetNotFoundError, match="take a snapshot"):
        get("digits", "latest", settings)


def test_snapshot_of_nothing_is_refused_with_every_fault(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidSpecError) as caught:
        snapshot(tmp_path / "empty", "Bad Name", settings)
    assert len(caught.value.faults) == 2


def test_fetched_data_that_somebody_changed_is_refused(history: History, tmp_path: Path) -> None:
    settings = replace(history.settings, home=tmp_path)
    shutil.copytree(
        fetch(history.versions[0], history.settings), tmp_path / "data" / history.versions[0].hash[:-4]
    )
    folder = fetch(history.versions[0], settings)
    (folder / "a.txt").chmod(0o644)
    (folder / "a.txt").write_text("tampered")
    with pytest.raises(DataChangedError, match="fetch it again"):
        fetch(history.versions[0], settings)
    remove(folder)


@pytest.mark.slow
def test_fresh_clone_pulls_the_data_byte_for_byte(history: History, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "-q", history.settings.data_repository, clone], check=True, capture_output=True
    )
    for version, content in zip(history.versions, history.contents, strict=True):
        subprocess.run(["git", "checkout", "-q", version.tag], cwd=clone, check=True, capture_output=True)
        subprocess.run([program("dvc"), "pull", "-q"], cwd=clone, check=True, capture_output=True)
        assert contents(clone / "digits") == content


@pytest.mark.slow
def test_fetch_without_the_copy_on_this_host_asks_dvc(history: History, tmp_path: Path) -> None:
    elsewhere = replace(history.settings, home=tmp_path)
    assert contents(fetch(history.versions[0], elsewhere)) == history.contents[0]


@pytest.mark.slow
def test_snapshots_at_the_same_time_make_one_version(data: Path, settings: Settings) -> None:
    found: list[DatasetVersion] = []

    def take() -> None:
        found.append(snapshot(data, "digits", settings))

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1


@pytest.mark.slow
def test_snapshot_that_died_before_its_tag_is_finished_by_the_next(data: Path, settings: Settings) -> None:
    made = snapshot(data, "digits", settings)
    repository.git(settings.data_repository, "tag", "--delete", made.tag)
    again = snapshot(data, "digits", settings)
    assert (again.version, again.hash) == (1, made.hash)
    assert snapshot(data, "letters", settings).tag == "letters@v1"


@pytest.mark.slow
def test_remote_with_credentials_keeps_them_out_of_git(settings: Settings) -> None:
    repository.ensure(replace(settings, data_remote="https://user:s3cret@127.0.0.1:9/data"))
    root = settings.data_repository
    assert "s3cret" not in (root / ".dvc" / "config").read_text()
    assert "s3cret" in (root / ".dvc" / "config.local").read_text()
    assert (root / ".dvc" / "config.local").stat().st_mode & 0o777 == 0o600
    repository.git(root, "add", "--all")
    assert "config.local" not in repository.git(root, "ls-files")


@pytest.fixture
def origin(settings: Settings, tmp_path: Path) -> Path:
    """Return the bare repository that the data repository is a clone of, with a commit of the team's."""
    bare, root = tmp_path / "origin.git", settings.data_repository
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", bare], check=True)
    repository.ensure(settings)
    repository.git(root, "remote", "add", "origin", str(bare))
    return bare


@pytest.mark.slow
def test_snapshot_is_pushed_to_the_origin_and_a_fresh_clone_pulls_it(
    data: Path, settings: Settings, origin: Path, tmp_path: Path
) -> None:
    made = snapshot(data, "digits", settings)
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "-q", "--branch", made.tag, origin, clone], check=True, capture_output=True
    )
    subprocess.run([program("dvc"), "pull", "-q"], cwd=clone, check=True, capture_output=True)
    assert contents(clone / "digits") == contents(data)


@pytest.mark.slow
def test_snapshot_that_was_not_pushed_is_pushed_by_the_next(
    data: Path, settings: Settings, origin: Path
) -> None:
    away = origin.rename(origin.with_name("away.git"))
    with pytest.raises(ToolFailedError):
        snapshot(data, "digits", settings)
    away.rename(origin)
    made = snapshot(data, "digits", settings)
    assert f"refs/tags/{made.tag}" in repository.git(settings.data_repository, "ls-remote", "origin")
    # Tagged here, and ended before the push.
    repository.git(settings.data_repository, "push", "-q", "--delete", "origin", made.tag)
    assert snapshot(data, "digits", settings) == made
    assert f"refs/tags/{made.tag}" in repository.git(settings.data_repository, "ls-remote", "origin")


@pytest.mark.slow
def test_snapshot_commits_as_whom_the_repository_says(data: Path, settings: Settings) -> None:
    root = repository.ensure(settings)
    assert "taxiway" not in (root / ".git" / "config").read_text()
    for key, value in (("user.name", "Team"), ("user.email", "team@example.com")):
        repository.git(root, "config", key, value)
    made = snapshot(data, "digits", settings)
    assert repository.git(root, "log", "-1", "--format=%an", made.commit).strip() == "Team"


@pytest.mark.slow
def test_configuration_of_a_team_keeps_its_settings(settings: Settings) -> None:
    root = repository.ensure(settings)
    config = root / ".dvc" / "config"
    config.write_text("# ours\n[core]\n    autostage = true\n[cache]\n    type = copy\n")
    repository.ensure(settings)
    text = config.read_text()
    for line in (
        "# ours",
        "autostage = true",
        "type = copy",
        "remote = store",
        f"url = {settings.data_remote}",
    ):
        assert line in text
    assert "analytics" not in text
    other = text.replace("remote = store", "remote = theirs")
    config.write_text(other)
    repository.ensure(replace(settings, data_remote="/elsewhere"))
    assert config.read_text() == other


@pytest.mark.slow
def test_snapshot_follows_what_others_pushed(
    data: Path, settings: Settings, origin: Path, tmp_path: Path
) -> None:
    first = snapshot(data, "digits", settings)
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", origin, other], check=True, capture_output=True)
    elsewhere = replace(settings, home=tmp_path / "elsewhere", data_repository=other)
    (data / "a.txt").write_text("changed on another host")
    second = snapshot(data, "digits", elsewhere)
    assert (first.version, second.version) == (1, 2)
    assert snapshot(data, "digits", settings).commit == second.commit
