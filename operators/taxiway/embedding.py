"""A model by its handle inside any Python program: no server, no gateway, no controller.

For the team that embeds inference code in its own application. What is brought and checked is the same as for a
variant; what the program does with it is its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.registry import models, tracking
from taxiway.settings import Settings

LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model version on this host.

    Attributes:
        handle: The handle.
        version: The model version, a number also where `live` was asked for.
        folder: Its files, read-only, checked against what was registered.
    """

    handle: str
    version: int
    folder: Path

    def pyfunc(self) -> Any:
        """Return the model as MLflow loads it, with `predict`; what it was trained with must be installed here."""
        return tracking.load_pyfunc(self.folder)


def load(handle: str, version: int | str = LIVE, settings: Settings | None = None) -> LocalModel:
    """Bring a model version to this host; one that is here already is only checked.

    Args:
        handle: The handle.
        version: A number, an alias of the registry, or `live`: what answers at the handle's endpoint now.
        settings: Where everything is; None reads the environment.

    Raises:
        ModelNotFoundError: If there is no such version, or none is live.
        ArtifactChangedError: If its files are not what was registered.
        TransportError: If MLflow does not answer.
    """
    known = settings or Settings.from_environment()
    found = models.get(handle, models.CHAMPION if version == LIVE else version, known)
    return LocalModel(handle=handle, version=found.version, folder=models.download(found, known))
