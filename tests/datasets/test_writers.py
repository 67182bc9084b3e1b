"""Several writers at once lose nothing, and a writer killed at any step leaves nothing that a retry cannot mend."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway.datasets import (
    DatasetVersion,
    append,
    describe,
    facts,
    fetch,
    get,
    history,
    repository,
    snapshot,
)
from taxiway.errors import ToolFailedError
from taxiway.settings import Settings
from tests.datasets.conftest import Clone, contents, log_of, settings_in, write

pytestmark = pytest.mark.slow


def at_once(*calls: Callable[[], object]) -> None:
    """Run calls in threads that begin together, and raise what one of them raises."""
    errors: list[BaseException] = []
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        try:
            gate.wait(120)
            call()
        except BaseException as error:  # noqa: BLE001 - the test shall see it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def is_clean(settings: Settings) -> bool:
    root = settings.data_repository
    repository.git(root, "fsck", "--strict", "--no-dangling")
    return repository.git(root, "status", "--porcelain") == ""


def test_hosts_that_push_at_once_get_versions_one_after_the_other(clone: Clone, tmp_path: Path) -> None:
    hosts = [clone(f"host{number}") for number in range(4)]
    folders = [write(tmp_path / f"data{number}", {"a.txt": f"of host {number}"}) for number in range(4)]
    at_once(*(lambda h=h, f=f: snapshot(f, "digits", h) for h, f in zip(hosts, folders, strict=True)))
    for host in hosts:
        repository.catch_up(host)
        found = history("digits", host)
        assert [version.version for version in found] == [4, 3, 2, 1]
        assert {(fetch(version, host) / "a.txt").read_text() for version in found} == {
            f"of host {number}" for number in range(4)
        }
        assert is_clean(host)


def test_hosts_that_push_the_same_bytes_make_one_version(clone: Clone, data: Path) -> None:
    hosts = [clone(f"host{number}") for number in range(3)]
    made: list[DatasetVersion] = []
    at_once(*(lambda host=host: made.append(snapshot(data, "digits", host)) for host in hosts))
    assert len(set(made)) == 1
    assert [version.version for version in history("digits", hosts[0])] == [1]


def test_hosts_that_say_something_at_once_are_all_heard(clone: Clone, data: Path) -> None:
    hosts = [clone(f"host{number}") for number in range(3)]
    made = snapshot(data, "digits", hosts[0])
    at_once(
        *(lambda h=h, n=n: describe(made, h, by=f"p{n}", why="w", owner=f"o{n}") for n, h in enumerate(hosts))
    )
    repository.catch_up(hosts[0])
    assert {record.by for record in facts(made, hosts[0]).records} == {"p0", "p1", "p2"}


def test_writers_of_several_datasets_on_one_host(settings: Settings, tmp_path: Path) -> None:
    folders = {name: write(tmp_path / name, {"a.txt": name}) for name in ("one", "two", "three")}
    at_once(*(lambda n=n, f=f: snapshot(f, n, settings) for n, f in folders.items()))
    assert all(get(name, 1, settings).files == 1 for name in folders)
    assert is_clean(settings)


def test_refusal_of_the_origin_is_no_race(clone: Clone, data: Path, tmp_path: Path) -> None:
    host = clone("host")
    snapshot(data, "digits", host)
    hook = tmp_path / "origin.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no data on Fridays\nexit 1\n")
    hook.chmod(0o755)
    write(data, {"a.txt": "changed"})
    with pytest.raises(ToolFailedError, match="no data on Fridays"):
        snapshot(data, "digits", host)
    assert [version.version for version in history("digits", host)] == [1]
    hook.unlink()
    assert snapshot(data, "digits", host).version == 2


def test_work_of_a_person_is_merged_and_kept(clone: Clone, data: Path) -> None:
    """A person commits to one clone while another host takes a snapshot."""
    here, there = clone("here"), clone("there")
    snapshot(data, "digits", here)
    repository.catch_up(there)
    write(there.data_repository, {"NOTES.md": "ours"})
    repository.git(there.data_repository, "add", "NOTES.md")
    identity = ("-c", "user.name=P", "-c", "user.email=p@example.com")
    repository.git(there.data_repository, *identity, "commit", "-qm", "Notes")
    snapshot(write(data, {"a.txt": "changed"}), "digits", here)
    third = snapshot(write(data, {"a.txt": "changed again"}), "digits", there)
    assert third.version == 3
    assert "Notes" in log_of(there)
    write(there.data_repository, {"NOTES.md": "not committed yet"})
    assert snapshot(write(data, {"a.txt": "and again"}), "digits", there).version == 4
    assert (there.data_repository / "NOTES.md").read_text() == "not committed yet"


# Kills the whole process group at the nth command or rename: what a worker that is lost looks like.
DOOMED = """
import os, signal, subprocess, sys
from pathlib import Path
from taxiway.datasets import snapshot
from taxiway.settings import Settings
home, data, remote, what, left = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
module, name = {"command": (subprocess, "run"), "rename": (os, "replace")}[what]
real = getattr(module, name)
def counted(*args, **kwargs):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
setattr(module, name, counted)
settings = Settings(home=home, data_repository=home / "datasets", data_remote=remote)
snapshot(data, "digits", settings)
print("steps left:", left)
"""


def doom(settings: Settings, data: Path, what: str, step: int) -> bool:
    """Take a snapshot that is killed at a step; return whether it came that far."""
    home, remote = str(settings.home), str(settings.data_remote)
    command = [sys.executable, "-c", DOOMED, home, str(data), remote, what, str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


@pytest.mark.parametrize("what", ["command", "rename"])
@pytest.mark.parametrize("has_origin", [False, True], ids=["alone", "origin"])
def test_snapshot_killed_at_any_step_is_finished_by_the_next(
    clone: Clone, settings: Settings, data: Path, tmp_path: Path, what: str, has_origin: bool
) -> None:
    host = clone("host") if has_origin else settings
    step, version, stride = 1, 0, 5 if what == "command" else 2
    while doom(host, data, what, step):
        # What is there now is whole.
        for found in history("digits", host):
            fetch(found, host)
        made = snapshot(data, "digits", host)
        assert made.version <= version + 1
        assert contents(fetch(made, host)) == contents(data)
        assert is_clean(host)
        version, step = made.version, step + stride
        write(data, {"a.txt": f"bytes of step {step}"})
    assert version >= 2
    elsewhere = settings_in(tmp_path / "elsewhere", tmp_path / "remote")
    assert contents(fetch(made, elsewhere)) == contents(fetch(made, host))


def test_lock_that_a_killed_git_left_is_cleared(settings: Settings, data: Path) -> None:
    root = repository.ensure(settings)
    (root / ".git" / "index.lock").touch()
    (root / ".git" / "refs" / "heads" / "main.lock").touch()
    assert snapshot(data, "digits", settings).version == 1


def test_branch_that_a_killed_git_left_half_moved_is_finished(settings: Settings, data: Path) -> None:
    """Files of the new commit are in the working tree, and the branch is still at the old one."""
    first = snapshot(data, "digits", settings)
    root = settings.data_repository
    second = snapshot(write(data, {"a.txt": "changed"}), "digits", settings)
    repository.git(root, "tag", "--delete", second.tag)
    repository.git(root, "update-ref", "refs/heads/main", first.commit)
    (root / ".git" / "taxiway-moving").write_text("digits.dvc\ndigits.facts.json\n")
    (root / "digits.dvc").write_text("half")
    again = snapshot(data, "digits", settings)
    assert (again.version, again.hash) == (2, second.hash)
    assert is_clean(settings)


def test_appends_at_once_add_up(data: Path, clone: Clone, tmp_path: Path) -> None:
    """Each adds to the one before it, whichever host it comes from: the newest version holds what all of them added."""
    hosts = [clone(name) for name in ("one", "two", "three")]
    snapshot(data, "digits", hosts[0])
    added = [write(tmp_path / f"new-{number}", {f"new-{number}.txt": str(number)}) for number in range(3)]

    def adding(number: int) -> Callable[[], object]:
        return lambda: append(added[number], "digits", hosts[number])

    at_once(*(adding(number) for number in range(3)))
    newest = get("digits", "latest", hosts[0])
    assert (newest.version, newest.files) == (4, 6)
    assert contents(fetch(newest, hosts[1])).keys() >= {f"new-{number}.txt" for number in range(3)}
