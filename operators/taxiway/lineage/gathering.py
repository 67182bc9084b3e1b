"""Fills the index: reads model versions and packages from MLflow, datasets from Git, endpoints from the controller.

A refresh reads what is newer than what is known; a rebuild reads everything into a new index in memory, which the one
on disk then becomes in one step.
"""

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.errors import AuthenticationError, TransportError
from taxiway.lineage import data, evaluations
from taxiway.lineage.graph import Edge, Node, code_id, kind_of, library_id, model_id
from taxiway.lineage.index import Index, opened, path_of
from taxiway.registry import tracking
from taxiway.registry.models import TRACE, UNTRACEABLE
from taxiway.registry.reading import Version
from taxiway.settings import Settings
from taxiway.tools import exclusive
from taxiway_serving.client import Controller

FIRST_PAGE, PAGE = 10, 1000
# Versions that are made at once may be seen in another order than their times say.
SLACK_S = 60.0
CLOCKS_S = 600.0
"""By how much the clocks of workers may differ: each writes itself when its evaluation ended."""
MOST_AGAIN = 20
TIMEOUT_S = 5.0
AIRFLOW, LIBRARY, LIBRARY_TAG = "taxiway.airflow.", "library", "taxiway.library."
PACKAGES = ("training", "inference")


def refresh(index: Index, settings: Settings, what: str = "", *, is_whole: bool = False) -> tuple[str, ...]:
    """Read what is new into an index, and return what could not be read, in words.

    The sources are asked at the same time: what takes long is waiting for their answers.

    Args:
        index: Which index.
        settings: Where the sources are.
        what: Name of a model version or a package that is read as it is now, although it may be known: it may have
            been deleted, or committed since.
        is_whole: Whether an answer that leaves out what one of the sources did not say is none.

    Raises:
        TransportError: If MLflow does not answer; and where all is wanted, if the controller does not, or the origin of
            the data repository.
        AuthenticationError: Where all is wanted, if the controller does not know this token.
    """
    newest, number = float(index.state("versions") or 0.0), _number_of(what, index)
    ended, known = float(index.state("evaluations") or 0.0), _evaluations_of(what, index)
    with ThreadPoolExecutor(4) as pool:
        read = pool.submit(lambda: list(_newer(newest - SLACK_S, settings, is_first=not newest)))
        asked, again = pool.submit(_endpoints, settings), pool.submit(_again, what, number, settings)
        judged = pool.submit(_judged, known, ended - CLOCKS_S, settings)
        behind = data.catch_up(settings)
        datasets = data.read(index, settings)
        versions, (endpoints, unread) = read.result(), asked.result()
        subjects, measured = again.result(), judged.result()
    if is_whole and (silence := unread or behind):
        raise silence
    with index.kept():
        _keep(index, [*versions, *subjects], endpoints)
        _keep_measured(index, known, measured)
        index.put(datasets.nodes, datasets.edges)
        if not subjects and kind_of(what) == "model":
            index.drop(what)
        index.keep_state("versions", max([newest, *(version.created_at_s for version in versions)]))
        index.keep_state("evaluations", max([ended, *(run.ended_at_s for run in measured.new)]))
        index.keep_state("records", datasets.records)
    return tuple(_notes(index, unread, behind))


def _notes(index: Index, unread: Exception | None, behind: Exception | None) -> Iterator[str]:
    """Say what could not be asked: of the controller, of the data repository's origin."""
    if unread:
        asked_at = index.state("endpoints")
        at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(asked_at))
        when = f"known at {at}" if asked_at else "unknown"
        yield f"what is served now could not be asked, it is {when}: {unread}"
    if behind:
        yield f"what other hosts recorded of data could not be asked, what this one knows is shown: {behind}"


def _keep(index: Index, versions: Iterable[Version], endpoints: Iterable[Mapping[str, Any]] | None) -> None:
    for version in versions:
        index.put(*_told(version))
        index.put_missing(_named(version))
    if endpoints is not None:
        index.drop_kind("endpoint")
        for endpoint in endpoints:
            index.put(*_endpoint(endpoint))
        index.keep_state("endpoints", time.time())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Evaluations: the new ones, and those of what is asked for, as they are now."""

    new: tuple[tracking.Run, ...]
    again: tuple[tracking.Run, ...]


def _evaluations_of(what: str, index: Index) -> list[str]:
    """Return the newest evaluations that are known of what is asked for, or itself where it is one."""
    node = index.node(what)
    if node is None or node.kind == "evaluation":
        return [what] if node else []
    return [edge.child for kind in evaluations.EDGES for edge in index.children_by(kind, what, MOST_AGAIN)]


def _judged(known: list[str], since_s: float, settings: Settings) -> _Measured:
    new = evaluations.since(max(0.0, since_s), settings)
    return _Measured(new=new, again=evaluations.again(known, settings))


def _keep_measured(index: Index, known: list[str], found: _Measured) -> None:
    """Keep evaluations; one that was known and is no longer in MLflow is forgotten."""
    for name in set(known) - {run.run_id for run in found.again}:
        index.drop(name)
    index.put(*evaluations.told((*found.new, *found.again)))


def _again(what: str, number: int | None, settings: Settings) -> list[Version]:
    """Return what is asked for as it is now, with the packages of a model: one may have been committed since.

    Args:
        what: Name of a model version or a package; of anything else there is nothing to read again.
        number: Of the package's version, where it is known.
        settings: Which MLflow.
    """
    name, _, rest = what.partition("/")
    if kind_of(what) == "code" and number is not None:
        return _present([(what.partition("@")[0], number)], settings)
    if kind_of(what) != "model":
        return []
    models = _present([(name, int(rest))], settings)
    numbers = {kind: model.tags.get(f"taxiway.{kind}.version", "") for model in models for kind in PACKAGES}
    packages = [(f"{name}.{kind}", int(at)) for kind, at in numbers.items() if at.isdigit()]
    return [*models, *_present(packages, settings)]


def _present(names: Iterable[tuple[str, int]], settings: Settings) -> list[Version]:
    found = (tracking.version(name, number, settings) for name, number in names)
    return [version for version in found if version is not None]


def _number_of(what: str, index: Index) -> int | None:
    """Return the version of a package in MLflow, by its name or the beginning of it."""
    found = index.beginning(what, 2) if kind_of(what) == "code" else []
    node = index.node(found[0]) if len(found) == 1 else None
    return node.facts.get("version") if node else None


def rebuild(settings: Settings) -> tuple[int, int]:
    """Make the index anew from MLflow, DVC and the controller; return how many nodes and edges it holds.

    Raises:
        TransportError: If MLflow does not answer; the old index stays.
    """
    with exclusive(_making(settings)):
        return _rebuilt(settings)


def ensure(settings: Settings) -> None:
    """Make the index where there is none; who asks while another one makes it waits, and makes none of its own.

    Raises:
        TransportError: If MLflow does not answer.
    """
    if not path_of(settings).exists():
        with exclusive(_making(settings)):
            if not path_of(settings).exists():
                _rebuilt(settings)


def _making(settings: Settings) -> Path:
    return path_of(settings).with_suffix(".lock")


def _rebuilt(settings: Settings) -> tuple[int, int]:
    with contextlib.closing(Index()) as made:
        refresh(made, settings)
        with opened(settings) as index:
            index.become(made)
        return made.size()


def _newer(since_s: float, settings: Settings, *, is_first: bool) -> Iterator[Version]:
    page = tracking.newest_versions(settings, limit=PAGE if is_first else FIRST_PAGE)
    while True:
        for version in page.versions:
            if version.created_at_s < since_s:
                return
            yield version
        if not page.token:
            return
        page = tracking.newest_versions(settings, token=page.token, limit=PAGE)


def _told(version: Version) -> tuple[list[Node], list[Edge]]:
    """Return what a version of MLflow's says: a model with its edges, a package, or nothing."""
    if "taxiway.lineage" in version.tags:
        return _model(version, json.loads(version.tags["taxiway.lineage"]))
    if "taxiway.package" in version.tags:
        return _package(version, json.loads(version.tags["taxiway.package"]))
    if version.tags.get("taxiway.kind") == LIBRARY:
        return [_library(version)], []
    return [], []


def _model(version: Version, lineage: Mapping[str, Any]) -> tuple[list[Node], list[Edge]]:
    handle, tags, name = version.name, version.tags, model_id(version.name, version.number)
    kept = ("params", "metrics", "model_hash", "untraceable", "key")
    facts: dict[str, Any] = {key: lineage[key] for key in kept if key in lineage}
    facts |= {"run_id": version.run_id, "seed": tags.get("taxiway.seed", "")}
    facts |= {"locks": {kind: tags.get(f"taxiway.{kind}.lock", "") for kind in ("training", "inference")}}
    facts |= {"task": {key.removeprefix(AIRFLOW): tags[key] for key in tags if key.startswith(AIRFLOW)}}
    facts |= {"trace": json.loads(tags[TRACE]) if tags.get(TRACE) else None}
    if UNTRACEABLE in tags and not facts.get("untraceable"):
        facts["untraceable"] = [tags[UNTRACEABLE]]
    run_facts = {"handle": handle, "experiment": handle, **facts["task"]}
    nodes = [
        Node(id=name, kind="model", at_s=version.created_at_s, facts=facts),
        Node(id=version.run_id, kind="run", at_s=version.created_at_s, facts=run_facts),
    ]
    parents: list[tuple[Any, str]] = [
        ("trained_on", lineage["dataset"]["tag"]),
        ("made_by", code_id(handle, "training", lineage["training_digest"])),
        ("served_with", code_id(handle, "inference", lineage["inference_digest"])),
        ("ran_as", version.run_id),
        *(("uses", model_id(source, number)) for source, number in lineage["source_models"].items()),
    ]
    return nodes, [Edge(child=name, kind=kind, parent=parent) for kind, parent in parents]


def _named(version: Version) -> list[Node]:
    """Return what a model version says of other things, for where nothing else does."""
    if "taxiway.lineage" not in version.tags:
        return []
    dataset = json.loads(version.tags["taxiway.lineage"])["dataset"]
    return [Node(id=dataset["tag"], kind="data", facts=dataset)]


def _library(version: Version) -> Node:
    said = {key.removeprefix(LIBRARY_TAG): value for key, value in version.tags.items() if value}
    facts: dict[str, Any] = {key: said[key] for key in ("hash", "task", "summary") if key in said}
    facts |= {"commit": version.tags.get("mlflow.source.git.commit"), "run_id": version.run_id}
    return Node(
        id=library_id(said["name"], said["version"]), kind="library", at_s=version.created_at_s, facts=facts
    )


def _package(version: Version, package: Mapping[str, Any]) -> tuple[list[Node], list[Edge]]:
    kept = ("commit", "is_dirty", "url", "source_hash", "lock_hash", "python")
    facts = {key: package.get(key) for key in kept} | {"version": version.number, "run_id": version.run_id}
    facts["command"] = package.get("manifest", {}).get("command")
    name = code_id(package["handle"], package["kind"], package["digest"])
    used = package.get("manifest", {}).get("libraries", {})
    parents = [library_id(library, each["version"]) for library, each in used.items()]
    node = Node(id=name, kind="code", at_s=version.created_at_s, facts=facts)
    return [node], [Edge(child=name, kind="built_with", parent=parent) for parent in parents]


def _endpoints(settings: Settings) -> tuple[list[dict[str, Any]] | None, Exception | None]:
    """Return what the controller says of its endpoints, or None and why it says nothing."""
    try:
        return controller_of(settings).endpoints(), None
    except (TransportError, AuthenticationError) as error:
        return None, error


def controller_of(settings: Settings) -> Controller:
    """Return a client of the controller that does not wait for long."""
    return Controller(
        settings.controller_url, settings.controller_token or "", timeout_s=TIMEOUT_S, actor="lineage"
    )


def _endpoint(endpoint: Mapping[str, Any]) -> tuple[list[Node], list[Edge]]:
    handle = endpoint["handle"]
    facts = {key: endpoint[key] for key in ("url", "stable", "previous", "phase")}
    return [Node(id=handle, kind="endpoint", facts=facts)], _served(handle, endpoint)


def _served(handle: str, endpoint: Mapping[str, Any]) -> list[Edge]:
    split = endpoint["split"]["observed"] or endpoint["split"]["desired"] or {}
    running = {number: seen for number, seen in endpoint["variants"].items() if seen["wish"] != "stopped"}
    return [
        Edge(
            child=handle,
            kind="served_by",
            parent=model_id(handle, number),
            facts={"weight_pct": split.get(number, 0.0), "phase": seen["phase"]},
        )
        for number, seen in running.items()
    ]
