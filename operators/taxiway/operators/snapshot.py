"""SnapshotOperator: version a folder of data. The work is in `taxiway.datasets.versions`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, provenance, refusals
from taxiway.operators.dataset import announce_dataset

if TYPE_CHECKING:
    from airflow.sdk import Context


class SnapshotOperator(TaxiwayOperator):
    """Version a folder with DVC, or name a version that is already there. The same bytes make no new version.

    With `outlets=[AssetAlias("dataset/<name>")]` a new version is an event of the asset `dataset/<name>`.

    Args:
        name: Name of the dataset; its versions are tagged `<name>@v<N>`.
        folder: Folder with the data, as this worker sees it. What a transform left keeps its origin.
        revision: An existing version (`latest`, `3`, `v3` or the tag) to use instead; empty takes a snapshot.
        message: Commit message of a new version.
        card: What is said of the data: `licence`, `personal_data`, `purpose`, `owner`, `description`, `keywords`.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        *("name", "folder", "revision", "message", "card"),
    )

    def __init__(
        self,
        *,
        name: str,
        folder: str,
        revision: str = "",
        message: str = "",
        card: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.folder = folder
        self.revision = revision
        self.message = message
        self.card = card

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets import versions
        from taxiway.transform import origin_of

        settings = self.settings()
        with refusals():
            if self.revision:
                return versions.get(self.name, self.revision, settings).to_json()
            made = versions.snapshot(
                Path(self.folder),
                self.name,
                settings,
                message=self.message or "",
                card=self.card or None,
                origin=origin_of(Path(self.folder)),
                provenance=provenance(context),
                log=self.log.info,
            )
            announce_dataset(self, context, made)
            return made.to_json()
