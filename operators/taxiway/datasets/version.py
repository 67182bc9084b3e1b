"""The value that names one dataset version, as it goes through XCom and into lineage. Nothing is looked up here."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One version of a dataset.

    Attributes:
        name: Name of the dataset, a folder of the data repository.
        version: Counts from 1.
        tag: Git tag, `<name>@v<version>`.
        commit: Git commit of the data repository.
        hash: DVC's hash of the folder, `<md5>.dir`, 36 characters.
        size_bytes: Of all files.
        files: How many.
        repository: Where the data repository lives, without credentials.
    """

    name: str
    version: int
    tag: str
    commit: str
    hash: str
    size_bytes: int
    files: int
    repository: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DatasetVersion":
        """Read what `to_json` wrote, or a task's result that holds more beside it."""
        return cls(**{each.name: data[each.name] for each in dataclasses.fields(cls)})
