"""The index: a SQLite file of nodes and edges that is made of what MLflow, DVC and the controller say, and of no more.

Losing it loses nothing. What it is filled with is decided in `gathering.py`.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from taxiway.lineage.graph import Edge, Node
from taxiway.settings import Settings
from taxiway.tools import exclusive

# A new form of the tables, or a new kind of node, is a new file; the old one may be deleted.
FILE = "index-3.sqlite"
BUSY_S = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS nodes (id TEXT PRIMARY KEY, kind TEXT NOT NULL, at_s REAL NOT NULL, facts TEXT NOT NULL,
    hash TEXT);
CREATE TABLE IF NOT EXISTS edges (child TEXT NOT NULL, kind TEXT NOT NULL, parent TEXT NOT NULL, facts TEXT NOT NULL,
    PRIMARY KEY (child, kind, parent)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS edges_by_parent ON edges (parent, kind, child);
CREATE INDEX IF NOT EXISTS nodes_by_time ON nodes (id, at_s);
CREATE INDEX IF NOT EXISTS data_by_hash ON nodes (hash) WHERE hash IS NOT NULL;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


def path_of(settings: Settings) -> Path:
    """Return where the index of an installation lies."""
    return settings.home / "lineage" / FILE


class Index:
    """An open index. One thread; every write is kept once `kept` ends.

    One process writes at a time, and into the file that has the name: what SQLite keeps beside a file to go back to
    bears its name alone, and would be taken for that of any file that took its place.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open a file, made if it is not there, or an empty index in memory; a file that is no index is made again.

        Raises:
            sqlite3.OperationalError: If it cannot be opened.
        """
        self._path, self._number = path, 0
        if path is None:
            self._connection = _connected(":memory:")
            return
        with exclusive(_lock_of(path)):
            try:
                self._connection = _connected(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                # The other way round, a kill would leave the one as that of a new file.
                path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
                path.unlink()
                self._connection = _connected(path)
            self._number = path.stat().st_ino

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep all that the block writes, or nothing of it.

        Raises:
            sqlite3.DatabaseError: If the file was deleted since it was opened; open it again.
        """
        with self._alone():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def become(self, other: "Index") -> None:
        """Take over all that another index holds, in one step; who reads meanwhile sees the old one or the new one.

        Raises:
            sqlite3.DatabaseError: As `kept` does.
        """
        with self._alone():
            other._connection.backup(self._connection)  # noqa: SLF001 - of this class as well

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._path is None:
            yield
            return
        with exclusive(_lock_of(self._path)):
            if not self._path.exists() or self._path.stat().st_ino != self._number:
                raise sqlite3.DatabaseError("the index was deleted while it was open")
            yield

    def put(self, nodes: Iterable[Node], edges: Iterable[Edge]) -> None:
        """Write nodes and edges over those of the same name."""
        self._connection.executemany("INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?, ?)", map(_row, nodes))
        self._connection.executemany(
            "INSERT OR REPLACE INTO edges VALUES (?, ?, ?, ?)",
            ((edge.child, edge.kind, edge.parent, _text(edge.facts)) for edge in edges),
        )

    def put_missing(self, nodes: Iterable[Node]) -> None:
        """Write nodes that are not there yet: what is known of them elsewhere is better."""
        self._connection.executemany("INSERT OR IGNORE INTO nodes VALUES (?, ?, ?, ?, ?)", map(_row, nodes))

    def drop_kind(self, kind: str) -> None:
        """Forget the nodes of a kind, and the edges that begin at them."""
        self._connection.execute(
            "DELETE FROM edges WHERE child IN (SELECT id FROM nodes WHERE kind = ?)", (kind,)
        )
        self._connection.execute("DELETE FROM nodes WHERE kind = ?", (kind,))

    def drop(self, name: str) -> None:
        """Forget a node, and the edges that begin at it."""
        self._connection.execute("DELETE FROM edges WHERE child = ?", (name,))
        self._connection.execute("DELETE FROM nodes WHERE id = ?", (name,))

    def node(self, name: str) -> Node | None:
        """Return a node by its id, or None."""
        row = self._connection.execute(
            "SELECT id, kind, at_s, facts FROM nodes WHERE id = ?", (name,)
        ).fetchone()
        return _node(row) if row else None

    def beginning(self, prefix: str, limit: int) -> list[str]:
        """Return the ids of nodes that begin so, up to a limit."""
        query = "SELECT id FROM nodes WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
        return [row[0] for row in self._connection.execute(query, (prefix, prefix + "\U0010ffff", limit))]

    def parents(self, name: str) -> list[Edge]:
        """Return what a node was made of, and with which its data share their bytes."""
        query = "SELECT child, kind, parent, facts FROM edges WHERE child = ? ORDER BY kind, parent"
        found = [_edge(row) for row in self._connection.execute(query, (name,))]
        return [*found, *(Edge(child=name, kind="same_bytes", parent=other) for other in self._equal(name))]

    def _equal(self, name: str, limit: int = -1) -> list[str]:
        """Return the data that hold the same bytes, the newest first; of what is no data there are none."""
        query = (
            "SELECT other.id FROM nodes AS this JOIN nodes AS other ON other.hash = this.hash"
            " WHERE this.id = ? AND other.id != this.id ORDER BY other.at_s DESC, other.id LIMIT ?"
        )
        return [row[0] for row in self._connection.execute(query, (name, limit))]

    def children_by(self, kind: str, name: str, limit: int) -> list[Edge]:
        """Return what was made of a node in one way, the newest first, up to a limit."""
        query = (
            "SELECT child, edges.kind, parent, edges.facts FROM edges LEFT JOIN nodes ON nodes.id = child"
            " WHERE parent = ? AND edges.kind = ? ORDER BY at_s DESC, child LIMIT ?"
        )
        return [_edge(row) for row in self._connection.execute(query, (name, kind, limit))]

    def children(self, name: str, limit: int) -> list[Edge]:
        """Return what was made of a node, and what shares its bytes, of each kind the newest, up to a limit."""
        kinds = self._connection.execute(
            "SELECT DISTINCT kind FROM edges WHERE parent = ?", (name,)
        ).fetchall()
        found = [edge for (kind,) in sorted(kinds) for edge in self.children_by(kind, name, limit)]
        same = [Edge(child=other, kind="same_bytes", parent=name) for other in self._equal(name, limit)]
        return [*found, *same]

    def count_children(self, name: str, kind: str) -> int:
        """Return how many edges of a kind end at a node."""
        if kind == "same_bytes":
            return len(self._equal(name))
        query = "SELECT count(*) FROM edges WHERE parent = ? AND kind = ?"
        return int(self._connection.execute(query, (name, kind)).fetchone()[0])

    def serving(self, name: str) -> list[Edge]:
        """Return the edges by which endpoints serve what a node went into, however far, under whichever name."""
        query = (
            "WITH RECURSIVE down(id) AS (VALUES (?) UNION SELECT child FROM edges JOIN down ON parent = id"
            " WHERE kind NOT IN ('served_by', 'answered_by') UNION SELECT other.id FROM down"
            " JOIN nodes AS this ON this.id = down.id JOIN nodes AS other ON other.hash = this.hash)"
            " SELECT child, kind, parent, facts FROM edges WHERE kind = 'served_by' AND parent IN (SELECT id FROM down)"
            " ORDER BY child, parent"
        )
        return [_edge(row) for row in self._connection.execute(query, (name,))]

    def size(self) -> tuple[int, int]:
        """Return how many nodes and edges there are."""
        query = "SELECT (SELECT count(*) FROM nodes), (SELECT count(*) FROM edges)"
        nodes, edges = self._connection.execute(query).fetchone()
        return int(nodes), int(edges)

    def state(self, name: str) -> Any:
        """Return a JSON value that was kept under a name, or None."""
        row = self._connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def keep_state(self, name: str, value: Any) -> None:
        """Keep a JSON value under a name."""
        self._connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, _text(value)))


@contextmanager
def opened(settings: Settings) -> Iterator[Index]:
    """Give the index; a file that is none is thrown away and made again, empty."""
    with closing(Index(path_of(settings))) as index:
        yield index


def _connected(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        connection.executescript(_TABLES)
    except BaseException:
        connection.close()
        raise
    return connection


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _row(node: Node) -> tuple[Any, ...]:
    same = node.facts.get("hash") if node.kind == "data" else None
    return node.id, node.kind, node.at_s, _text(node.facts), same


def _node(row: tuple[Any, ...]) -> Node:
    return Node(id=row[0], kind=row[1], at_s=row[2], facts=json.loads(row[3]))


def _edge(row: tuple[Any, ...]) -> Edge:
    return Edge(child=row[0], kind=row[1], parent=row[2], facts=json.loads(row[3]))
