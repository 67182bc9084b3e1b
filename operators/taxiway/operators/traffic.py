"""TrafficOperator: ask for a rollout and follow it; the controller carries it. The work is in `taxiway.traffic`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taxiway.operators import base
from taxiway.operators.base import TaxiwayOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrafficOperator(TaxiwayOperator):
    """Move live traffic to a deployed version by a strategy, and fail for good when the evidence sent it back.

    The rollout is found or created by the id of this task instance: a retry follows the one that is running. Each asset
    in `outlets` gets an event with the version that is live then.

    Args:
        handle: The model's handle.
        version: Model version (`deploy.output["version"]`).
        strategy: Name of a strategy with its defaults (`canary`, `blue_green`), or its whole specification.
        until: Follow it to its end (`ended`), to its end or its next pause (`paused`), or not at all (`begun`).
        abort_on_kill: Whether a task that is killed takes its rollout back; else that goes on without it.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        *("handle", "version", "strategy", "until", "abort_on_kill"),
    )
    rollout_id = ""

    def __init__(
        self,
        *,
        handle: str,
        version: int | str,
        strategy: str | Mapping[str, Any] = "canary",
        until: str = "ended",
        abort_on_kill: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.version = version
        self.strategy = strategy
        self.until = until
        self.abort_on_kill = abort_on_kill

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.traffic import shift

        with base.refusals():
            self.abort_on_kill = base.truth(self.abort_on_kill, "abort_on_kill")
            version = base.version_number(self.version)
            self.rollout_id = base.rollout_name(context, version)
            result = shift(
                self.handle,
                version,
                self.settings(),
                strategy=base.specification(self.strategy),
                rollout_id=self.rollout_id,
                until=self.until,
                actor=base.actor(context),
                log=self.log.info,
            )
        base.announce(self, context, version=result.version, outcome=result.outcome)
        return result.to_json()

    def on_kill(self) -> None:
        base.leave(self, {self.handle: self.rollout_id}, is_aborted=self.abort_on_kill is True)
