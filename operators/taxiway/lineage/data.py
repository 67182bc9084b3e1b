"""Reads dataset versions for the index from the data repository: what they were made of, and what was said of them.

What other hosts recorded comes from its origin, where it has one. Which versions hold the same bytes is seen from their
hashes, in `index.py`.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from taxiway.datasets import repository
from taxiway.datasets.facts import Facts, Origin, Record, facts_file, read_facts, read_records, records_file
from taxiway.errors import ToolFailedError, TransportError
from taxiway.lineage.graph import Edge, Node, code_id
from taxiway.lineage.index import Index
from taxiway.settings import Settings
from taxiway.tools import digest

MOST_LOOSE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    """What is new of datasets.

    Attributes:
        nodes: Dataset versions that the index does not know yet, or of which something was said since.
        edges: What those were made of, in every way that is known.
        records: Digest of what was said later of each dataset, by its name; `read` compares the next ones with it.
    """

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    records: Mapping[str, str] = field(default_factory=dict)


def catch_up(settings: Settings) -> TransportError | None:
    """Take over what other hosts pushed to the origin of the data repository; return why that could not be asked for.

    Without an origin, this host knows all that there is.
    """
    root = settings.data_repository
    try:
        if (root / ".git").exists() and repository.origin(root) is not None:
            repository.catch_up(settings)
    except ToolFailedError as error:
        said = " ".join(error.output.split()) or f"git ended with {error.exit_code}"
        peer = f"the origin of the data repository {root}"
        return TransportError(peer, f"{said}; see that `git fetch` works there")
    return None


def read(index: Index, settings: Settings) -> Datasets:
    """Return what the index does not know yet of the dataset versions of a data repository."""
    root = settings.data_repository
    if not (root / ".git").exists():
        return Datasets()
    _pack(settings)
    found = {
        f"{name}@v{number}": tagged
        for name, versions in repository.all_tagged(root).items()
        for number, tagged in versions.items()
    }
    places = {name: f"HEAD:{records_file(name)}" for name in {_name(tag) for tag in found}}
    said = repository.read(root, places.values()) if places else {}
    texts = {name: said[place] for name, place in places.items() if place in said}
    digests = {name: digest(text) for name, text in texts.items()}
    before = index.state("records") or {}
    changed = {name: read_records(texts[name]) for name, each in digests.items() if before.get(name) != each}
    fresh = {
        tag: each for tag, each in found.items() if _is_new(index.node(tag), each, changed.get(_name(tag)))
    }
    records = {
        name: changed.get(name) or read_records(texts.get(name, "")) for name in {_name(tag) for tag in fresh}
    }
    nodes, edges = _told(root, fresh, records)
    return Datasets(nodes=nodes, edges=edges, records=digests)


def _name(tag: str) -> str:
    return tag.rpartition("@v")[0]


def _is_new(node: Node | None, tagged: repository.Tagged, records: Iterable[Record] | None) -> bool:
    """Tell whether a version is not known, or something was said of it since."""
    if node is None or node.at_s == 0 or node.facts.get("commit") != tagged.commit:
        return True
    return any(record.hash == node.facts.get("hash") for record in records or ())


def _told(
    root: Path, fresh: Mapping[str, repository.Tagged], records: Mapping[str, tuple[Record, ...]]
) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    data = repository.outputs(root, fresh)
    places = {tag: f"{fresh[tag].commit}:{facts_file(_name(tag))}" for tag in data}
    texts = repository.read(root, places.values()) if places else {}
    said = {
        tag: read_facts(tag, data[tag].hash, texts.get(place, ""), records[_name(tag)])
        for tag, place in places.items()
    }
    nodes = tuple(_node(fresh[tag].commit, data[tag], each) for tag, each in said.items())
    return nodes, tuple(edge for each in said.values() for edge in _edges(each))


def _node(commit: str, data: repository.Output, said: Facts) -> Node:
    made_at = datetime.fromisoformat(said.made_at).timestamp() if said.made_at else 1.0
    facts: dict[str, Any] = {"commit": commit, **asdict(data), "made_by": dict(said.made_by)}
    facts |= {"card": said.card.to_json(), "said_later": [_line(record) for record in said.records]}
    return Node(id=said.tag, kind="data", at_s=made_at, facts=facts)


def _line(record: Record) -> str:
    words = [f"{key} {value}" for key, value in record.card.to_json().items()]
    made_of = f"made of {', '.join(record.origin.parents) or 'nothing'}" if record.origin else ""
    return f"{record.at} {record.by}: {record.why} ({'; '.join(filter(None, (*words, made_of)))})"


def _edges(said: Facts) -> Iterator[Edge]:
    """Yield what a version was made of, the first way over what was said later, and of that the last."""
    ways: list[tuple[Origin, dict[str, Any]]] = [
        (record.origin, {"said_at": record.at, "by": record.by}) for record in said.records if record.origin
    ]
    if said.origin:
        ways.append((said.origin, {}))
    for origin, facts in ways:
        for parent in origin.parents:
            if parent != said.tag:
                yield Edge(child=said.tag, kind="prepared_from", parent=parent, facts=facts)
        if origin.details.get("code"):
            code = code_id(origin.details["handle"], "transform", origin.details["code"])
            yield Edge(child=said.tag, kind="prepared_by", parent=code, facts=facts)


def _pack(settings: Settings) -> None:
    """Have Git keep its tags in one file: each model has one, and to read them one by one takes most of the time.

    A writer of this host that is at work is not waited for: the tags are packed another time.
    """
    root = settings.data_repository
    with contextlib.suppress(FileNotFoundError, BlockingIOError, ToolFailedError):
        if len(os.listdir(root / ".git" / "refs" / "tags" / "models")) > MOST_LOOSE:
            with repository.locked(settings, waits=False):
                repository.git(root, "pack-refs", "--all")
