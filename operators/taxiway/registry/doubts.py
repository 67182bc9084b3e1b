"""Names the edges of a model's lineage that nobody could walk back, although something is known of each.

A doubt is a sentence. Who refuses for one, and where it is a mark instead, is decided in `models.py`.
"""

from taxiway.datasets import cards
from taxiway.datasets.facts import UNTRACEABLE, Origin
from taxiway.datasets.lookup import get
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import DatasetNotFoundError
from taxiway.packaging.package import CodePackage
from taxiway.settings import Settings
from taxiway.trace import Trace


def of_code(*packages: CodePackage) -> tuple[str, ...]:
    """Return which of these packages were made of code that is in no commit."""
    return tuple(
        f"{made.kind} code has no Git commit; commit its project, package and register it again"
        for made in packages
        if not made.commit
    )


def of_run(made: CodePackage, trace: Trace | None) -> tuple[str, ...]:
    """Return what a run of a package was seen to do beside what it was to do."""
    if trace is None:
        return (f"nobody watched which code the {made.kind} ran and what it read",)
    if trace.source_hash == made.source_hash:
        return trace.faults
    ran, packaged = trace.source_hash[:12], made.source_hash[:12]
    return (f"the code that ran has the hash {ran}, its package {packaged}", *trace.faults)


def of_data(version: DatasetVersion, settings: Settings) -> tuple[str, ...]:
    """Return the doubts about what made a dataset version, and about what that was made of, however far.

    Raises:
        ToolFailedError: If the data repository cannot be asked.
    """
    return tuple(dict.fromkeys(_of_data(version, settings, frozenset())))


def _of_data(version: DatasetVersion, settings: Settings, seen: frozenset[str]) -> list[str]:
    """Return the doubts about bytes: none where they came from outside, or were made once in a way that has none."""
    known = cards.facts(version, settings)
    ways = [_of_origin(version, origin, settings, seen | {version.tag}) for origin in known.origins]
    is_known = known.origin is None or not all(ways)
    return [] if is_known else [doubt for way in ways for doubt in way]


def _of_origin(
    version: DatasetVersion, origin: Origin, settings: Settings, seen: frozenset[str]
) -> list[str]:
    own = [f"its data {version.tag}: {reason}" for reason in origin.details.get(UNTRACEABLE, ())]
    return own + [
        doubt
        for tag in origin.parents
        if tag not in seen
        for doubt in _of_parent(tag, version, settings, seen)
    ]


def _of_parent(tag: str, child: DatasetVersion, settings: Settings, seen: frozenset[str]) -> list[str]:
    try:
        parent = get(tag.partition("@")[0], tag, settings)
    except DatasetNotFoundError:
        return [f"its data {child.tag} was made of {tag}, which is not in this data repository"]
    return _of_data(parent, settings, seen)
