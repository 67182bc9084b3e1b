"""DeployOperator: run a model version as a variant. The work is in `taxiway.deployment`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, refusals, version_number
from taxiway_serving.names import READY_PATH

if TYPE_CHECKING:
    from airflow.sdk import Context


class DeployOperator(TaxiwayOperator):
    """Start a model version behind its handle's endpoint and wait until it is ready. It gets no live traffic yet.

    Args:
        handle: The model's handle.
        version: Model version (`train.output["version"]`).
        ready_deadline_s: Seconds until a variant that is not ready has failed; the error carries its log.
        replicas: How many of it run alike.
        most_replicas: How many may run where load asks for more, on a runtime that follows it; None keeps `replicas`.
        url: Address of a server that somebody else runs with this version, as the gateway reaches it; "" runs it.
        ready_path: Path at which that server answers 200 when it is ready.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        "handle",
        "version",
        "ready_deadline_s",
        "replicas",
        "most_replicas",
        "url",
        "ready_path",
    )

    def __init__(
        self,
        *,
        handle: str,
        version: int | str,
        ready_deadline_s: float = 60.0,
        replicas: int | str = 1,
        most_replicas: int | str | None = None,
        url: str = "",
        ready_path: str = READY_PATH,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.version = version
        self.ready_deadline_s = ready_deadline_s
        self.replicas = replicas
        self.most_replicas = most_replicas
        self.url = url
        self.ready_path = ready_path

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.deployment import deploy

        with refusals():
            return deploy(
                self.handle,
                version_number(self.version),
                self.settings(),
                ready_deadline_s=float(self.ready_deadline_s),
                replicas=int(self.replicas),
                most_replicas=None if self.most_replicas is None else int(self.most_replicas),
                url=self.url,
                ready_path=self.ready_path,
                log=self.log.info,
            ).to_json()
