"""Names the edges of a model's lineage that nobody could walk back, although something is known of each.

A doubt is a sentence. Who refuses for one, and where it is a mark instead, is decided in `models.py`.
"""

from collections.abc import Mapping

from taxiway.datasets.ancestry import Ancestry
from taxiway.datasets.facts import UNTRACEABLE, Origin
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
    known = Ancestry(settings)
    found: dict[str, list[str]] = {}
    open_: dict[str, DatasetVersion] = {version.tag: version}
    while open_:
        tag, each = next(reversed(open_.items()))
        origins = known.facts(each).origins
        parents = {tag: _parent(known, tag) for origin in origins for tag in origin.parents}
        unknown = (one for one in parents.values() if one and one.tag not in (*found, *open_))
        missing = next(unknown, None)
        if missing is not None:
            open_[missing.tag] = missing
        else:
            found[tag] = _of_bytes(each, known, parents, found)
            del open_[tag]
    return tuple(dict.fromkeys(found[version.tag]))


def _of_bytes(
    version: DatasetVersion,
    known: Ancestry,
    parents: Mapping[str, DatasetVersion | None],
    found: Mapping[str, list[str]],
) -> list[str]:
    """Return the doubts about bytes: none where they came from outside, or were made once in a way that has none."""
    said = known.facts(version)
    ways = [_of_origin(version, origin, parents, found) for origin in said.origins]
    is_known = said.origin is None or not all(ways)
    return [] if is_known else [doubt for way in ways for doubt in way]


def _of_origin(
    version: DatasetVersion,
    origin: Origin,
    parents: Mapping[str, DatasetVersion | None],
    found: Mapping[str, list[str]],
) -> list[str]:
    doubts = [f"its data {version.tag}: {reason}" for reason in origin.details.get(UNTRACEABLE, ())]
    for tag in origin.parents:
        if parents[tag] is None:
            doubts.append(f"its data {version.tag} was made of {tag}, which is not in this data repository")
        doubts += found.get(tag, ())
    return list(dict.fromkeys(doubts))


def _parent(known: Ancestry, tag: str) -> DatasetVersion | None:
    try:
        return known.version(tag)
    except DatasetNotFoundError:
        return None
