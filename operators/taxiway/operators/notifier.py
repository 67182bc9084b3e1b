"""TaxiwayNotifier: tell people how a task and its rollout ended. The work is in `taxiway.notifications`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from taxiway.operators import base

if TYPE_CHECKING:
    from airflow.sdk import Context


class TaxiwayNotifier(BaseNotifier):
    """Post outcome, reason and link of a task to a webhook: `on_failure_callback` in the `default_args` of a DAG.

    Args:
        url: The webhook, best as a template over an Airflow connection or variable; empty writes to the task's log.
        handle: The model's handle; empty is that of the task that failed, or each one that it moves together.
        taxiway_conn_id: Connection of type `taxiway`.
    """

    template_fields: Sequence[str] = ("url", "handle", "taxiway_conn_id")

    def __init__(
        self, *, url: str = "", handle: str = "", taxiway_conn_id: str = "taxiway_default", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.url = url
        self.handle = handle
        self.taxiway_conn_id = taxiway_conn_id

    def notify(self, context: "Context") -> None:
        from taxiway.notifications import message, send
        from taxiway.operators.hooks import TaxiwayHook

        settings = TaxiwayHook(self.taxiway_conn_id).settings()
        for handle, rollout in self._rollouts(context.get("task")).items():
            content = message(handle, settings, rollout_id=rollout, task=base.facts(context))
            self.log.info("%s", content["text"])
            if self.url:
                send(self.url, content)

    def _rollouts(self, task: object) -> dict[str, str | None]:
        """Return the rollout of each handle that a task is about; None where it has begun none."""
        together = getattr(task, "versions", None)
        if not self.handle and isinstance(together, Mapping):
            begun: Mapping[str, str] = getattr(task, "rollout_ids", {})
            return {handle: begun.get(handle) for handle in together}
        mine = getattr(task, "rollout_id", None) or getattr(task, "rollout", None)
        return {self.handle or getattr(task, "handle", ""): mine}
