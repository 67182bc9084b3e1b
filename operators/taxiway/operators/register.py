"""RegisterOperator: register code packages under their handle. The work is in `taxiway.registry.packages`."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class RegisterOperator(TaxiwayOperator):
    """Register code packages in MLflow; only registered packages run. The same package is the same version.

    Args:
        packages: `package.output["packages"]` of a PackageOperator.
    """

    template_fields: Collection[str] = (*TaxiwayOperator.template_fields, "packages")

    def __init__(self, *, packages: Sequence[Mapping[str, Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.packages = packages

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.packaging.package import CodePackage
        from taxiway.registry.packages import register

        packages = [CodePackage.from_json(each) for each in self.packages]
        with refusals():
            registered = register(packages, self.settings(), provenance=provenance(context))
        return {"packages": [each.to_json() for each in registered]}
