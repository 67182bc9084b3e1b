"""PackageOperator: freeze components of a model project. The work is in `taxiway.packaging`."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, bundle_origin, dag_folder, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class PackageOperator(TaxiwayOperator):
    """Freeze components into code packages: content-hashed source, locked environment, a Bento for inference.

    Args:
        project: Path of the model project relative to the DAG's own file, or a Git URL.
        components: Any of `transform`, `training`, `evaluation`, `inference`; None is every one the project has.
        revision: Git branch, tag or commit of a URL; a path takes none, its version is the DAG bundle's.
    """

    template_fields: Collection[str] = (*TaxiwayOperator.template_fields, "project", "components", "revision")

    def __init__(
        self,
        *,
        project: str,
        components: Sequence[str] | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.components = components
        self.revision = revision

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.packaging.package import package
        from taxiway.registry import libraries

        settings = self.settings()
        with refusals():
            libraries.bring_if_reached(settings, self.log.warning)
            packages = package(
                self.project,
                settings,
                kinds=self.components,
                beside=dag_folder(context),
                revision=self.revision or None,
                log=self.log.info,
                **bundle_origin(context, self.project),
            )
        return {"packages": [each.to_json() for each in packages]}
