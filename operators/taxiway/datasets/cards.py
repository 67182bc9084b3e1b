"""What is said of dataset versions: read, said anew, and inherited by what was made of them.

Nothing that was said is ever overwritten: a change is a line in the dataset's records, with who, when and why,
committed and pushed like a version. Which words stand in the way of promotion is decided in `policy.py`.
"""

import getpass
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.arguments import typed
from taxiway.datasets import repository
from taxiway.datasets.ancestry import Ancestry
from taxiway.datasets.facts import (
    UNTRACEABLE,
    Card,
    Facts,
    Origin,
    Record,
    facts_file,
    read_facts,
    read_records,
    records_file,
)
from taxiway.datasets.lookup import versions_of
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import DatasetNotFoundError, InvalidSpecError
from taxiway.provenance import Provenance
from taxiway.settings import Settings

_AGAIN = "said by a later snapshot of the same bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """One value of a card, and who said it of which version.

    Attributes:
        value: What was said.
        tag: Of which version.
        by: Who said it; empty for what came with the version.
        why: Their reason; empty likewise.
    """

    value: str
    tag: str
    by: str = ""
    why: str = ""


def facts(version: DatasetVersion, settings: Settings) -> Facts:
    """Return what this clone of the data repository says of a version; one that it does not know is asked for first."""
    root, own, later = settings.data_repository, facts_file(version.name), records_file(version.name)
    places = f"{version.commit}:{own}", f"HEAD:{later}"
    found = repository.read(root, places) if (root / ".git").exists() else {}
    if places[0] not in found:
        found = repository.read(repository.catch_up(settings), places)
    records = read_records(found.get(places[1], ""))
    return read_facts(version.tag, version.hash, found.get(places[0], ""), records)


@typed
def describe(version: DatasetVersion, settings: Settings, *, by: str, why: str, **card: Any) -> Facts:
    """Say something of a version that is there; what was said before stays on record.

    Args:
        version: Of which version.
        settings: Which data repository.
        by: Who says it.
        why: For what reason.
        card: What is said: `licence`, `personal_data`, `purpose`, `owner`, `description`, `keywords`.

    Raises:
        InvalidSpecError: If nobody says it, or nothing is said, or a value is none; with every fault.
        ToolFailedError: If git fails; trying again is safe.
    """
    said = Card.from_json(card)
    faults = [f"{name} must be given" for name, text in (("by", by), ("why", why)) if not text.strip()]
    if faults or not said.to_json():
        raise InvalidSpecError(
            (*faults, *(() if said.to_json() else ("nothing is said",))), f"card of {version.tag}"
        )
    _say(version, said, settings, by=by, why=why)
    return facts(version, settings)


def complete(
    version: DatasetVersion,
    card: Card,
    settings: Settings,
    *,
    origin: Origin | None,
    by: str,
    log: Callable[[str], None],
) -> None:
    """Say of a version what nobody said of it yet; what somebody said is left to `describe`."""
    said = facts(version, settings)
    known = said.card.to_json()
    fresh = {name: value for name, value in card.to_json().items() if name not in known}
    for name, value in card.to_json().items():
        if name not in fresh and known[name] != value:
            log(
                f"{version.tag} keeps its {name} {known[name]!r}, not {value!r}: describe() changes what was said"
            )
    made_of = {version.tag, *(tag for each in said.origins for tag in each.parents)}
    new = origin if origin is not None and (origin.parents.keys() - made_of or _mends(origin, said)) else None
    if fresh or new is not None:
        _say(version, Card.from_json(fresh), settings, by=by, why=_AGAIN, origin=new)


def sayings(version: DatasetVersion, key: str, settings: Settings) -> tuple[Saying, ...]:
    """Return what holds for a version: its own word, or else those of the versions that it was made of.

    What is said with an append is said of the files that it adds: what holds for the others goes on holding. A version
    of which nobody said anything, nor of what it was made of, follows the version before it. What it was made of speaks
    under every name that its bytes have.

    Args:
        version: Which version.
        key: `licence`, `personal_data`, `purpose` or `owner`.
        settings: Which data repository.

    Raises:
        InvalidSpecError: If a version that it was made of is not in this data repository.
    """
    return said_of(version, key, Ancestry(settings))


def said_of(version: DatasetVersion, key: str, known: Ancestry) -> tuple[Saying, ...]:
    """Return the same as `sayings`, of versions that were read before."""
    return tuple(_Words(known, key).of(version))


def silent(version: DatasetVersion, key: str, known: Ancestry) -> DatasetVersion | None:
    """Return a version in which are data of which nobody said anything, however far back; None where there is none.

    Unlike `sayings` it takes no word from the version before: what came from outside since may be anything.

    Args:
        version: Which version.
        key: As of `sayings`.
        known: Versions that were read before.

    Raises:
        InvalidSpecError: As `sayings` does.
    """
    open_, met = [version], {version.hash}
    while open_:
        each = open_.pop()
        names = known.under_every_name(each)
        facts_of = [known.facts(name) for name in names]
        words = [_own(name, key, said) for name, said in zip(names, facts_of, strict=True)]
        if any(holds_whole for _, holds_whole in words):
            continue
        if not any(own for own, _ in words) and not any(map(_is_made, facts_of)):
            return each
        parents = {
            tag: name.tag for name, said in zip(names, facts_of, strict=True) for tag in _made_of(said)
        }
        sources = [_parent(known, tag, child) for tag, child in parents.items()]
        fresh = {source.hash: source for source in sources if source.hash not in met}
        met |= fresh.keys()
        open_ += fresh.values()
    return None


def _is_made(said: Facts) -> bool:
    """Tell whether all bytes of a version were made of others, in one of the ways that are known."""
    return any(origin.parents and not _is_part(origin) for origin in said.origins)


def _made_of(said: Facts) -> list[str]:
    return [tag for origin in said.origins for tag in origin.parents]


def foreseen(name: str, card: Card, origin: Origin | None, key: str, settings: Settings) -> tuple[str, ...]:
    """Return what will hold for a version that is to be made, as `sayings` will have it.

    Raises:
        InvalidSpecError: As `sayings` does.
    """
    own = str(getattr(card, key))
    if own and not _is_part(origin):
        return (own,)
    known = Ancestry(settings)
    parents = [_parent(known, tag, name) for tag in (origin.parents if origin else ())]
    values = [*([own] if own else []), *_values(parents, key, known)]
    return tuple(values or _values(versions_of(settings.data_repository, name)[:1], key, known))


def _values(versions: Iterable[DatasetVersion], key: str, known: Ancestry) -> list[str]:
    named = [each for version in versions for each in known.under_every_name(version)]
    return [saying.value for each in named for saying in said_of(each, key, known)]


def maker(provenance: Provenance | None) -> dict[str, str]:
    """Return who makes a version: an Airflow task instance, whatever its try, or a person."""
    return dict(provenance.identity()) if provenance else {"person": getpass.getuser()}


def name_of(made_by: Mapping[str, str]) -> str:
    """Return who made a version, in words."""
    return made_by.get("person") or " ".join(["airflow", *made_by.values()])


def _say(
    version: DatasetVersion,
    card: Card,
    settings: Settings,
    *,
    by: str,
    why: str,
    origin: Origin | None = None,
) -> None:
    record = Record(
        version=version.version,
        hash=version.hash,
        at=repository.now(),
        by=by.strip(),
        why=why.strip(),
        card=card,
        origin=origin,
    )
    file = records_file(version.name)

    def attempt(root: Path) -> str | None:
        text = repository.read(root, [f"HEAD:{file}"]).get(f"HEAD:{file}", "")
        return repository.record(root, {file: text + record.line}, f"{version.tag}: {record.why}")

    repository.in_turn(settings, attempt)


class _Words:
    """What holds for versions under one key, each worked out once, the oldest first.

    Args:
        known: Versions and their facts.
        key: Of the card.
    """

    def __init__(self, known: Ancestry, key: str) -> None:
        self._known, self._key = known, key
        self._found: dict[str, list[Saying]] = {}

    def of(self, version: DatasetVersion) -> list[Saying]:
        """Return what holds for a version.

        Raises:
            InvalidSpecError: As `sayings` does.
        """
        open_: dict[str, DatasetVersion] = {version.tag: version}
        while open_:
            tag, each = next(reversed(open_.items()))
            sources = self._sources(each, open_)
            missing = next((one for one in sources if not self._is_met(one, open_)), None)
            if missing is not None:
                open_[missing.tag] = missing
            else:
                own, _ = _own(each, self._key, self._known.facts(each))
                self._found.setdefault(tag, list(dict.fromkeys([*own, *self._of_all(sources)])))
                del open_[tag]
        return self._found[version.tag]

    def _sources(self, version: DatasetVersion, open_: Mapping[str, object]) -> list[DatasetVersion]:
        """Return the versions whose words are needed for this one's: what it was made of, else the one before it."""
        own, holds_whole = _own(version, self._key, self._known.facts(version))
        if holds_whole:
            return []
        parents = self._parents(version)
        if own or not all(self._is_met(each, open_) for each in parents) or self._of_all(parents):
            return parents
        before = self._known.before(version)
        return self._named(version, [*parents, before]) if before else parents

    def _is_met(self, version: DatasetVersion, open_: Mapping[str, object]) -> bool:
        """Tell whether a version's words are known, or are being looked for: bytes may be made of one another."""
        return version.tag in self._found or version.tag in open_

    def _parents(self, version: DatasetVersion) -> list[DatasetVersion]:
        tags = dict.fromkeys(tag for origin in self._known.facts(version).origins for tag in origin.parents)
        return self._named(version, [_parent(self._known, tag, version.tag) for tag in tags])

    def _named(self, child: DatasetVersion, versions: Iterable[DatasetVersion]) -> list[DatasetVersion]:
        """Return what a version was made of under every name that the bytes have, but for its own."""
        every = (each for version in versions for each in self._known.under_every_name(version))
        return list({each.tag: each for each in every if each.tag != child.tag}.values())

    def _of_all(self, versions: Iterable[DatasetVersion]) -> list[Saying]:
        return [saying for each in versions for saying in self._found.get(each.tag, ())]


def _own(version: DatasetVersion, key: str, known: Facts) -> tuple[list[Saying], bool]:
    """Return a version's own word, if it has one, and whether that was said of all that it holds."""
    value = str(getattr(known.card, key))
    if not value:
        return [], False
    later = next((record for record in reversed(known.records) if getattr(record.card, key)), None)
    by, why = (later.by, later.why) if later else ("", "")
    is_described = later is not None and later.why != _AGAIN
    # What came with the same bytes once more was said of whatever these were made of then.
    origins = known.origins if later is not None else (known.origin,)
    holds_whole = is_described or not any(_is_part(each) for each in origins)
    return [Saying(value=value, tag=version.tag, by=by, why=why)], holds_whole


def _mends(origin: Origin, said: Facts) -> bool:
    """Tell whether bytes of which nobody knew what made them have now been made in a way that is known."""
    is_marked = bool(said.origins) and all(each.details.get(UNTRACEABLE) for each in said.origins)
    return is_marked and not origin.details.get(UNTRACEABLE)


def _is_part(origin: Origin | None) -> bool:
    """Return whether the card of what has this origin speaks of a part of its files."""
    return origin is not None and origin.kind == "append"


def _parent(known: Ancestry, tag: str, child: str) -> DatasetVersion:
    try:
        return known.version(tag)
    except DatasetNotFoundError as missing:
        fault = f"{child} was made of {tag}, which is not in this data repository: nobody can say what holds for it"
        raise InvalidSpecError((fault,), f"origin of {child}") from missing
