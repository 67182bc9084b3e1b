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
    """An open index. One thread; every write is kept once `kept` ends."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if it is not there.

        Raises:
            sqlite3.DatabaseError: If it is no index; delete it, it will be made again.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            self._connection.executescript(_TABLES)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep all that the block writes, or nothing of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

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
    """Give the index; a file that is damaged is thrown away and made again, empty."""
    path = path_of(settings)
    try:
        index = Index(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        path.unlink()
        index = Index(path)
    with closing(index):
        yield index


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _row(node: Node) -> tuple[Any, ...]:
    same = node.facts.get("hash") if node.kind == "data" else None
    return node.id, node.kind, node.at_s, _text(node.facts), same


def _node(row: tuple[Any, ...]) -> Node:
    return Node(id=row[0], kind=row[1], at_s=row[2], facts=json.loads(row[3]))


def _edge(row: tuple[Any, ...]) -> Edge:
    return Edge(child=row[0], kind=row[1], parent=row[2], facts=json.loads(row[3]))
