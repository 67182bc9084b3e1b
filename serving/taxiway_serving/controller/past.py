"""Which version of a handle's past an undo goes back to. Pure: nothing is stored or asked here."""

from collections.abc import Sequence

from taxiway_serving.errors import ConflictError, InvalidSpecError, NotFoundError
from taxiway_serving.ledger.store import Endpoint


def undo_target(
    endpoint: Endpoint,
    past: Sequence[tuple[float, int]],
    *,
    version: int | None,
    at_s: float | None,
    now_s: float,
    window: int,
) -> int:
    """Return the version to go back to.

    Args:
        endpoint: The handle's desired state.
        past: When which version went live, the first one first.
        version: Which version; None is the one before.
        at_s: The version that was live at this time instead, in seconds since the epoch.
        now_s: Seconds since the epoch.
        window: So many versions that were live before may be gone back to at once.

    Raises:
        NotFoundError: If there is no earlier version, or none was live then.
        InvalidSpecError: If both a version and a time are given, or a time to come.
        ConflictError: If the version has not been live lately, and has to prove itself anew.
    """
    if at_s is not None:
        _check_time(at_s, version, now_s)
        version = next((found for since_s, found in reversed(past) if since_s <= at_s), None)
        if version is None:
            raise NotFoundError("live version", f"{endpoint.handle} at {at_s:.0f}", "it went live later")
    target = version if version is not None else endpoint.previous
    if target is None:
        raise NotFoundError("earlier version of", endpoint.handle, "there is nothing to undo")
    recent = list(dict.fromkeys(found for _, found in reversed(past)))[: window + 1]
    if target not in (endpoint.previous, endpoint.stable, *recent):
        what = f"is not among the last {window} that were live"
        next_step = "roll it out as a candidate: it has to prove itself anew"
        raise ConflictError(f"{endpoint.handle}/{target}", what, next_step)
    return target


def _check_time(at_s: float, version: int | None, now_s: float) -> None:
    faults = []
    if version is not None:
        faults.append(f"got version {version} and at_s {at_s:.0f}; give one of them")
    if at_s > now_s:
        faults.append(f"at_s {at_s:.0f} is yet to come; now is {now_s:.0f}")
    if faults:
        raise InvalidSpecError(tuple(faults), "undo")
