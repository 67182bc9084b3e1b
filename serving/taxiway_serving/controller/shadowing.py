"""Keeping a shadow rollout's comparison going: a second copy of stable runs, and the comparator knows whom to ask."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from taxiway_serving.controller.looking import World
from taxiway_serving.criterion import Criterion
from taxiway_serving.errors import TaxiwayError, TransportError
from taxiway_serving.evidence.comparison import Comparison
from taxiway_serving.ledger.store import Fleet, Rollout
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.observation import Compared
from taxiway_serving.rollout.state import Status
from taxiway_serving.rollout.steps import Compare
from taxiway_serving.runtimes.runtime import Runtime, VariantSpec, VariantState
from taxiway_serving.shadow.calls import Target
from taxiway_serving.shadow.comparator import Comparator
from taxiway_serving.shadow.lane import Comparing
from taxiway_serving.shadow.log import ShadowLog, log_path

CURSOR = "shadow"
STOP_GRACE_S = 1.0


class Shadowing:
    """Follows the shadow rollouts of the fleet. Used by one thread.

    Args:
        comparator: Who compares.
        runtime: Who runs the copies.
        home: The controller's home, where the comparisons are logged.
    """

    def __init__(self, *, comparator: Comparator, runtime: Runtime, home: Path) -> None:
        self._comparator, self._runtime, self._home = comparator, runtime, home
        self._met: dict[str, set[str]] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that mirrored requests go to."""
        return self._comparator.host, self._comparator.port

    def follow(self, fleet: Fleet, world: World) -> None:
        """Start the copies that are needed, tell the comparator where they are, and end what is not needed.

        Raises:
            TaxiwayError, OSError: What kept one handle from being followed; all others are.
        """
        mirrored = {each.spec.handle: each for each in fleet.running if _is_mirrored(each)}
        failed: list[TaxiwayError | OSError] = []
        for handle, rollout in mirrored.items():
            # One handle's trouble is its own; it is told once all the others are followed.
            try:
                self._follow(handle, rollout, fleet, world)
            except (TaxiwayError, OSError) as error:
                failed.append(error)
        for endpoint in fleet.endpoints:
            if endpoint.handle not in mirrored and self._comparator.following(endpoint.handle):
                self._comparator.leave(endpoint.handle)
        ids = {rollout.spec.id for rollout in mirrored.values()}
        self._met = {rollout_id: units for rollout_id, units in self._met.items() if rollout_id in ids}
        wanted = {copy_of(rollout) for rollout in mirrored.values()}
        for variant, state in world.variants.items():
            if variant.copy and variant not in wanted and state.phase != "stopped":
                self._runtime.stop(variant, grace_s=STOP_GRACE_S)
        if failed:
            raise failed[0]

    def _follow(self, handle: str, rollout: Rollout, fleet: Fleet, world: World) -> None:
        stable = fleet.variant(handle, rollout.state.stable or 0)
        if stable is None:
            return
        self._runtime.ensure(replace(VariantSpec.from_json(stable.spec), copy=1))
        copy = _target(world.variants.get(copy_of(rollout)), stable.version)
        candidate_id = VariantId(handle=handle, version=rollout.spec.version)
        candidate = _target(world.variants.get(candidate_id), rollout.spec.version)
        if copy is None or candidate is None:
            return
        comparing = Comparing(stable=copy, candidate=candidate, criterion=_criterion(rollout))
        self._comparator.follow(handle, comparing)

    def _first_of_units(self, rollout: Rollout, comparisons: Iterator[Comparison]) -> list[Comparison]:
        """Keep each unit's first comparison: one who asks the same again and again proves nothing new."""
        met = self._met.setdefault(rollout.spec.id, set())
        fresh = []
        for each in comparisons:
            if each.unit not in met:
                met.add(each.unit)
                fresh.append(each)
        return fresh

    def read(self, rollout: Rollout) -> tuple[dict[int, Compared], dict[str, str]]:
        """Return what was compared since the rollout's cursor, by candidate, and the new cursor.

        A log that cannot be read brings nothing: the comparison then holds for want of samples.
        """
        if not any(isinstance(step, Compare) for step in rollout.plan):
            return {}, {}
        cursor = rollout.state.cursors.get(CURSOR, "")
        try:
            batch = ShadowLog(log_path(self._home, rollout.spec.handle)).read(cursor)
        except TransportError:
            return {}, {}
        mine = self._first_of_units(rollout, _of(rollout, batch.comparisons))
        cursors = {CURSOR: batch.cursor} if batch.cursor != cursor else {}
        return ({rollout.spec.version: compared(mine)} if mine else {}), cursors


def copy_of(rollout: Rollout) -> VariantId:
    """Return the second copy of stable that a rollout compares with."""
    return VariantId(handle=rollout.spec.handle, version=rollout.state.stable or 1, copy=1)


def compared(comparisons: list[Comparison]) -> Compared:
    """Return comparisons as counts.

    A call that failed differs: the candidate's, or, by the same chance if it behaves as stable does, stable's second
    one. Where stable's first call failed there is nothing to compare with.
    """
    only_candidate = sum(each.only_candidate or each.only_candidate_failed for each in comparisons)
    only_noise = sum(each.only_noise or each.only_noise_failed for each in comparisons)
    whole = sum(not each.failed for each in comparisons)
    broken = sum(each.only_candidate_failed or each.only_noise_failed for each in comparisons)
    return Compared(
        samples=whole + broken,
        only_candidate=only_candidate,
        only_noise=only_noise,
        failed=sum(each.only_candidate_failed for each in comparisons),
    )


def _of(rollout: Rollout, comparisons: tuple[Comparison, ...]) -> Iterator[Comparison]:
    for each in comparisons:
        is_mine = (each.candidate, each.stable) == (rollout.spec.version, rollout.state.stable)
        if is_mine and each.at_s >= rollout.state.started_at_s:
            yield each


def _criterion(rollout: Rollout) -> Criterion:
    """Return how the step that is next to compare, or the last one that did, does it."""
    steps = [*rollout.plan[rollout.state.step :], *reversed(rollout.plan)]
    return next((step.criterion for step in steps if isinstance(step, Compare)), Criterion())


def _is_mirrored(rollout: Rollout) -> bool:
    is_going = rollout.state.status in (Status.PROGRESSING, Status.PAUSED)
    return is_going and rollout.state.mirror_pct > 0


def _target(state: VariantState | None, version: int) -> Target | None:
    if state is None or state.phase != "ready":
        return None
    return Target(version=version, host=state.host, port=state.port)
