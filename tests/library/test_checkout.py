"""A model project is found beside a DAG's file, or in a Git repository at a revision."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from taxiway import checkout, dirt
from taxiway import settings as library_settings
from taxiway.checkout import locate
from taxiway.errors import InvalidSpecError, ToolFailedError
from taxiway.settings import Settings
from taxiway.tools import remove


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with two commits of `models/digits/value.txt`; the first is tagged `v1`."""
    root = tmp_path / "repository"
    (root / "models" / "digits").mkdir(parents=True)
    git(root, "init", "--quiet", "--initial-branch", "main")
    for value in ("1", "2"):
        (root / "models" / "digits" / "value.txt").write_text(value)
        git(root, "add", "-A")
        git(root, "commit", "--quiet", "--message", value)
        if value == "1":
            git(root, "tag", "v1")
    return root


def test_path_starts_at_the_folder_of_the_dag_file(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "dag.py").write_text("")
    (tmp_path / "models").mkdir()
    for beside in (tmp_path / "dags", tmp_path / "dags" / "dag.py"):
        assert locate("../models", settings, beside=beside).root == tmp_path / "models"


def test_path_outside_git_has_no_commit(tmp_path: Path, settings: Settings) -> None:
    found = locate(".", settings, beside=tmp_path)
    assert (found.commit, found.is_dirty, found.url) == (None, False, None)


def test_path_without_a_commit_yet_has_none(tmp_path: Path, settings: Settings) -> None:
    git(tmp_path, "init", "--quiet")
    assert locate(".", settings, beside=tmp_path).commit is None


def test_committed_code_that_git_refuses_to_read_is_not_called_uncommitted(
    repository: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user owns the folder, as in a container over a folder of the host's; then its repository is damaged."""
    folder = repository / "models" / "digits"
    name = "GIT_TEST_ASSUME_DIFFERENT_OWNER"
    with monkeypatch.context() as patched:
        patched.setattr(library_settings, "_PASSED_ON", (*library_settings._PASSED_ON, name))
        patched.setenv(name, "1")
        with pytest.raises(ToolFailedError, match=r"(?s)dubious ownership.*--add safe\.directory"):
            locate(str(folder), settings)
    assert locate(str(folder), settings).commit
    (repository / ".git" / "config").write_text("[core")
    with pytest.raises(ToolFailedError, match="bad config"):
        locate(str(folder), settings)
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(ToolFailedError, match="install it"):
        locate(str(folder), settings)


def test_path_that_is_not_there_says_where_it_looked(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InvalidSpecError, match="starts at"):
        locate("nowhere", settings, beside=tmp_path)


def test_path_takes_no_revision(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InvalidSpecError, match="takes no revision"):
        locate(".", settings, beside=tmp_path, revision="main")


def test_path_in_git_has_commit_dirt_and_diff(repository: Path, settings: Settings) -> None:
    folder = repository / "models" / "digits"
    git(repository, "remote", "add", "origin", "https://user:secret@host/repo.git")
    clean = locate(str(folder), settings)
    assert (clean.commit, clean.is_dirty) == (git(repository, "rev-parse", "HEAD"), False)
    assert clean.url == "https://host/repo.git"
    (folder / "value.txt").write_text("3")
    dirty = locate(str(folder), settings)
    assert dirty.is_dirty
    assert "+3" in dirty.diff


@pytest.mark.parametrize(("revision", "value"), [(None, "2"), ("v1", "1"), ("main", "2")])
def test_url_is_cloned_at_its_revision(
    repository: Path, settings: Settings, revision: str | None, value: str
) -> None:
    found = locate(f"file://{repository}#subdirectory=models/digits", settings, revision=revision)
    assert (found.root / "value.txt").read_text() == value
    assert found.commit == git(repository, "rev-parse", revision or "HEAD")
    assert not found.is_dirty


def test_url_follows_a_branch_that_moved(repository: Path, settings: Settings) -> None:
    url = f"file://{repository}"
    first = locate(url, settings, revision="main")
    (repository / "models" / "digits" / "value.txt").write_text("3")
    git(repository, "commit", "--quiet", "--all", "--message", "3")
    second = locate(url, settings, revision="main")
    assert first.commit != second.commit
    assert (first.root / "models" / "digits" / "value.txt").read_text() == "2"
    assert (second.root / "models" / "digits" / "value.txt").read_text() == "3"


def test_url_of_a_known_commit_needs_no_repository(repository: Path, settings: Settings) -> None:
    commit = git(repository, "rev-parse", "v1")
    url = f"file://{repository}"
    locate(url, settings, revision=commit)
    repository.rename(repository.with_name("gone"))
    assert locate(url, settings, revision=commit).commit == commit


def test_url_with_an_unknown_revision_or_folder_is_refused(repository: Path, settings: Settings) -> None:
    with pytest.raises(ToolFailedError):
        locate(f"file://{repository}", settings, revision="no-such-branch")
    for folder in ("nowhere", "../.."):
        with pytest.raises(InvalidSpecError, match="no folder"):
            locate(f"file://{repository}#subdirectory={folder}", settings)


def test_url_credentials_stay_out_of_the_url_the_clone_and_errors(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, environment = checkout._without_credentials("https://user:s%40cret@host/repo.git")
    assert clean == "https://host/repo.git"
    assert environment["GIT_CONFIG_VALUE_0"].startswith("Authorization: Basic ")
    with pytest.raises(ToolFailedError) as caught:
        locate("http://user:s3cret@127.0.0.1:9/repo.git", settings)
    assert "s3cret" not in str(caught.value)


def test_untracked_file_is_dirt_and_its_content_is_kept(repository: Path, settings: Settings) -> None:
    folder = repository / "models" / "digits"
    (folder / "new.py").write_text("print('never added')\n")
    (folder / "new.bin").write_bytes(bytes(range(256)))
    before = (repository / ".git" / "index").read_bytes()
    found = locate(str(folder), settings)
    assert found.is_dirty
    assert "+print('never added')" in found.diff
    assert "GIT binary patch" in found.diff
    assert (repository / ".git" / "index").read_bytes() == before


def test_ignored_file_is_neither_dirt_nor_packed(repository: Path, settings: Settings) -> None:
    folder = repository / "models" / "digits"
    (repository / ".git" / "info" / "exclude").write_text("*.secret\n")
    (folder / "password.secret").write_text("s3cret")
    (folder / "new.py").write_text("")
    found = locate(str(folder), settings)
    assert found.files is not None
    assert sorted(found.files) == ["new.py", "value.txt"]
    assert "s3cret" not in found.diff


def test_repository_further_up_that_ignores_a_folder_says_nothing_about_it(
    repository: Path, settings: Settings
) -> None:
    (repository / ".git" / "info" / "exclude").write_text("ignored\n")
    (repository / "ignored").mkdir()
    (repository / "ignored" / "x.py").write_text("")
    found = locate(str(repository / "ignored"), settings)
    assert (found.commit, found.is_dirty, found.files) == (None, False, None)


@pytest.mark.parametrize("has_git", [True, False], ids=["edited", "without-its-git"])
def test_cached_clone_that_somebody_edited_is_restored(
    repository: Path, settings: Settings, has_git: bool
) -> None:
    url, commit = f"file://{repository}", git(repository, "rev-parse", "HEAD")
    first = locate(url, settings, revision=commit)
    (first.root / "models" / "digits" / "value.txt").write_text("edited")
    (first.root / "stray.py").write_text("")
    if not has_git:
        remove(first.root / ".git")
    again = locate(url, settings, revision=commit)
    assert (again.root / "models" / "digits" / "value.txt").read_text() == "2"
    assert not (again.root / "stray.py").exists()
    assert again == first


def test_url_that_looks_like_an_option_is_none(settings: Settings) -> None:
    with pytest.raises(ToolFailedError) as caught:
        locate("--upload-pack=touch pwned://x", settings)
    assert "-- --upload-pack" in str(caught.value)


def test_url_with_a_slash_in_its_password_is_refused_without_showing_it(settings: Settings) -> None:
    with pytest.raises(InvalidSpecError, match="%2F") as caught:
        locate("https://user:s3/cret@host/repo.git", settings)
    assert "cret" not in str(caught.value)


def test_secrets_are_no_dirt_and_no_part_of_the_difference(repository: Path, settings: Settings) -> None:
    folder = repository / "models" / "digits"
    (folder / ".env").write_text("KEY=s3cret")
    (folder / ".env.local").write_text("KEY=s3cret")
    found = locate(str(folder), settings)
    assert (found.is_dirty, found.diff) == (False, "")
    git(repository, "add", "--force", "models/digits/.env")
    git(repository, "commit", "--quiet", "--message", "a mistake")
    (folder / ".env").write_text("KEY=s3cret2")
    (folder / "value.txt").write_text("3")
    found = locate(str(folder), settings)
    assert found.is_dirty
    assert "s3cret" not in found.diff


def test_long_file_is_named_and_hashed_and_its_content_is_not_kept(
    repository: Path, settings: Settings
) -> None:
    folder = repository / "models" / "digits"
    content = b"x" * (dirt.MOST_BYTES + 1)
    (folder / "data.bin").write_bytes(content)
    (folder / "value.txt").write_text("2\n" * dirt.MOST_BYTES)
    found = locate(str(folder), settings)
    head, _, rest = found.diff.partition("\n")
    said = f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}"
    assert head == f"# 'data.bin' differs: {said}; too long to be kept here"
    assert rest.startswith("diff --git a/models/digits/value.txt")


def test_many_files_are_kept_up_to_a_length(
    repository: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dirt, "MOST_KEPT_BYTES", 10)
    folder = repository / "models" / "digits"
    for name in ("a", "b", "c"):
        (folder / name).write_text("12345\n")
    diff = locate(str(folder), settings).diff
    assert (diff.count("+12345"), diff.count("too long to be kept")) == (1, 2)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_file_that_git_was_told_to_overlook_is_dirt(repository: Path, settings: Settings, flag: str) -> None:
    folder = repository / "models" / "digits"
    git(repository, "update-index", flag, "models/digits/value.txt")
    (folder / "value.txt").write_text("3")
    found = locate(str(folder), settings)
    assert found.is_dirty
    assert "+3" in found.diff
