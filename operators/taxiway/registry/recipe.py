"""What a training run is made of, and the name that its result has for it. Nothing is asked or written here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taxiway.datasets.version import DatasetVersion
from taxiway.packaging.package import CodePackage
from taxiway.tools import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a training run was made of: everything that its result depends on.

    Attributes:
        training: The registered training package; it covers source, lock and Python.
        dataset: The data.
        params: Every parameter, defaults included.
        seed: Seed of the run.
        source_models: Version of each source model, by handle.
    """

    training: CodePackage
    dataset: DatasetVersion
    params: Mapping[str, Any]
    seed: int = 0
    source_models: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the result, 64 hexadecimal characters."""
        parts = [
            self.training.digest,
            self.dataset.hash,
            dict(self.params),
            self.seed,
            dict(self.source_models),
        ]
        return digest(parts)
