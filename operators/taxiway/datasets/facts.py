"""What is said of a dataset version, as values: where it came from, what it may be used for, what is in it.

The facts of a version are committed beside its `.dvc` file and never change; what is said later is a line in the
dataset's records, which only grow. Both travel with every clone. They are written in `versions.py` and `cards.py`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from taxiway.errors import InvalidSpecError

UNTRACEABLE = "untraceable"
PERSONAL_DATA = ("none", "pseudonymous", "personal", "special")
"""How personal data may be: `special` is what law protects most, such as health or religion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What people say of a dataset; an empty value says nothing.

    Attributes:
        licence: An SPDX identifier such as `cc-by-4.0`, in lower case.
        personal_data: One of `PERSONAL_DATA`.
        purpose: What it was collected for.
        owner: Who answers for it.
        description: A sentence for those who search.
        keywords: For those who search.
    """

    licence: str = ""
    personal_data: str = ""
    purpose: str = ""
    owner: str = ""
    description: str = ""
    keywords: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what is said, as JSON values; nothing else."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Card":
        """Read a card as a person, a DAG or `to_json` wrote it.

        Raises:
            InvalidSpecError: If a key or a value is none that a card has; with every fault.
        """
        names = tuple(each.name for each in fields(cls))
        faults = [
            f"{key} is no part of a card; known are {', '.join(names)}" for key in data if key not in names
        ]
        said = {name: data[name] for name in names if data.get(name)}
        keywords = said.pop("keywords", ())
        if isinstance(keywords, str) or not all(isinstance(word, str) for word in keywords):
            faults.append(f"keywords must be a list of words, got {keywords!r}")
        faults += [
            f"{name} must be text, got {value!r}"
            for name, value in said.items()
            if not isinstance(value, str)
        ]
        personal = said.get("personal_data", "none")
        if personal not in PERSONAL_DATA:
            faults.append(f"personal_data must be one of {', '.join(PERSONAL_DATA)}, got {personal!r}")
        if faults:
            raise InvalidSpecError(tuple(faults), "card")
        if "licence" in said:
            said["licence"] = said["licence"].strip().lower()
        return cls(**said, keywords=tuple(keywords))

    def over(self, other: "Card") -> "Card":
        """Return this card, with what it does not say taken from another."""
        return Card.from_json(other.to_json() | self.to_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How a version was made of others.

    Attributes:
        kind: `transform` or `append`.
        parents: Hash of each dataset version that it was made of, by its tag.
        details: For a transform its `handle`, the digest of its `code`, and `params`; under `UNTRACEABLE`, why nobody
            could walk back what it made.
        output: Hash of what came out; a snapshot of anything else is refused. Empty where nobody knows.
    """

    kind: str
    parents: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    output: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Origin":
        """Read what `to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What somebody said of a version after it was made.

    Attributes:
        version: Number of the version.
        hash: Its hash.
        at: When, UTC.
        by: Who.
        why: Their reason.
        card: What was said; what it leaves empty stays as it was.
        origin: What the same bytes were made of once more, or None.
    """

    version: int
    hash: str
    at: str
    by: str
    why: str
    card: Card
    origin: Origin | None = None

    @property
    def line(self) -> str:
        """The record as one line of JSON."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(said | {"card": self.card.to_json()}, sort_keys=True) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the data repository says of one version.

    Attributes:
        tag: The version's.
        card: What is said of it now.
        origin: How it was first made of others, or None for data that came from outside.
        profile: What is in it, as `taxiway.datasets.profile` wrote it; empty where nobody looked.
        made_at: When, UTC; empty for a version that a person tagged.
        made_by: The Airflow task instance that made it, or `{"person": name}`.
        records: What was said later, the oldest first.
    """

    tag: str
    card: Card = field(default_factory=Card)
    origin: Origin | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)
    made_at: str = ""
    made_by: Mapping[str, str] = field(default_factory=dict)
    records: tuple[Record, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Every way in which its bytes are known to have been made of others."""
        later = (record.origin for record in self.records)
        return tuple(origin for origin in (self.origin, *later) if origin is not None)


def facts_file(name: str) -> str:
    """Return where the facts of a dataset's version are, at its commit."""
    return f"{name}.facts.json"


def records_file(name: str) -> str:
    """Return where the records of a dataset are, at the newest commit."""
    return f"{name}.records.jsonl"


def facts_text(
    digest: str, card: Card, origin: Origin | None, profile: Mapping[str, Any], at: str, by: Mapping[str, str]
) -> str:
    """Return the facts of a new version as they are committed."""
    said = {"hash": digest, "card": card.to_json(), "origin": origin.to_json() if origin else None}
    said |= {"made_at": at, "made_by": dict(by), "profile": dict(profile)}
    # One line a key: a person finds what it says, and a profile's numbers do not fill the page.
    lines = (f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in said.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_facts(tag: str, digest: str, text: str, records: Iterable[Record]) -> Facts:
    """Return the facts of a version.

    Args:
        tag: The version's.
        digest: Its hash; facts of other bytes, as beside a tag that a person set, are none of its.
        text: The facts file at its commit, or nothing.
        records: Of the dataset, the oldest first.
    """
    said = json.loads(text) if text else {}
    if said.get("hash") != digest:
        said = {}
    own = tuple(record for record in records if record.hash == digest)
    card = Card.from_json(said.get("card", {}))
    for record in own:
        card = record.card.over(card)
    return Facts(
        tag=tag,
        card=card,
        origin=Origin.from_json(said["origin"]) if said.get("origin") else None,
        profile=said.get("profile", {}),
        made_at=said.get("made_at", ""),
        made_by=said.get("made_by", {}),
        records=own,
    )


def read_records(text: str) -> tuple[Record, ...]:
    """Return the records of a dataset, the oldest first."""
    lines = (json.loads(line) for line in text.splitlines() if line.strip())
    return tuple(_record(line) for line in lines)


def _record(line: Mapping[str, Any]) -> Record:
    origin = Origin.from_json(line["origin"]) if line.get("origin") else None
    return Record(**{**line, "card": Card.from_json(line["card"]), "origin": origin})
