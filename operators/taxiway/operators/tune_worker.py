"""TuneWorkerOperator: one worker of a search. The work is in `taxiway.tuning`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import ComponentOperator, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class TuneWorkerOperator(ComponentOperator):
    """Work at an open study until it has its trials; map it, `expand(worker=[0, 1, …])`, for one task a worker.

    Args:
        study: The study (`opened.output`).
        worker: Its number: no two workers draw the same.
        parallel: Trials at a time, in this task.
    """

    template_fields: Collection[str] = (*ComponentOperator.template_fields, "study", "worker", "parallel")

    def __init__(
        self, *, study: Mapping[str, Any], worker: int | str = 0, parallel: int | str = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.study = study
        self.worker = worker
        self.parallel = parallel

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.tuning import StudyPlan, work

        with refusals():
            finished = work(
                StudyPlan.from_json(self.study),
                self.settings(),
                worker=int(self.worker),
                parallel=int(self.parallel),
                provenance=provenance(context),
                runner=self.component_runner(),
                log=self.log.info,
            )
        return {"finished": finished}
