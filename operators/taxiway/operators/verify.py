"""VerifyOperator: prove a variant against its contract and its SLA. The work is in `taxiway.deployment`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, refusals, version_number

if TYPE_CHECKING:
    from airflow.sdk import Context


class VerifyOperator(TaxiwayOperator):
    """Send a deployed version its contract, malformed requests, its declared rate and three times that rate.

    A check that fails, or could not be made, fails the task for good: no traffic moves to that version.

    Args:
        handle: The model's handle.
        version: Model version (`deploy.output["version"]`).
    """

    template_fields: Collection[str] = (*TaxiwayOperator.template_fields, "handle", "version")

    def __init__(self, *, handle: str, version: int | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.version = version

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.deployment import verify

        with refusals():
            return verify(self.handle, version_number(self.version), self.settings(), log=self.log.info)
