"""TransformOperator: make training data with the registered transform. The work is in `taxiway.transform`."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import ComponentOperator, digests, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class TransformOperator(ComponentOperator):
    """Run a handle's registered transform. The same code, parameters and raw data are not run twice.

    Args:
        handle: The model's handle.
        parameters: Laid over the parameters of the package.
        raw: Dataset version of the raw data (`snapshot.output`); None when the transform brings its own.
        packages: `register.output["packages"]`, or a list of such: the code to use; None is what is registered by then.
    """

    template_fields: Collection[str] = (
        *ComponentOperator.template_fields,
        *("handle", "parameters", "raw", "packages"),
    )

    def __init__(
        self,
        *,
        handle: str,
        parameters: Mapping[str, Any] | None = None,
        raw: Mapping[str, Any] | None = None,
        packages: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handle = handle
        self.parameters = parameters
        self.raw = raw
        self.packages = packages

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets.versions import DatasetVersion
        from taxiway.transform import transform

        with refusals():
            return transform(
                self.handle,
                self.settings(),
                params=self.parameters or None,
                raw=DatasetVersion.from_json(self.raw) if self.raw else None,
                digests=digests(self.packages, self.handle),
                runner=self.component_runner(),
                provenance=provenance(context),
                log=self.log.info,
            ).to_json()
