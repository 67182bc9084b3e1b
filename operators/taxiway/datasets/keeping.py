"""Keeps a draft as a dataset version: bytes to the cache, bytes to the remote, then one commit and its tag.

Bytes are named after their content, so any number of processes may bring them at once; only the commit is made in turn.
What a draft holds is decided in `versions.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxiway.datasets import cards, remote, repository
from taxiway.datasets.ancestry import Ancestry
from taxiway.datasets.facts import Card, Origin, facts_file, facts_text
from taxiway.datasets.lookup import version_of, versions_of
from taxiway.datasets.profile import profile_of, without_values
from taxiway.datasets.store import Listing
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import InvalidSpecError
from taxiway.settings import Settings

_HARMLESS = ("", "none", "pseudonymous")
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A version that is to be, and all that is said of it.

    Attributes:
        name: Of the dataset.
        listing: What it holds.
        data: How much that is.
        paths: The files that are on this host by their relative path; the others are kept already.
        message: Of the commit; empty for one of ours.
        card: What is said of it.
        origin: What it was made of.
        made_by: Who asked.
        known: Profiles of the files that are not on this host.
        base: Number of the version that must be the newest still when this one is made after it; None for any.
    """

    name: str
    listing: Listing
    data: repository.Output
    paths: Mapping[str, Path]
    message: str
    card: Card
    origin: Origin | None
    made_by: Mapping[str, str]
    known: Mapping[str, Any] = field(default_factory=dict)
    base: int | None = None


class OvertakenError(Exception):
    """Somebody else made a version after the one that a draft goes on from: decide anew what it holds."""


def keep(draft: Draft, settings: Settings, log: Log) -> DatasetVersion:
    """Return the version that holds a draft's bytes, made if there is none yet.

    Raises:
        OvertakenError: If a newer version than the draft's base was made meanwhile.
    """
    root = repository.catch_up(settings)
    found = _held(root, draft)
    if found is not None:
        log(f"{found.tag} already holds these bytes: no new version")
    else:
        sources = {draft.listing.files[file]: path for file, path in draft.paths.items()}
        remote.cache(root).take(draft.listing, sources)
        profile = profile_of(draft.paths, draft.known)
        if _is_personal(draft, settings):
            profile = without_values(profile)
        remote.push(root, draft.listing, draft.data)
        found = repository.in_turn(settings, lambda root: _held(root, draft) or _made(root, draft, profile))
        log(f"{found.tag}: {found.files} files, {found.size_bytes} bytes, {found.hash}")
    by = cards.name_of(draft.made_by)
    cards.complete(found, draft.card, settings, origin=draft.origin, by=by, log=log)
    return found


def _is_personal(draft: Draft, settings: Settings) -> bool:
    """Return whether a draft's values are kept out of Git: by its own word, one that it inherits, or another name's."""
    key, known = "personal_data", Ancestry(settings)
    try:
        said = cards.foreseen(draft.name, draft.card, draft.origin, key, settings)
        elsewhere = [cards.said_of(each, key, known) for each in known.holding(draft.data.hash)]
    except InvalidSpecError:
        # Nobody can say what holds for it; what is once in Git cannot be taken back.
        return True
    values = (*said, *(saying.value for sayings in elsewhere for saying in sayings))
    return any(value not in _HARMLESS for value in values)


def _held(root: Path, draft: Draft) -> DatasetVersion | None:
    """Return the version that holds a draft's bytes, pushed: whoever made it may have been killed before that."""
    for version in versions_of(root, draft.name):
        if version.hash == draft.data.hash:
            repository.publish(root, version.tag)
            return version
    return None


def _made(root: Path, draft: Draft, profile: Mapping[str, Any]) -> DatasetVersion | None:
    number = max(repository.tagged(root, draft.name), default=0) + 1
    if draft.base is not None and number != draft.base + 1:
        raise OvertakenError
    said = facts_text(draft.data.hash, draft.card, draft.origin, profile, repository.now(), draft.made_by)
    files = {
        f"{draft.name}.dvc": draft.data.text(draft.name),
        ".gitignore": _ignoring(root, draft.name),
        facts_file(draft.name): said,
    }
    tag = f"{draft.name}@v{number}"
    message = draft.message or f"{draft.name} v{number}"
    commit = repository.record(root, files, message, tag=(tag, repository.tag_message(draft.data)))
    if commit is None:
        return None
    return version_of(root, draft.name, number, repository.tagged(root, draft.name)[number])


def _ignoring(root: Path, name: str) -> str:
    """Return the .gitignore that keeps a checked-out dataset out of Git."""
    text = repository.read(root, ["HEAD:.gitignore"]).get("HEAD:.gitignore", "")
    return text if f"/{name}" in text.splitlines() else f"{text.rstrip()}\n/{name}\n".lstrip()
