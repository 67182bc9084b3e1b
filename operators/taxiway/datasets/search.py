"""Finds datasets by what is said of them and by what is in them. Only newest versions are looked at, and no bytes."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from taxiway.datasets import repository
from taxiway.datasets.facts import Facts, facts_file, read_facts, read_records, records_file
from taxiway.datasets.lookup import latest_of_all
from taxiway.datasets.profile import columns_in
from taxiway.datasets.version import DatasetVersion
from taxiway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A dataset that a search found.

    Attributes:
        version: Its newest version.
        facts: What is said of it.
        columns: Names of the columns in its tables.
    """

    version: DatasetVersion
    facts: Facts
    columns: tuple[str, ...]

    @property
    def text(self) -> str:
        """One line for people."""
        card = self.facts.card
        said = (card.licence, card.personal_data and f"personal data: {card.personal_data}", card.description)
        size = f"{self.version.tag}: {self.version.files} files, {self.version.size_bytes} bytes"
        return "; ".join(part for part in (size, *said, ", ".join(card.keywords)) if part)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        card = self.facts.card.to_json()
        return self.version.to_json() | {"card": card, "columns": list(self.columns)}


def search(
    settings: Settings,
    *,
    name: str = "",
    keyword: str = "",
    text: str = "",
    column: str = "",
    licence: str = "",
) -> tuple[Found, ...]:
    """Return the datasets that match all that is asked, by name; without a question, all of them.

    Args:
        settings: Which data repository, as this clone knows it.
        name: Part of the dataset's name.
        keyword: One of its keywords.
        text: Words that are all somewhere in its name, description, keywords, purpose or owner.
        column: Name of a column of one of its tables.
        licence: Its licence.
    """
    asked = {"keyword": keyword.lower(), "column": column.lower(), "licence": licence.lower()}
    return tuple(
        found
        for found in _all(settings)
        if name.lower() in found.version.name
        and all(word in _words(found) for word in text.lower().split())
        and all(not wanted or wanted in _values(found, key) for key, wanted in asked.items())
    )


def _all(settings: Settings) -> list[Found]:
    root = settings.data_repository
    if not (root / ".git").exists():
        return []
    versions = latest_of_all(root)
    places = {version.tag: f"{version.commit}:{facts_file(version.name)}" for version in versions}
    later = {version.tag: f"HEAD:{records_file(version.name)}" for version in versions}
    texts = repository.read(root, [*places.values(), *later.values()])
    found = []
    for version in versions:
        records = read_records(texts.get(later[version.tag], ""))
        facts = read_facts(version.tag, version.hash, texts.get(places[version.tag], ""), records)
        found.append(Found(version=version, facts=facts, columns=columns_in(facts.profile)))
    return found


def _values(found: Found, key: str) -> Collection[str]:
    card = found.facts.card
    many = {"keyword": card.keywords, "column": found.columns, "licence": (card.licence,)}
    return {value.lower() for value in many[key]}


def _words(found: Found) -> str:
    card = found.facts.card
    return " ".join((found.version.name, card.description, card.purpose, card.owner, *card.keywords)).lower()
