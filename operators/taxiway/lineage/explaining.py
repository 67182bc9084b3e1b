"""Answers from the index: where something comes from and what became of it; which endpoints serve what was made of it.

The index is brought up to date first, and what could not be asked is said in the answer. How an answer is shown is in
`text.py` and `picture.py`.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from taxiway.arguments import typed
from taxiway.errors import NotFoundError
from taxiway.lineage import gathering
from taxiway.lineage.graph import Edge, Node, kind_of, model_id, name_of
from taxiway.lineage.index import Index, opened
from taxiway.settings import Settings

MOST_CHILDREN, MOST_NODES = 20, 300
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where something comes from, and what became of it.

    Attributes:
        subject: What was asked for.
        nodes: Everything on the way, by id, the subject among them. What an edge names and nobody knows is not here.
        up: Edges from the subject to what it was made of, and on, the nearest first.
        down: Edges from the subject to what was made of it, and on, the nearest first.
        left_out: How many edges into a node are not shown, by the node's id and the edge's kind.
        notes: What could not be asked, and what is missing, in words.
    """

    subject: Node
    nodes: Mapping[str, Node]
    up: tuple[Edge, ...]
    down: tuple[Edge, ...]
    left_out: Mapping[tuple[str, str], int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "subject": self.subject.to_json(),
            "nodes": [node.to_json() for node in self.nodes.values()],
            "up": [edge.to_json() for edge in self.up],
            "down": [edge.to_json() for edge in self.down],
            "left_out": [{"id": name, "kind": kind, "count": n} for (name, kind), n in self.left_out.items()],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """An endpoint that serves what something went into.

    Attributes:
        endpoint: The handle.
        version: The model version that runs there.
        weight_pct: Its share of the live traffic, in percent; 0 is one that only a tester reaches.
        phase: How its variant stands: `ready`, `starting`, `failed`.
        path: The way from what was asked for to the model version.
    """

    endpoint: str
    version: int
    weight_pct: float
    phase: str
    path: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        names = ("endpoint", "version", "weight_pct", "phase")
        return {name: getattr(self, name) for name in names} | {"path": list(self.path)}


@typed
def explain(what: str, settings: Settings) -> Explanation:
    """Return where something comes from and what became of it.

    Args:
        what: `handle/7`, `handle` for its endpoint, `digits@v3`, `handle.training@<digest>` with 6 characters of the
            digest or more, `alice-rev==1.0` for a published library, the id of the MLflow run of a training or an
            evaluation, or an answer's `x-request-id`.
        settings: Where everything is.

    Raises:
        NotFoundError: If nobody knows it.
        TransportError: If MLflow does not answer; or the controller, where a request is asked for.
    """
    name = name_of(what)
    return _answered(name, settings, lambda index, notes: _explained(name, index, notes, settings))


@typed
def serving(what: str, settings: Settings) -> tuple[Serving, ...]:
    """Return the endpoints that serve what something went into, however far: as data, code, or a source model.

    Args:
        what: As of `explain`; most often a dataset version, `digits@v3`.
        settings: Where everything is.

    Raises:
        NotFoundError: If nobody knows it.
        TransportError: If MLflow does not answer, or the controller, or the origin of the data repository: what they
            said last is no answer to this.
    """
    name = name_of(what)

    def ask(index: Index, _notes: tuple[str, ...]) -> tuple[Serving, ...]:
        subject = _subject(name, index, settings)
        return tuple(_serving(subject.id, edge, index) for edge in index.serving(subject.id))

    return _answered(name, settings, ask, is_whole=True)


def rebuild(settings: Settings) -> tuple[int, int]:
    """Make the index anew from MLflow, DVC and the controller; return how many nodes and edges it holds.

    Raises:
        TransportError: If MLflow does not answer; the old index stays.
    """
    return gathering.rebuild(settings)


def _answered(
    what: str, settings: Settings, ask: Callable[[Index, tuple[str, ...]], Answer], *, is_whole: bool = False
) -> Answer:
    """Ask the index, up to date; one that is not there or damaged is made first."""

    def asked() -> Answer:
        with opened(settings) as index:
            return ask(index, gathering.refresh(index, settings, what, is_whole=is_whole))

    gathering.ensure(settings)
    try:
        return asked()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        gathering.rebuild(settings)
        return asked()


def _explained(what: str, index: Index, notes: tuple[str, ...], settings: Settings) -> Explanation:
    subject = _subject(what, index, settings)
    nodes = {subject.id: subject}
    up, unseen = _walked(
        subject.id, lambda name: _parents(name, index, subject), nodes, index, lambda edge: edge.parent
    )
    left_out: dict[tuple[str, str], int] = {}
    down, unreached = _walked(
        subject.id, lambda name: _children(name, index, left_out), nodes, index, lambda edge: edge.child
    )
    missing = sorted({edge.parent for edge in up if edge.parent not in nodes})
    unheld = tuple(
        f"{node.id} is known by its name alone, and not what it was made of: the data repository here does not hold it"
        for node in nodes.values()
        if node.kind == "data" and not node.at_s
    )
    gone = tuple(
        f"{name} is named and not known: it was deleted, or is of another registry" for name in missing
    )
    ends = (
        *_cut([name for name in unseen if index.parents(name)], "was made of"),
        *_cut([name for name in unreached if index.children(name, 1)], "went into"),
    )
    return Explanation(
        subject=subject,
        nodes=nodes,
        up=tuple(up),
        down=tuple(down),
        left_out=left_out,
        notes=(*notes, *gone, *unheld, *ends),
    )


def _cut(names: Sequence[str], how: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [
        f"after {MOST_NODES} things the walk ends: what {names[0]}{more} {how} is not shown, ask for it in turn"
    ]


def _walked(
    start: str,
    edges_of: Callable[[str], list[Edge]],
    nodes: dict[str, Node],
    index: Index,
    far_end: Callable[[Edge], str],
) -> tuple[list[Edge], list[str]]:
    """Return the edges from a node on, the nearest first, each node's once, and the nodes that it did not go on from.

    The nodes on the way are added to those that are known.
    """
    found: list[Edge] = []
    seen, waiting = {start}, deque([start])
    while waiting and len(seen) < MOST_NODES:
        name = waiting.popleft()
        for edge in edges_of(name):
            other = far_end(edge)
            # It goes both ways: back is no news.
            if edge.kind == "same_bytes" and other in seen:
                continue
            found.append(edge)
            if other in seen:
                continue
            seen.add(other)
            waiting.append(other)
            node = index.node(other)
            if node is not None:
                nodes[other] = node
    return found, list(waiting)


def _parents(name: str, index: Index, subject: Node) -> list[Edge]:
    if subject.kind == "request" and name == subject.id:
        parent = model_id(subject.facts["handle"], subject.facts["version"])
        return [Edge(child=name, kind="answered_by", parent=parent)]
    return index.parents(name)


def _children(name: str, index: Index, left_out: dict[tuple[str, str], int]) -> list[Edge]:
    found = index.children(name, MOST_CHILDREN + 1)
    shown = []
    for kind in dict.fromkeys(edge.kind for edge in found):
        edges = [edge for edge in found if edge.kind == kind]
        if len(edges) > MOST_CHILDREN:
            left_out[name, kind] = index.count_children(name, kind) - MOST_CHILDREN
        shown += edges[:MOST_CHILDREN]
    return shown


def _subject(what: str, index: Index, settings: Settings) -> Node:
    kind = kind_of(what)
    found = index.node(what) or (_code(what, index) if kind == "code" else None)
    if found is not None:
        return found
    if kind in ("request", "run"):
        return _request(what, settings)
    raise NotFoundError("thing with a lineage", what, _next_step(what, index))


def _code(what: str, index: Index) -> Node | None:
    found = index.beginning(what, 2)
    return index.node(found[0]) if len(found) == 1 else None


def _next_step(what: str, index: Index) -> str:
    near = index.beginning(what.rstrip("0123456789"), 5)
    return f"known are {', '.join(near)}" if near else "see `taxiway explain --help` for the forms of a name"


def _request(what: str, settings: Settings) -> Node:
    seen = gathering.controller_of(settings).request(what)
    return Node(id=what, kind="request", at_s=seen["at_s"], facts=seen)


def _serving(subject: str, edge: Edge, index: Index) -> Serving:
    return Serving(
        endpoint=edge.child,
        version=int(edge.parent.rpartition("/")[2]),
        weight_pct=float(edge.facts["weight_pct"]),
        phase=str(edge.facts["phase"]),
        path=_path(subject, edge.parent, index),
    )


def _path(subject: str, model: str, index: Index) -> tuple[str, ...]:
    """Return the shortest way from what was asked for down to a model."""
    ways: dict[str, tuple[str, ...]] = {model: (model,)}
    waiting = deque([model])
    while waiting:
        name = waiting.popleft()
        if name == subject:
            return ways[name]
        for edge in index.parents(name):
            if edge.parent not in ways:
                ways[edge.parent] = (edge.parent, *ways[name])
                waiting.append(edge.parent)
    return ()
