"""Users' own comparisons: functions of installed packages, found by the entry point group `taxiway.comparisons`.

    [project.entry-points."taxiway.comparisons"]
    boxes = "my_package.compare:boxes_overlap"

Such a function takes two successful responses and returns whether they agree. It runs in the controller's process.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Final

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.evidence.matching import Agree

GROUP: Final = "taxiway.comparisons"


def installed() -> tuple[str, ...]:
    """Return the names of all comparisons that are installed, in order. Nothing of them is imported."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def check_installed(name: str) -> str:
    """Return the name of a comparison unchanged if it is installed; its package is not imported yet.

    Raises:
        InvalidSpecError: If it is not; the message names those that are.
    """
    _point(name)
    return name


def load(name: str) -> Agree:
    """Import a comparison.

    Raises:
        InvalidSpecError: If it is not installed, cannot be imported or is no function.
    """
    try:
        found: object = _point(name).load()
    except InvalidSpecError:
        raise
    except Exception as exc:
        fault = f"cannot be imported: {type(exc).__name__}: {exc}"
        raise InvalidSpecError((fault,), f"comparison {name!r}") from exc
    if not callable(found):
        raise InvalidSpecError((f"must be a function, got {found!r:.80}",), f"comparison {name!r}")
    agree: Agree = found
    return agree


def _point(name: str) -> EntryPoint:
    points = entry_points(group=GROUP, name=name)
    if not points:
        known = ", ".join(installed()) or "none"
        fault = f"no installed package has an entry point of this name in {GROUP}; there are: {known}"
        raise InvalidSpecError((fault,), f"comparison {name!r}")
    return next(iter(points))
