"""The index is one file that several processes write to: none of them may lose, mix or hide what another one wrote."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from taxiway.lineage import gathering
from taxiway.lineage.graph import Node
from taxiway.lineage.index import Index, path_of
from taxiway.settings import Settings

OLD, NEW = 2000, 4000
# Holds a write with more pages than fit into its memory: what was there lies in the journal beside the file.
WRITES = """
import sys
from pathlib import Path
from taxiway.lineage.graph import Node
from taxiway.lineage.index import Index
index = Index(Path(sys.argv[1]))
index._connection.execute("PRAGMA cache_size = 2")
with index.kept():
    index.put([Node(id=f"never@v{n}", kind="data", facts={"x": "y" * 500}) for n in range(2000)], [])
    print("writes", flush=True)
    sys.stdin.read()
"""


def fill(index: Index, count: int, name: str) -> None:
    with index.kept():
        index.put([Node(id=f"{name}@v{n}", kind="data", facts={"x": "y" * 500}) for n in range(count)], [])


def names(path: Path) -> set[str]:
    with closing(Index(path)) as index:
        assert index._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0].partition("@")[0] for row in index._connection.execute("SELECT id FROM nodes")}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings of an index that is filled without MLflow."""
    monkeypatch.setattr(gathering, "refresh", lambda index, _settings: fill(index, NEW, "new"))
    return Settings(home=tmp_path, data_repository=tmp_path / "datasets", data_remote=None)


def test_rebuild_while_another_process_writes_and_is_killed_is_whole(settings: Settings) -> None:
    path = path_of(settings)
    with closing(Index(path)) as index:
        fill(index, OLD, "old")
    command = [sys.executable, "-c", WRITES, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writes\n"
        assert path.with_name(f"{path.name}-journal").stat().st_size
        rebuild = threading.Thread(target=gathering.rebuild, args=(settings,))
        rebuild.start()
        # Long enough for one that does not wait for the writer; one that waits does so until that has ended.
        rebuild.join(1.0)
        writer.kill()
    rebuild.join()
    assert names(path) == {"new"}


def test_index_is_made_once_by_all_who_ask_first(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made, go = [], threading.Event()

    def refresh(index: Index, _settings: Settings) -> None:
        made.append(index)
        go.wait()
        fill(index, 3, "new")

    monkeypatch.setattr(gathering, "refresh", refresh)
    askers = [threading.Thread(target=gathering.ensure, args=(settings,)) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(0.1)
    go.set()
    for asker in askers:
        asker.join()
    assert len(made) == 1
    assert names(path_of(settings)) == {"new"}


def test_index_that_is_damaged_in_its_middle_is_made_anew(settings: Settings) -> None:
    path = path_of(settings)
    with closing(Index(path)) as index:
        fill(index, OLD, "old")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(os.urandom(size // 2))
    gathering.rebuild(settings)
    assert names(path) == {"new"}


def test_file_that_is_no_index_takes_its_journal_along(settings: Settings) -> None:
    path = path_of(settings)
    path.parent.mkdir()
    path.write_text("no index " * 1000)
    journal = path.with_name(f"{path.name}-journal")
    journal.write_text("of another file")
    assert names(path) == set()
    assert not journal.exists()


def test_index_that_was_deleted_while_it_was_open_is_not_written_to(settings: Settings) -> None:
    path = path_of(settings)
    with closing(Index(path)) as index:
        fill(index, 3, "old")
        path.unlink()
        assert names(path) == set()
        with pytest.raises(sqlite3.DatabaseError, match="was deleted while it was open"):
            fill(index, 3, "old")
        with closing(Index()) as made, pytest.raises(sqlite3.DatabaseError, match="was deleted"):
            index.become(made)
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]
