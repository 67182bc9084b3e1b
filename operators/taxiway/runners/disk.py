"""Finds out whether an engine sees this host's disk, by what is written here and read there.

A path alone says nothing: where Airflow runs in a container, the engine's host may have a folder of the same name with
other files in it.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path

from taxiway import archive
from taxiway.engine import Engine
from taxiway.errors import ToolFailedError
from taxiway.runners import delivery
from taxiway.tools import remove, scratch_folder

_TOKEN = "token"


def is_shared(engine: Engine, home: Path, image: str, labels: Mapping[str, str]) -> bool:
    """Tell whether folders of this host can be mounted into containers: a container is made for it, and not started.

    Args:
        engine: The engine.
        home: Folder of this host where inputs lie.
        image: Any image that the engine has.
        labels: Of the container, so that one that is left behind is found.

    Raises:
        TransportError: If the engine does not answer.
    """
    said = uuid.uuid4().hex
    folder = home / f"proof-{said}"
    folder.mkdir(parents=True)
    try:
        (folder / _TOKEN).write_text(said, encoding="utf-8")
        return _read(engine, folder, image, labels) == said
    except ToolFailedError:
        return False
    finally:
        remove(folder)


def _read(engine: Engine, folder: Path, image: str, labels: Mapping[str, str]) -> str:
    """Return what a container finds in the file of a folder, or "" where it has none."""
    config = {
        "Image": image,
        "Entrypoint": ["true"],
        "Labels": dict(labels),
        "HostConfig": {"Mounts": [delivery.bind(folder, delivery.PROOF_DIR)], "NetworkMode": "none"},
    }
    container = engine.create(f"taxiway-{folder.name}", config)
    try:
        with scratch_folder(folder.parent) as draft:
            with engine.get(container, delivery.PROOF_DIR) as pieces:
                archive.unpack(pieces, draft)
            path = draft / _TOKEN
            return path.read_text(encoding="utf-8") if path.is_file() else ""
    finally:
        engine.remove(container)
