"""UndoOperator: go back to a version that was live before. The work is in `taxiway.traffic`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from taxiway.operators import base
from taxiway.operators.base import TaxiwayOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class UndoOperator(TaxiwayOperator):
    """Give all live traffic back to an earlier version, at once; while that one is warm, nothing is loaded.

    Args:
        handle: The model's handle.
        to: Empty is the version before; a number is that version; a time such as `2026-05-01T12:00:00Z` is the version
            that was live then.
    """

    template_fields: Collection[str] = (*TaxiwayOperator.template_fields, "handle", "to")

    def __init__(self, *, handle: str, to: int | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.to = to

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.traffic import undo

        with base.refusals():
            result = undo(
                self.handle,
                self.settings(),
                to=self.to,
                undo_id=base.task_name(base.provenance(context)),
                actor=base.actor(context),
                log=self.log.info,
            )
        base.announce(self, context, version=result.version, outcome=result.outcome)
        return result.to_json()
