"""Tools run without secrets in sight, and files change whole or not at all."""

import shutil
import threading
from pathlib import Path

import pytest

from taxiway.errors import ToolFailedError
from taxiway.tools import digest, exclusive, fresh_folder, program, redact, remove, run


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:secret@host/repo.git", "https://host/repo.git"),
        ("error: ssh://git:secret@host:22/x failed", "error: ssh://host:22/x failed"),
        ("git@host:team/repo.git", "git@host:team/repo.git"),
    ],
    ids=["https", "inside-a-sentence", "scp-like"],
)
def test_redact_removes_credentials_of_urls(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_run_returns_the_output(tmp_path: Path) -> None:
    assert run(["git", "--version"], cwd=tmp_path).startswith("git version")


def test_run_that_fails_says_what_and_hides_credentials(tmp_path: Path) -> None:
    with pytest.raises(ToolFailedError) as caught:
        run(["git", "ls-remote", "file://user:secret@/nowhere"], cwd=tmp_path)
    assert "git ls-remote" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_run_of_a_missing_tool_says_so(tmp_path: Path) -> None:
    with pytest.raises(ToolFailedError, match="install it"):
        run(["no-such-tool"], cwd=tmp_path)


def test_program_is_the_one_beside_the_interpreter() -> None:
    assert program("dvc").exists()
    with pytest.raises(ToolFailedError):
        program("no-such-tool")


def test_digest_ignores_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])


def test_fresh_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), fresh_folder(tmp_path / "target") as draft:
        shutil.copy(tmp_path / "absent", draft)
    assert list(tmp_path.iterdir()) == []


def test_fresh_folder_keeps_the_one_that_came_first(tmp_path: Path) -> None:
    with fresh_folder(tmp_path / "target") as draft:
        (draft / "second").write_text("")
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "first").write_text("")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_remove_takes_read_only_folders_too(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("")
    (tmp_path / "a" / "b").chmod(0o555)
    remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_exclusive_lets_one_thread_in_at_a_time(tmp_path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        with exclusive(tmp_path / "lock"):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
