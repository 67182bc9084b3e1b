"""TaxiwayNotifier: tell people how a rollout ended. The work is in `taxiway.notifications`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from taxiway.operators import base

if TYPE_CHECKING:
    from airflow.sdk import Context


class TaxiwayNotifier(BaseNotifier):
    """Post outcome, reason and link of a task's rollout to a webhook: `on_failure_callback=[TaxiwayNotifier(...)]`.

    Args:
        url: The webhook, best as a template over an Airflow connection or variable; empty writes to the task's log.
        handle: The model's handle; empty is the handle of the task that it is set on.
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

        task = context.get("task")
        content = message(
            self.handle or getattr(task, "handle", ""),
            TaxiwayHook(self.taxiway_conn_id).settings(),
            rollout_id=getattr(task, "rollout_id", None) or getattr(task, "rollout", None),
            task=base.facts(context),
        )
        self.log.info("%s", content["text"])
        if self.url:
            send(self.url, content)
