"""The values of the lineage graph: what a node and an edge are, and how each is named. Nothing is read here.

An edge goes from what was made to what it was made of. A node's id is what a person types: `digits@v3`,
`visual_recognition/7`, `visual_recognition.training@<digest>`, `visual_recognition` for its endpoint, the id of a
training's run or an evaluation's, `library.<name>@<version>`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from taxiway_serving.names import HANDLE_PATTERN

NodeKind = Literal["model", "data", "code", "library", "run", "evaluation", "endpoint", "request"]
EdgeKind = Literal[
    "trained_on",
    "made_by",
    "served_with",
    "uses",
    "ran_as",
    "served_by",
    "answered_by",
    "prepared_from",
    "prepared_by",
    "built_with",
    "same_bytes",
    "evaluates",
    "measured_on",
    "measured_by",
]

WORDS: Mapping[str, tuple[str, str]] = {
    "trained_on": ("trained on", "trained"),
    "made_by": ("made by", "made"),
    "served_with": ("served with", "serves"),
    "uses": ("starts from", "is the source of"),
    "ran_as": ("ran as", "made"),
    "served_by": ("serves", "is served by"),
    "answered_by": ("was answered by", "answered"),
    "prepared_from": ("prepared from", "was prepared into"),
    "prepared_by": ("prepared by", "prepared"),
    "built_with": ("built with", "is part of"),
    "same_bytes": ("holds the same bytes as", "holds the same bytes as"),
    "evaluates": ("evaluates", "was evaluated in"),
    "measured_on": ("measured on", "was measured on in"),
    "measured_by": ("measured by", "measured"),
}
"""How an edge reads from what was made, and from what it was made of. `same_bytes` goes both ways."""

_HANDLE = HANDLE_PATTERN.strip("^$")
_FORMS: tuple[tuple[NodeKind, re.Pattern[str]], ...] = (
    ("model", re.compile(rf"{_HANDLE}/[1-9][0-9]*")),
    ("data", re.compile(r"[a-z][a-z0-9_-]*@v[1-9][0-9]*")),
    ("code", re.compile(rf"{_HANDLE}\.(transform|training|evaluation|inference)@[0-9a-f]{{6,64}}")),
    ("library", re.compile(r"library\.[a-z0-9-]+@[^@/\s]+")),
    ("run", re.compile(r"[0-9a-f]{32}")),
    ("endpoint", re.compile(_HANDLE)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing that has a history.

    Attributes:
        id: Its name, as a person types it.
        kind: What it is.
        at_s: When it came to be, in seconds since the epoch; 0 if nobody knows.
        facts: What is known of it, JSON values.
    """

    id: str
    kind: NodeKind
    at_s: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"id": self.id, "kind": self.kind, "at_s": self.at_s, "facts": dict(self.facts)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Something that was made, and something that it was made of.

    Attributes:
        child: Id of what was made.
        kind: How.
        parent: Id of what it was made of.
        facts: What is known of the relation, such as a variant's share of the traffic.
    """

    child: str
    kind: EdgeKind
    parent: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"child": self.child, "kind": self.kind, "parent": self.parent, "facts": dict(self.facts)}


def name_of(what: str) -> str:
    """Return the id that a person means: a library is also what a project requires, `name==version`."""
    name, pinned, version = what.strip().partition("==")
    return library_id(name, version) if pinned else what.strip()


def kind_of(what: str) -> NodeKind:
    """Return what a name stands for; one that has no other form is a request's id."""
    return next((kind for kind, form in _FORMS if form.fullmatch(what)), "request")


def model_id(handle: str, version: int | str) -> str:
    return f"{handle}/{version}"


def code_id(handle: str, kind: str, digest: str) -> str:
    return f"{handle}.{kind}@{digest}"


def library_id(name: str, version: str) -> str:
    return f"library.{name}@{version}"
