"""TrafficSensor: wait until an endpoint stands where it is wanted. The work is in `taxiway.traffic`."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from taxiway.operators import base
from taxiway.operators.base import TaxiwayOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrafficSensor(TaxiwayOperator, BaseSensorOperator):
    """Wait for a rollout's outcome, an endpoint's phase or its live version; what is not given is not asked for.

    An endpoint that nobody has deployed yet is waited for. It fails for good as soon as a rollout that was named has
    ended otherwise. With `mode="reschedule"` it holds no worker slot between looks.

    Args:
        handle: The model's handle.
        rollout: Id of the rollout that outcome and phase are of; None is the handle's latest.
        outcome: Outcome to wait for, or several of which one will do (`Promoted`, `Completed`).
        phase: Phase to wait for (`Healthy`, `Paused`).
        version: Model version that shall be live.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        *("handle", "rollout", "outcome", "phase", "version"),
    )

    def __init__(
        self,
        *,
        handle: str,
        rollout: str | None = None,
        outcome: str | Sequence[str] | None = None,
        phase: str | None = None,
        version: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.rollout, self.outcome = rollout, outcome
        self.phase, self.version = phase, version

    def poke(self, context: "Context") -> PokeReturnValue:
        from taxiway.traffic import look

        with base.refusals():
            standing = look(
                self.handle,
                self.settings(),
                rollout_id=self.rollout or None,
                outcome=self.outcome or None,
                phase=self.phase or None,
                version=base.version_number(self.version) if self.version else None,
            )
        self.log.info("%s: %s", self.handle, standing.reason)
        if standing.is_reached:
            base.announce(self, context, version=standing.live, outcome=standing.view.get("outcome"))
        return PokeReturnValue(is_done=standing.is_reached, xcom_value=dict(standing.view))
