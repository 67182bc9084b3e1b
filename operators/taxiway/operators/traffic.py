"""TrafficOperator: ask for a rollout and follow it; the controller carries it. The work is in `taxiway.deployment`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, provenance, refusals, task_name, version_number

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrafficOperator(TaxiwayOperator):
    """Move live traffic to a deployed version by a strategy, and fail for good when the evidence sent it back.

    The rollout is found or created by the id of this task instance, so a retry follows the one that is running; a
    killed task leaves it running. Each asset in `outlets` gets an event with the promoted version.

    Args:
        handle: The model's handle.
        version: Model version (`deploy.output["version"]`).
        strategy: Name of a strategy with its defaults (`canary`, `blue_green`), or its whole specification.
    """

    template_fields: Collection[str] = (*TaxiwayOperator.template_fields, "handle", "version", "strategy")

    def __init__(
        self, *, handle: str, version: int | str, strategy: str | Mapping[str, Any] = "canary", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.version = version
        self.strategy = strategy

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.deployment import shift

        with refusals():
            version = version_number(self.version)
            result = shift(
                self.handle,
                version,
                self.settings(),
                strategy={"kind": self.strategy} if isinstance(self.strategy, str) else self.strategy,
                rollout_id=f"{task_name(provenance(context))}-v{version}",
                log=self.log.info,
            )
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"version": result.version, "run_id": context["run_id"]}
        return result.to_json()

    def on_kill(self) -> None:
        self.log.warning(
            "The rollout goes on without this task: the controller carries it; a retry follows it again"
        )
