"""What the law and the house allow: which words about training data stand in the way of promotion, and the reasons.

The rules are a file of the data repository, `policy.toml`, so that they have an author, a date and a history, and hold
for every host and DAG alike. What is said of a version is read in `cards.py`; who refuses is not decided here.
"""

import tomllib
from collections.abc import Callable, Sequence
from typing import Any

from taxiway.datasets import repository
from taxiway.datasets.ancestry import Ancestry
from taxiway.datasets.cards import Saying, said_of, silent
from taxiway.datasets.facts import PERSONAL_DATA
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import InvalidSpecError
from taxiway.settings import Settings

FILE = "policy.toml"
KEYS = ("licence", "personal_data", "purpose", "owner")
UNKNOWN = "unknown"


def promotion_faults(version: DatasetVersion, settings: Settings) -> tuple[str, ...]:
    """Return why a model trained on a version may not be promoted; nothing where nothing stands in the way.

    Equal bytes are judged under every name that they have, and so are those that a version was made of: what is
    forbidden stays so when it is called otherwise. The newest rules and words apply, those of the data repository's
    origin where it has one. What a version does not say itself, the versions that it was made of say. Rules that cannot
    be read forbid.

    Args:
        version: What the model was trained on.
        settings: Which data repository.

    Raises:
        ToolFailedError: If the origin does not answer: nobody knows whether the version is still allowed.
    """
    root = repository.catch_up(settings)
    text = repository.read(root, [f"HEAD:{FILE}"]).get(f"HEAD:{FILE}", "")
    try:
        rules = _rules(text)
        known = Ancestry(settings)
        names = known.under_every_name(version)
        said = {
            key: [(each, said_of(each, key, known)) for each in names] for key in {key for key, _ in rules}
        }
    except InvalidSpecError as faults:
        return faults.faults
    return tuple(fault for key, word in rules for fault in _faults(version, key, word, said[key], known))


def _faults(
    version: DatasetVersion,
    key: str,
    word: str,
    said: Sequence[tuple[DatasetVersion, tuple[Saying, ...]]],
    known: Ancestry,
) -> list[str]:
    """Return what breaks a rule under any of the names that the bytes have; silence, only where all are silent."""
    if word == UNKNOWN:
        of = silent(version, key, known)
        return [] if of is None else [_reason(version, key, Saying(value="", tag=of.tag))]
    return [_reason(each, key, saying) for each, words in said for saying in _hits(word, words)]


def _rules(text: str) -> list[tuple[str, str]]:
    """Return the forbidden words, in lower case, each with its key; the word is empty where any is forbidden.

    Raises:
        InvalidSpecError: If the file is none of rules; with every fault.
    """
    try:
        table: dict[str, Any] = tomllib.loads(text)
        promotion = dict(table.get("promotion", {}).items())
        unknown = [name for name in table if name != "promotion"]
        unknown += [f"promotion.{name}" for name in promotion if name != "forbidden"]
        forbidden = promotion.get("forbidden", [])
    except (tomllib.TOMLDecodeError, AttributeError) as broken:
        raise InvalidSpecError((f"{FILE} of the data repository cannot be read: {broken}",), FILE) from broken
    if not isinstance(forbidden, list):
        raise InvalidSpecError((f"{FILE}: promotion.forbidden must be a list, got {forbidden!r}",), FILE)
    parted = [str(rule).lower().partition(":") for rule in forbidden]
    rules = [(key.strip(), word.strip()) for key, _, word in parted]
    faults = [f"{FILE} has {name}, which means nothing; it has promotion.forbidden alone" for name in unknown]
    faults += [
        f"{FILE}: no rule knows {key!r}; known are {', '.join(KEYS)}" for key, _ in rules if key not in KEYS
    ]
    faults += [
        f"{FILE}: personal_data is never {word!r}; it is one of {', '.join(PERSONAL_DATA)}"
        for key, word in rules
        if key == "personal_data" and word not in ("", UNKNOWN, *PERSONAL_DATA)
    ]
    if faults:
        raise InvalidSpecError(tuple(faults), FILE)
    return rules


def _hits(word: str, said: tuple[Saying, ...]) -> tuple[Saying, ...]:
    is_hit: Callable[[str], bool] = (
        (lambda value: value != "none") if not word else (lambda value: value == word)
    )
    return tuple(saying for saying in said if is_hit(saying.value.lower()))


def _reason(version: DatasetVersion, key: str, said: Saying) -> str:
    shown = key.replace("_", " ")
    if not said.value:
        where = "" if said.tag == version.tag else f", of which {version.tag} was made,"
        return f"nobody said of {said.tag}{where} what its {shown} is, and {FILE} forbids that: say it with describe()"
    where = "" if said.tag == version.tag else f", because {said.tag} has"
    who = f" (said by {said.by}: {said.why})" if said.by else ""
    return f"{version.tag} has the {shown} {said.value!r}{where}{who}, which {FILE} of the data repository forbids"
