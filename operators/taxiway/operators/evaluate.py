"""EvaluateOperator: measure a model version and hold it to its bars. The work is in `taxiway.evaluation`."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import ComponentOperator, digests, provenance, refusals, version_number

if TYPE_CHECKING:
    from airflow.sdk import Context


class EvaluateOperator(ComponentOperator):
    """Evaluate a model version; where a bar is missed, or cannot be told to be reached, the task fails for good.

    The log names every reason and links the report, which is in MLflow; so does the result, as `report_url`.

    Args:
        handle: The model's handle.
        version: Model version (`train.output["version"]`).
        dataset: Dataset version to evaluate on (`snapshot.output`).
        minimum: Lowest value by metric; None is what the project's `[tool.taxiway.evaluation]` says.
        maximum: Highest value by metric; None is what the project says.
        tolerance: How much worse than the champion is still good enough; None is what the project says.
        packages: `register.output["packages"]`, or a list of such: the code to use; None is what is registered by then.
    """

    template_fields: Collection[str] = (
        *ComponentOperator.template_fields,
        *("handle", "version", "dataset", "minimum", "maximum", "tolerance", "packages"),
    )

    def __init__(
        self,
        *,
        handle: str,
        version: int | str,
        dataset: Mapping[str, Any],
        minimum: Mapping[str, float] | None = None,
        maximum: Mapping[str, float] | None = None,
        tolerance: float | None = None,
        packages: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle, self.version, self.dataset = handle, version, dataset
        self.minimum, self.maximum, self.tolerance = minimum, maximum, tolerance
        self.packages = packages

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets.versions import DatasetVersion
        from taxiway.evaluation import evaluate

        with refusals():
            return evaluate(
                self.handle,
                version_number(self.version),
                DatasetVersion.from_json(self.dataset),
                self.settings(),
                minimum=self.minimum,
                maximum=self.maximum,
                tolerance=self.tolerance,
                digests=digests(self.packages, self.handle),
                runner=self.component_runner(),
                provenance=provenance(context),
                log=self.log.info,
            ).to_json()
