"""Finds datasets by what is said of them and by what is in them. Newest versions are shown; no bytes are looked at.

What nobody said of the newest version is what was said before it: a dataset is found after an append as before it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from taxiway.arguments import typed
from taxiway.datasets import repository
from taxiway.datasets.ancestry import Ancestry
from taxiway.datasets.cards import said_of
from taxiway.datasets.facts import Facts, facts_file, read_facts, read_records, records_file
from taxiway.datasets.lookup import latest_of_all
from taxiway.datasets.profile import columns_in
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import InvalidSpecError
from taxiway.settings import Settings

_INHERITED: Final = ("licence", "personal_data", "purpose", "owner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A dataset that a search found.

    Attributes:
        version: Its newest version.
        facts: What is said of that one.
        words: What holds for it by key of a card: of an appended one a licence is that of each part. Description and
            keywords are the newest that there are.
        columns: Names of the columns in its tables.
    """

    version: DatasetVersion
    facts: Facts
    words: Mapping[str, tuple[str, ...]]
    columns: tuple[str, ...]

    @property
    def text(self) -> str:
        """One line for people."""
        size = f"{self.version.tag}: {self.version.files} files, {self.version.size_bytes} bytes"
        personal = [f"personal data: {value}" for value in self.words["personal_data"]]
        said = (self.words["licence"], personal, self.words["description"], self.words["keywords"])
        return "; ".join(part for part in (size, *map(", ".join, said)) if part)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        words = {key: list(values) for key, values in self.words.items() if values}
        return self.version.to_json() | {"words": words, "columns": list(self.columns)}


@typed
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
    known = Ancestry(settings)
    found = []
    for version in versions:
        records = read_records(texts.get(later[version.tag], ""))
        facts = read_facts(version.tag, version.hash, texts.get(places[version.tag], ""), records)
        words = _holding(version, facts, known)
        found.append(Found(version=version, facts=facts, words=words, columns=columns_in(facts.profile)))
    return found


def _holding(version: DatasetVersion, facts: Facts, known: Ancestry) -> dict[str, tuple[str, ...]]:
    """Return what holds for a version; those before it are read only where it does not say all itself."""
    card = facts.card
    own = {key: (value,) if (value := getattr(card, key)) else () for key in (*_INHERITED, "description")}
    words = {**own, "keywords": card.keywords}
    if all(words.values()) and not facts.origins:
        return words
    inherited = {key: _said(version, key, known) or words[key] for key in _INHERITED}
    newest = {key: words[key] or _newest(version, key, known) for key in ("description", "keywords")}
    return inherited | newest


def _said(version: DatasetVersion, key: str, known: Ancestry) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(saying.value for saying in said_of(version, key, known)))
    except InvalidSpecError:
        # What it was made of is not here; what it says itself is.
        return ()


def _newest(version: DatasetVersion, key: str, known: Ancestry) -> tuple[str, ...]:
    """Return the newest word that an earlier version of a dataset has under a key."""
    before = known.before(version)
    while before is not None:
        value = getattr(known.facts(before).card, key)
        if value:
            return (value,) if isinstance(value, str) else tuple(value)
        before = known.before(before)
    return ()


def _values(found: Found, key: str) -> Collection[str]:
    many = {**found.words, "column": found.columns, "keyword": found.words["keywords"]}
    return {value.lower() for value in many[key]}


def _words(found: Found) -> str:
    said = (found.words[key] for key in ("description", "purpose", "owner", "keywords"))
    return " ".join((found.version.name, *chain.from_iterable(said))).lower()
