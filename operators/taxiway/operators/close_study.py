"""CloseStudyOperator: what a search found. The work is in `taxiway.tuning`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import ComponentOperator, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class CloseStudyOperator(ComponentOperator):
    """Say what a study found, draw it, and judge its parameters against the live version's; no trial is left open.

    Give it `trigger_rule="all_done_min_one_success"`: a worker that failed keeps nothing from what the others found,
    and where the search is skipped so is its end.

    Args:
        study: The study (`opened.output`), whose workers have ended; a worker that failed costs only its time.
        parallel: Trainings at a time, of the comparison.
        repeats: Seeds with which the best parameters are compared with the live version's; 0 compares nothing.
    """

    template_fields: Collection[str] = (*ComponentOperator.template_fields, "study", "parallel", "repeats")

    def __init__(
        self,
        *,
        study: Mapping[str, Any],
        parallel: int | str = 2,
        repeats: int | str = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.study = study
        self.parallel = parallel
        self.repeats = repeats

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.errors import InvalidSpecError
        from taxiway.tuning import StudyPlan, close_study

        with refusals():
            if not self.study:
                raise InvalidSpecError(("the study was not opened",), "CloseStudyOperator")
            return close_study(
                StudyPlan.from_json(self.study),
                self.settings(),
                parallel=int(self.parallel),
                repeats=int(self.repeats),
                provenance=provenance(context),
                runner=self.component_runner(),
                log=self.log.info,
            ).to_json()
