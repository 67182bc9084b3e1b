"""SnapshotOperator: version a folder of data. The work is in `taxiway.datasets.versions`."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, refusals

if TYPE_CHECKING:
    from airflow.sdk import Context


class SnapshotOperator(TaxiwayOperator):
    """Version a folder with DVC, or name a version that is already there. The same bytes make no new version.

    Args:
        name: Name of the dataset; its versions are tagged `<name>@v<N>`.
        folder: Folder with the data, as this worker sees it.
        revision: An existing version (`latest`, `3`, `v3` or the tag) to use instead; empty takes a snapshot.
        message: Commit message of a new version.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        "name",
        "folder",
        "revision",
        "message",
    )

    def __init__(
        self, *, name: str, folder: str, revision: str = "", message: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.folder = folder
        self.revision = revision
        self.message = message

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets import versions

        with refusals():
            if self.revision:
                return versions.get(self.name, self.revision, self.settings()).to_json()
            return versions.snapshot(
                Path(self.folder), self.name, self.settings(), message=self.message, log=self.log.info
            ).to_json()
