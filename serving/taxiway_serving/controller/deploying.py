"""What asking for a variant changes, and what letting it go does. Values in, one `Change` out; nothing is stored."""

from dataclasses import replace

from taxiway_serving.controller.changes import UNUSED_S, note_of
from taxiway_serving.errors import ConflictError, NotFoundError
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Variant, Wish
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.runtimes.runtime import VariantSpec


def deployed(spec: VariantSpec, fleet: Fleet, actor: str, now_s: float) -> Change:
    """Return what asking for a variant changes; one that runs already stays as it is, wherever it is.

    Raises:
        ConflictError: If that version is needed with another content: a version is never ambiguous.
    """
    endpoint = fleet.endpoint(spec.handle) or Endpoint(handle=spec.handle)
    known, is_needed = fleet.variant(spec.handle, spec.version), _is_needed(spec.version, endpoint, fleet)
    is_same = known is not None and VariantSpec.from_json(known.spec).digest() == spec.digest()
    if known and not is_same and is_needed:
        next_step = "register a new model version and deploy that one"
        raise ConflictError(f"{spec.handle}/{spec.version}", "is live with another content", next_step)
    wanted = Variant(
        handle=spec.handle,
        version=spec.version,
        spec=spec.to_json(),
        retire_at_s=None if is_needed else now_s + UNUSED_S,
        asked_at_s=now_s,
    )
    if known and is_same and known.wish is Wish.RUNNING:
        return Change(endpoints=(endpoint,), variants=(_run_on(known, wanted, now_s),))
    body = {"version": spec.version, "model": spec.model, "lineage": dict(spec.lineage)}
    note = note_of(now_s, spec.handle, "deployed", actor, "asked to run", body)
    return Change(endpoints=(endpoint,), variants=(wanted,), notes=(note,))


def let_go(handle: str, version: int, fleet: Fleet, actor: str, now_s: float) -> Change:
    """Return what letting a variant go changes; nothing where it is going already.

    Raises:
        NotFoundError: If there is no such variant.
        ConflictError: If it is live, or a rollout needs it.
    """
    variant, endpoint = fleet.variant(handle, version), fleet.endpoint(handle)
    if variant is None:
        raise NotFoundError("variant", f"{handle}/{version}")
    is_live = endpoint is not None and endpoint.split is not None and version in endpoint.split.parts
    if is_live or version in _rolled_out(handle, fleet):
        next_step = "roll out another version first"
        raise ConflictError(f"{handle}/{version}", "has traffic or a rollout", next_step)
    is_going = variant.retire_at_s is not None and variant.retire_at_s <= now_s
    if is_going or variant.wish is not Wish.RUNNING:
        return Change()
    note = note_of(now_s, handle, "retired", actor, "asked to go", {"version": version})
    return Change(variants=(replace(variant, retire_at_s=now_s),), notes=(note,))


def _run_on(known: Variant, wanted: Variant, now_s: float) -> Variant:
    """Return what is wanted of a variant that runs, with all that is known of where and how it does."""
    stays_s = wanted.retire_at_s
    if stays_s is None and known.retire_at_s is not None:
        # One that is kept warm for an undo has the time to be proven as well, as any other has.
        stays_s = max(known.retire_at_s, now_s + UNUSED_S)
    return replace(
        wanted,
        host=known.host,
        port=known.port,
        replicas=known.replicas,
        scaled_to=known.scaled_to,
        retire_at_s=stays_s,
        ready_at_s=known.ready_at_s,
        failed_at_s=known.failed_at_s,
    )


def _is_needed(version: int, endpoint: Endpoint, fleet: Fleet) -> bool:
    """Return whether a version is live, may be gone back to, is being rolled out, or waits for that."""
    return version in (endpoint.stable, endpoint.previous) or version in _rolled_out(endpoint.handle, fleet)


def _rolled_out(handle: str, fleet: Fleet) -> set[int]:
    """Return the versions that the handle's rollouts bring, those that wait for their turn included."""
    mine = [each for each in fleet.rollouts if each.spec.handle == handle]
    return {version for each in mine for version in candidates_of(each.spec, each.state)}
