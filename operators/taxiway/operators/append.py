"""AppendOperator: add files to a dataset as its next version. The work is in `taxiway.datasets.versions`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.operators.base import TaxiwayOperator, provenance, refusals, truth
from taxiway.operators.dataset import announce_dataset

if TYPE_CHECKING:
    from airflow.sdk import Context


class AppendOperator(TaxiwayOperator):
    """Make a version that holds another one's files and a folder's; the other one stays as it is.

    With `outlets=[AssetAlias("dataset/<name>")]` a new version is an event of the asset `dataset/<name>`.

    Args:
        name: Name of the dataset.
        folder: Folder with the files to add, as this worker sees it.
        base: The version to add to: `latest`, `3`, `v3` or the tag.
        replace: Whether a file may take the place of another of the same name; the text of a template, too.
        message: Commit message of a new version.
        card: What is said of the data, as for SnapshotOperator.
    """

    template_fields: Collection[str] = (
        *TaxiwayOperator.template_fields,
        *("name", "folder", "base", "replace", "message", "card"),
    )

    def __init__(
        self,
        *,
        name: str,
        folder: str,
        base: str = "latest",
        replace: bool | str = False,
        message: str = "",
        card: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.folder = folder
        self.base = base
        self.replace = replace
        self.message = message
        self.card = card

    def execute(self, context: "Context") -> dict[str, Any]:
        from taxiway.datasets import versions
        from taxiway.transform import origin_of

        with refusals():
            made = versions.append(
                Path(self.folder),
                self.name,
                self.settings(),
                base=self.base,
                replace=truth(self.replace, "replace"),
                message=self.message or "",
                card=self.card or None,
                origin=origin_of(Path(self.folder)),
                provenance=provenance(context),
                log=self.log.info,
            )
            announce_dataset(self, context, made)
            return made.to_json()
