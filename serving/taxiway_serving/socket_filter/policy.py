"""Which requests may reach the engine. Values in, a ruling out; nothing is read or called.

Only what Taxiway's runner and runtime ask is allowed, by method, path and query; everything else is refused.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from taxiway_serving.socket_filter import bodies

LEAST_VERSION: Final = (1, 25)
"""Before 1.24 a start could bring a host configuration of its own, past whatever was checked at creation."""

_VERSION = re.compile(r"^/v(\d{1,2})\.(\d{1,3})(/.*)$")
_CONTAINER = re.compile(r"^/containers/([A-Za-z0-9][A-Za-z0-9_.-]*)(?:/([a-z]+))?$")
_IMAGE = re.compile(r"^/images/[A-Za-z0-9][A-Za-z0-9_./:@-]*/json$")
_TAG = re.compile(r"^taxiway/[a-z0-9._-]+:[A-Za-z0-9_.-]+$")
_VARIANT_IMAGE = re.compile(r"^/images/taxiway/variant\.[a-z0-9._-]+:[0-9a-f]+$")
_READ: Final = frozenset({"/_ping", "/version", "/info"})
_NAME = re.compile(r"^taxiway-[A-Za-z0-9_.-]+$")
_FILES: Final = frozenset({"path", "noOverwriteDirNonDir", "copyUIDGID"})
_OF_CONTAINERS: Final[Mapping[tuple[str, str | None], frozenset[str]]] = {
    ("GET", "json"): frozenset({"size"}),
    ("GET", "logs"): frozenset({"stdout", "stderr", "follow", "timestamps", "tail", "since", "until"}),
    ("GET", "stats"): frozenset({"stream", "one-shot"}),
    # None: a start could name a folder of the host, to go on from what was frozen there.
    ("POST", "start"): frozenset(),
    ("POST", "stop"): frozenset({"t", "signal"}),
    ("POST", "kill"): frozenset({"signal"}),
    ("POST", "wait"): frozenset({"condition"}),
    ("DELETE", None): frozenset({"v", "link", "force"}),
    **dict.fromkeys((("GET", "archive"), ("PUT", "archive"), ("HEAD", "archive")), _FILES),
}
"""What may be asked of a container, and the queries of each."""
_TYPES: Final = frozenset(
    {"", "application/json", "application/tar", "application/x-tar", "application/octet-stream"}
)
"""Types of bodies. A form is none of them: the engine would take its fields for queries that nobody looked at."""
_BUILD_QUERIES: Final = frozenset(
    {
        *("t", "labels", "buildargs", "networkmode", "rm", "forcerm", "nocache", "pull", "q", "dockerfile"),
        *("memory", "memswap", "cpushares", "cpusetcpus", "cachefrom", "target", "platform", "squash"),
    }
)

IsOurs = Callable[[str], bool | None]
"""Tell whether a container was made through the filter, by name or id; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to the engine.

    Attributes:
        method: In capitals.
        path: As it came, without the query.
        query: As it came, without the question mark.
        kind: Type of the body, as it came.
        body: Of a creation; empty for all others, whose bodies nobody looks at.
        networks: Networks that a container may be in, beside none at all.
    """

    method: str
    path: str
    query: str = ""
    kind: str = ""
    body: bytes = b""
    networks: frozenset[str] = frozenset()


def faults_of(asked: Asked, is_ours: IsOurs) -> tuple[str, ...]:
    """Return why a request is refused; an empty tuple when the engine may have it.

    Args:
        asked: The request.
        is_ours: Asked about the container that the request is for, where it is for one.
    """
    path = _without_version(asked.path)
    if path is None:
        return (f"the engine's API before {'.'.join(map(str, LEAST_VERSION))} is not spoken here",)
    if asked.kind.lower() not in _TYPES or ";" in asked.query:
        return (f"a body of the type {asked.kind!r}, or a semicolon in a query, may hide what is asked",)
    is_image = _IMAGE.match(path) is not None and ".." not in path
    is_read = asked.method in {"GET", "HEAD"} and (path in _READ or is_image)
    if is_read or (asked.method == "DELETE" and _VARIANT_IMAGE.match(path)):
        return ()
    judges: dict[tuple[str, str], Callable[[], tuple[str, ...]]] = {
        ("GET", "/containers/json"): lambda: _list_faults(_query(asked)),
        ("GET", "/images/json"): lambda: _list_faults(_query(asked)),
        ("POST", "/containers/create"): lambda: _create_faults(asked),
        ("POST", "/build"): lambda: _build_faults(_query(asked)),
    }
    judge = judges.get((asked.method, path), lambda: _container_faults(asked, path, is_ours))
    return judge()


def _without_version(path: str) -> str | None:
    found = _VERSION.match(path)
    if found is None:
        return path
    return found[3] if (int(found[1]), int(found[2])) >= LEAST_VERSION else None


def _query(asked: Asked) -> Mapping[str, list[str]]:
    return parse_qs(asked.query, keep_blank_values=True)


def _create_faults(asked: Asked) -> tuple[str, ...]:
    """Refuse a body that asks for too much, and a name that another service of a shared network is known by."""
    query = _query(asked)
    names = query.get("name", [])
    is_own = set(query) <= {"name", "platform"} and len(names) == 1 and _NAME.match(names[0])
    faults = () if is_own else (f"a container must be named taxiway-NAME, got {asked.query or 'nothing'}",)
    return (*faults, *bodies.faults_of(asked.body, asked.networks))


def _container_faults(asked: Asked, path: str, is_ours: IsOurs) -> tuple[str, ...]:
    found = _CONTAINER.match(path)
    allowed = _OF_CONTAINERS.get((asked.method, found[2])) if found else None
    if found is None or allowed is None or not set(_query(asked)) <= allowed:
        return (f"{asked.method} {path}?{asked.query} is not allowed",)
    if is_ours(found[1]) is False:
        return (f"the container {found[1]} was not made through this filter",)
    return ()


def _list_faults(query: Mapping[str, list[str]]) -> tuple[str, ...]:
    try:
        filters = [json.loads(text) for text in query.get("filters", [])]
    except ValueError:
        # Filters that cannot be read name no label, and are refused for that.
        filters = []
    labels = filters[0].get("label", []) if len(filters) == 1 and isinstance(filters[0], dict) else []
    if any(str(label).startswith(bodies.LABEL_PREFIX) for label in labels):
        return ()
    return (f"a list must be of a label that begins with {bodies.LABEL_PREFIX}",)


def _build_faults(query: Mapping[str, list[str]]) -> tuple[str, ...]:
    faults = [f"the query {name} of a build is not allowed" for name in query if name not in _BUILD_QUERIES]
    faults += [f"the query {name} of a build is there twice" for name, each in query.items() if len(each) > 1]
    tags = query.get("t", [])
    if not tags or not all(map(_TAG.match, tags)):
        faults.append(f"an image must be named taxiway/NAME:TAG, got {', '.join(tags) or 'nothing'}")
    if query.get("networkmode", [""])[0] not in {"none", "default"}:
        faults.append("the network of a build must be none or default")
    return (*faults, *_label_faults(query.get("labels", ["{}"])[0]))


def _label_faults(text: str) -> tuple[str, ...]:
    """Refuse labels by which containers are ours: who starts one of the image elsewhere would have made it ours."""
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict):
        return ("the labels of a build must be a JSON object",)
    marks = sorted(bodies.MARKS & set(labels))
    return tuple(f"an image must not have the label {mark}" for mark in marks)
