"""DeployOperator: run a model version as a variant. The work is in `taxiway.deployment`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, refusals, version_number

if TYPE_CHECKING:
    from airflow.sdk import Context


class DeployOperator(TaxiwayOperator):
    """Start a model version behind its handle's endpoint and wait until it is ready. It gets no live traffic yet.

    Args:
        handle: The model's handle.
        version: Model version (`train.output["version"]`).
        ready_deadline_s: Seconds until a variant that is not ready has failed; the error carries its log.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        "handle",
        "version",
        "ready_deadline_s",
    )

    def __init__(
        self, *, handle: str, version: int | str, ready_deadline_s: float = 60.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.version = version
        self.ready_deadline_s = ready_deadline_s

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.deployment import deploy

        with refusals():
            return deploy(
                self.handle,
                version_number(self.version),
                self.settings(),
                ready_deadline_s=float(self.ready_deadline_s),
                log=self.log.info,
            ).to_json()
