"""TrainOperator: train and register a model version. The work is in `taxiway.training`."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import ComponentOperator, digests, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrainOperator(ComponentOperator):
    """Train with the handle's registered training package and register the model version with its whole lineage.

    The package is looked up by handle when the task runs, so new code needs no change here. The same code, data,
    parameters and seed are not trained twice.

    Args:
        handle: The model's handle.
        dataset: Dataset version to train on (`snapshot.output`).
        parameters: Laid over the parameters of the package (`tune.output["params"]`).
        seed: Handed to the training code as TAXIWAY_SEED.
        source_models: Version or alias of a source model by its handle, over those of the package.
        packages: `register.output["packages"]`, or a list of such: the code to use; None is what is registered by then.
    """

    template_fields: Collection[str] = (
        *ComponentOperator.template_fields,
        *("handle", "dataset", "parameters", "seed", "source_models", "packages"),
    )

    def __init__(
        self,
        *,
        handle: str,
        dataset: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
        seed: int | str = 0,
        source_models: Mapping[str, int | str] | None = None,
        packages: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.dataset = dataset
        self.parameters = parameters
        self.seed = seed
        self.source_models = source_models
        self.packages = packages

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets.versions import DatasetVersion
        from taxiway.training import train

        with refusals():
            return train(
                self.handle,
                DatasetVersion.from_json(self.dataset),
                self.settings(),
                params=self.parameters or None,
                seed=int(self.seed),
                source_models=self.source_models or None,
                digests=digests(self.packages, self.handle),
                runner=self.component_runner(),
                provenance=provenance(context),
                log=self.log.info,
            ).to_json()
