"""RolloutVerbOperator: what a person decided, done to a rollout that runs. The work is in `taxiway.traffic`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from taxiway.operators import base
from taxiway.operators.base import TaxiwayOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class RolloutVerbOperator(TaxiwayOperator):
    """Do `promote`, `promote-full`, `abort`, `pause`, `resume` or `retry` to a rollout; `add` or `remove` a version.

    Done once by each task instance, however often it is tried. Where there is nothing to do, nothing is done. A
    rollback outranks every verb: promoting a rollout that was sent back changes nothing, and the result says so.

    Args:
        handle: The model's handle.
        rollout: The rollout's id (`traffic.output["rollout_id"]`).
        verb: One of the above, often a template that reads a person's answer.
        version: Model version of `add` and `remove`, which let it join or leave an experiment.
        step: The step that `promote` ends (`traffic.output["step"]`): at another one nothing is done.
        on_behalf_of: Who decided, for the ledger; empty names the task alone.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        *("handle", "rollout", "verb", "version", "step", "on_behalf_of"),
    )

    def __init__(
        self,
        *,
        handle: str,
        rollout: str,
        verb: str,
        version: int | str | None = None,
        step: int | str | None = None,
        on_behalf_of: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle, self.rollout, self.verb = handle, rollout, verb
        self.version, self.step = version, step
        self.on_behalf_of = on_behalf_of

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.traffic import command

        with base.refusals():
            seen = command(
                self.handle,
                self.rollout,
                self.verb,
                self.settings(),
                version=base.version_number(self.version) if self.version else None,
                step=base.step_number(self.step),
                command_id=base.task_name(base.provenance(context)),
                actor=base.actor(context, self.on_behalf_of),
            )
        self.log.info("%s: %s: %s", self.verb, seen["outcome"] or seen["phase"], seen["reason"])
        told = {name: seen[name] for name in ("handle", "version", "phase", "outcome", "reason", "step")}
        return told | {"rollout_id": seen["id"]}
