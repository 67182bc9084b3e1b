"""TrainOperator: train and register a model version. The work is in `taxiway.training`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrainOperator(TaxiwayOperator):
    """Train with the handle's registered training package and register the model version with its whole lineage.

    The package is looked up by handle when the task runs, so new code needs no change here. The same code, data,
    parameters and seed are not trained twice.

    Args:
        handle: The model's handle.
        dataset: Dataset version to train on (`snapshot.output`).
        parameters: Laid over the parameters of the package (`tune.output["params"]`).
        seed: Handed to the training code as TAXIWAY_SEED.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        *("handle", "dataset", "parameters", "seed"),
    )

    def __init__(
        self,
        *,
        handle: str,
        dataset: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
        seed: int | str = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.dataset = dataset
        self.parameters = parameters
        self.seed = seed

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets.versions import DatasetVersion
        from taxiway.training import train

        with refusals():
            return train(
                self.handle,
                DatasetVersion.from_json(self.dataset),
                self.settings(),
                params=self.parameters,
                seed=int(self.seed),
                provenance=provenance(context),
                log=self.log.info,
            ).to_json()
