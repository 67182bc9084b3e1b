"""What a caller asks for by a name of his own: once, again, or once more as a retry. Pure."""

from taxiway_serving.errors import ConflictError
from taxiway_serving.ledger.store import Rollout
from taxiway_serving.rollout.spec import RolloutSpec


def same(known: Rollout, spec: RolloutSpec) -> Rollout:
    """Return a rollout that was asked for before.

    Raises:
        ConflictError: If its name stands for another one now.
    """
    if (known.spec.handle, known.spec.version) != (spec.handle, spec.version):
        asked = f"{known.spec.handle}/{known.spec.version}, not {spec.handle}/{spec.version}"
        raise ConflictError(
            f"rollout {spec.id}", f"was asked for {asked}", "give the new rollout an id of its own"
        )
    return known


def same_undo(known: Rollout, handle: str, version: int | None) -> Rollout:
    """Return an undo that was asked for before; the name of anything else is not the name of an undo.

    Raises:
        ConflictError: If it is another rollout, or went to another version than the one that is named now.
    """
    spec = known.spec
    is_same = spec.strategy == "undo" and spec.handle == handle and version in (None, spec.version)
    if not is_same:
        what = f"is {spec.strategy} of {spec.handle}/{spec.version}"
        raise ConflictError(f"rollout {spec.id}", what, "give the undo an id of its own")
    return known


def next_name(name: str) -> str:
    """Return what a retry is called: `green~1` after `green`, `green~2` after `green~1`."""
    base, mark, number = name.rpartition("~")
    return f"{base}~{int(number) + 1}" if mark and number.isdecimal() else f"{name}~1"
