"""TrafficGroupOperator: move several handles together, all or nothing. The work is in `taxiway.traffic`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taxiway.operators import base
from taxiway.operators.base import TaxiwayOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrafficGroupOperator(TaxiwayOperator):
    """Roll out one version of each of several handles; where the evidence sends one back, all go back.

    All begin or none does. Each asset in `outlets` gets an event; one that is named after a handle says its version.

    Args:
        versions: Deployed model version by handle, such as `{"detector": 7, "classifier": 12}`.
        strategy: As TrafficOperator takes it; the same for every handle.
        abort_on_kill: Whether a task that is killed takes its rollouts back; else they go on without it.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        *("versions", "strategy", "abort_on_kill"),
    )
    rollout_ids: Mapping[str, str] = {}

    def __init__(
        self,
        *,
        versions: Mapping[str, int | str],
        strategy: str | Mapping[str, Any] = "canary",
        abort_on_kill: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.versions = versions
        self.strategy = strategy
        self.abort_on_kill = abort_on_kill

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.traffic import names_of_group, shift_group

        with base.refusals():
            self.abort_on_kill = base.truth(self.abort_on_kill, "abort_on_kill")
            versions = {handle: base.version_number(each) for handle, each in self.versions.items()}
            group = base.task_name(base.provenance(context))
            self.rollout_ids = names_of_group(group, versions)
            results = shift_group(
                versions,
                self.settings(),
                strategy=base.specification(self.strategy),
                group=group,
                actor=base.actor(context),
                log=self.log.info,
            )
        live = {handle: result.version for handle, result in results.items()}
        outcome = next((result.outcome for result in results.values()), None)
        base.announce(self, context, version=None, outcome=outcome, versions=live)
        return {handle: result.to_json() for handle, result in results.items()}

    def on_kill(self) -> None:
        base.leave(self, self.rollout_ids, is_aborted=self.abort_on_kill is True)
