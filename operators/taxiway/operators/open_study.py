"""OpenStudyOperator: begin a search that several workers do. The work is in `taxiway.tuning`."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, digests, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context

STUDY_FIELDS = ("handle", "dataset", "trials", "goal", "parameters", "seed", "limits", "packages")


class OpenStudyOperator(TaxiwayOperator):
    """Open a study: fix package, data and what is searched, for every worker of it.

    Args:
        handle: The model's handle.
        dataset: Dataset version to train the trials on (`snapshot.output`).
        trials: Finished trials to reach; 0 searches nothing.
        goal: Keys of the project's `[tool.taxiway.tuning]` to replace: space, objectives, constraints, pruner, ….
        parameters: Fixed parameters, laid over the package's own.
        seed: Of every trial and of the sampler.
        limits: When the search gives up: `{"retries": 1, "patience": None, "timeout_s": None}`.
        packages: `register.output["packages"]`, or a list of such: the code to use; None is what is registered by then.
    """

    template_fields: Collection[str] = (*TaxiwayOperator.template_fields, *STUDY_FIELDS)

    def __init__(
        self,
        *,
        handle: str,
        dataset: Mapping[str, Any],
        trials: int | str = 10,
        goal: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        seed: int | str = 0,
        limits: Mapping[str, Any] | None = None,
        packages: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.dataset = dataset
        self.trials = trials
        self.goal = goal
        self.parameters = parameters
        self.seed = seed
        self.limits = limits
        self.packages = packages

    def asked(self) -> dict[str, Any]:
        """Return what is asked of the study, in the words of `taxiway.tuning`; an empty template asks for nothing."""
        from taxiway.datasets.versions import DatasetVersion
        from taxiway.tuning import Limits

        return {
            "handle": self.handle,
            "dataset": DatasetVersion.from_json(self.dataset),
            "trials": int(self.trials),
            "goal": self.goal or None,
            "params": self.parameters or None,
            "seed": int(self.seed),
            "limits": Limits.from_json(self.limits or {}),
            "digests": digests(self.packages, self.handle),
        }

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.tuning import open_study

        with refusals():
            return open_study(
                settings=self.settings(),
                **self.asked(),
                provenance=provenance(context),
                log=self.log.info,
            ).to_json()
