"""Tools run without secrets in sight, and files change whole or not at all."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway.errors import ToolFailedError
from taxiway.tools import digest, exclusive, fresh_folder, in_turn, program, redact, remove, run


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:secret@host/repo.git", "https://host/repo.git"),
        ("error: ssh://git:secret@host:22/x failed", "error: ssh://host:22/x failed"),
        ("git@host:team/repo.git", "git@host:team/repo.git"),
        ("https://user:p@ss@host/repo.git", "https://host/repo.git"),
        ("https://user:pa/ss@host/repo.git", "https://host/repo.git"),
        ("https://host:8080/repo.git and a@b", "https://host:8080/repo.git and a@b"),
        ("https://host/repo@v1", "https://host/repo@v1"),
    ],
    ids=["https", "in-a-sentence", "scp-like", "at-in-password", "slash-in-password", "port", "revision"],
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


def test_run_takes_output_that_is_no_utf8(tmp_path: Path) -> None:
    assert len(run([sys.executable, "-c", "import os; os.write(1, b'caf\\xe9')"], cwd=tmp_path)) == 4


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


def test_fresh_folder_sweeps_what_a_killed_process_left_and_no_other_draft(tmp_path: Path) -> None:
    (tmp_path / ".target.0123abcd").mkdir()
    with fresh_folder(tmp_path / "slow") as slow, fresh_folder(tmp_path / "target"):
        assert slow.exists()
        assert not (tmp_path / ".target.0123abcd").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slow", "target"]


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


def test_who_has_to_wait_for_its_turn_says_so(tmp_path: Path) -> None:
    told: list[str] = []
    is_waiting, done = threading.Event(), threading.Event()

    def say(line: str) -> None:
        told.append(line)
        is_waiting.set()

    def work() -> None:
        with in_turn(tmp_path / "lock", say, "somebody trains"):
            done.set()

    second = threading.Thread(target=work)
    with in_turn(tmp_path / "lock", told.append, "nobody"):
        second.start()
        is_waiting.wait(60)
        assert not done.is_set()
    second.join()
    assert done.is_set()
    assert told == ["waiting: somebody trains"]


HOLDER = """
import sys
from pathlib import Path
from taxiway.tools import exclusive, run
folder = Path(sys.argv[1])
script = "import os, pathlib, sys, time; hold = pathlib.Path('hold')\\n"
script += "pathlib.Path('pid').write_text(str(os.getpid()))\\nwhile hold.exists(): time.sleep(0.02)"
with exclusive(folder / "lock"):
    run([sys.executable, "-c", script], cwd=folder)
"""


def test_lock_of_a_killed_process_is_free_when_its_tool_has_ended(
    tmp_path: Path, until: Callable[..., None]
) -> None:
    (tmp_path / "hold").touch()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)])
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(60)
    assert not can_lock(tmp_path / "lock")
    (tmp_path / "hold").unlink()
    with exclusive(tmp_path / "lock"):
        pass


def can_lock(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
