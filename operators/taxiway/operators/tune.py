"""TuneOperator: search parameters with Optuna, in one task. The work is in `taxiway.tuning`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import ComponentOperator, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class TuneOperator(ComponentOperator):
    """Search a handle's parameters; a retry goes on to the asked number of trials. Each trial is an MLflow run.

    Args:
        handle: The model's handle.
        dataset: Dataset version to train the trials on (`snapshot.output`).
        trials: Finished trials to reach; 0 searches nothing and answers the package's own parameters.
        goal: Keys of the project's `[tool.taxiway.tuning]` to replace: space, objectives, constraints, pruner, ….
        parameters: Fixed parameters, laid over the package's own.
        seed: Of every trial and of the sampler.
        parallel: Trials at a time.
        limits: When the search gives up: `{"retries": 1, "patience": None, "timeout_s": None}`.
        repeats: Seeds with which the best parameters are compared with the live version's; 0 compares nothing.
    """

    template_fields: Collection[str] = (
        *ComponentOperator.template_fields,
        *("handle", "dataset", "trials", "goal", "parameters", "seed", "parallel", "limits", "repeats"),
    )

    def __init__(
        self,
        *,
        handle: str,
        dataset: Mapping[str, Any],
        trials: int | str = 10,
        goal: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        seed: int | str = 0,
        parallel: int | str = 2,
        limits: Mapping[str, Any] | None = None,
        repeats: int | str = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.dataset = dataset
        self.trials = trials
        self.goal = goal
        self.parameters = parameters
        self.seed = seed
        self.parallel = parallel
        self.limits = limits
        self.repeats = repeats

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets.versions import DatasetVersion
        from taxiway.tuning import Limits, tune

        with refusals():
            return tune(
                self.handle,
                DatasetVersion.from_json(self.dataset),
                self.settings(),
                trials=int(self.trials),
                goal=self.goal,
                params=self.parameters,
                seed=int(self.seed),
                limits=Limits.from_json(self.limits or {}),
                parallel=int(self.parallel),
                repeats=int(self.repeats),
                provenance=provenance(context),
                runner=self.component_runner(),
                log=self.log.info,
            ).to_json()
