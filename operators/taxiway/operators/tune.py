"""TuneOperator: search parameters with Optuna, in one task. The work is in `taxiway.tuning`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import ComponentOperator, provenance, refusals
from taxiway.operators.open_study import STUDY_FIELDS, OpenStudyOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class TuneOperator(OpenStudyOperator, ComponentOperator):
    """Search a handle's parameters; a retry goes on to the asked number of trials. Each trial is an MLflow run.

    It opens a study, works at it and closes it: what is searched it takes as OpenStudyOperator does. With 0 trials it
    answers the package's own parameters.

    Args:
        parallel: Trials at a time.
        repeats: Seeds with which the best parameters are compared with the live version's; 0 compares nothing.
        kwargs: `handle`, `dataset`, `trials`, `goal`, `parameters`, `seed`, `limits`, `packages`, as OpenStudyOperator.
    """

    template_fields: Collection[str] = (
        *ComponentOperator.template_fields,
        *(*STUDY_FIELDS, "parallel", "repeats"),
    )

    def __init__(self, *, parallel: int | str = 2, repeats: int | str = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parallel = parallel
        self.repeats = repeats

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.tuning import tune

        with refusals():
            return tune(
                settings=self.settings(),
                **self.asked(),
                parallel=int(self.parallel),
                repeats=int(self.repeats),
                provenance=provenance(context),
                runner=self.component_runner(),
                log=self.log.info,
            ).to_json()
