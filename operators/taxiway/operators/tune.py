"""TuneOperator: search parameters with Optuna. The work is in `taxiway.tuning`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class TuneOperator(TaxiwayOperator):
    """Search a handle's parameters; a retry goes on to the asked number of trials. Each trial is an MLflow run.

    Args:
        handle: The model's handle.
        dataset: Dataset version to train the trials on (`snapshot.output`).
        trials: Finished trials to reach; 0 searches nothing and answers the package's own parameters.
        space: Distributions by parameter; None is what the project's `[tool.taxiway.tuning]` says.
        parameters: Fixed parameters, laid over the package's own.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        *("handle", "dataset", "trials", "space", "parameters"),
    )

    def __init__(
        self,
        *,
        handle: str,
        dataset: Mapping[str, Any],
        trials: int | str = 10,
        space: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.dataset = dataset
        self.trials = trials
        self.space = space
        self.parameters = parameters

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets.versions import DatasetVersion
        from taxiway.tuning import tune

        with refusals():
            return tune(
                self.handle,
                DatasetVersion.from_json(self.dataset),
                self.settings(),
                trials=int(self.trials),
                space=self.space,
                params=self.parameters,
                provenance=provenance(context),
                log=self.log.info,
            ).to_json()
