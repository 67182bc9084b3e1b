"""DatasetOperator: name the dataset version that a run is to use. The work is in `taxiway.datasets.lookup`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

from taxiway.operators.base import TaxiwayOperator, provenance, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context

    from taxiway.datasets.version import DatasetVersion


class DatasetOperator(TaxiwayOperator):
    """Name a dataset version: the one whose event began this run, or one that is asked for.

    Args:
        name: Name of the dataset.
        revision: A version (`latest`, `3`, `v3` or the tag); empty is the newest that began this run, or `latest`.
    """

    template_fields: Collection[str] = (*TaxiwayOperator.template_fields, "name", "revision")

    def __init__(self, *, name: str, revision: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.revision = revision

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets import lookup

        revision = self.revision or announced_tag(context, self.name) or "latest"
        with refusals():
            found = lookup.get(self.name, revision, self.settings())
        self.log.info("%s: %d files, %d bytes", found.tag, found.files, found.size_bytes)
        return found.to_json()


def announced_tag(context: "Context", name: str) -> str:
    """Return the tag of the newest version that began this run, or nothing where none did."""
    told = context.get("triggering_asset_events") or {}
    events = [event for asset in told if asset.name == f"dataset/{name}" for event in told[asset]]
    versions = [event.extra for event in events if "tag" in (event.extra or {})]
    return str(max(versions, key=lambda extra: extra["version"])["tag"]) if versions else ""


def announce_dataset(task: TaxiwayOperator, context: "Context", version: "DatasetVersion") -> None:
    """Tell the DAGs that wait for a dataset of a version that this task made, in whichever try; of no other."""
    from taxiway.datasets.cards import facts

    asset = Asset(name=f"dataset/{version.name}", uri=f"taxiway://datasets/{version.name}", group="dataset")
    if facts(version, task.settings()).made_by == provenance(context).identity():
        for alias in (each for each in task.outlets if isinstance(each, AssetAlias)):
            context["outlet_events"][alias].add(asset, extra=version.to_json())
