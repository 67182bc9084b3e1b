"""Finds out whether an engine sees this host's disks, by what is written here and read there.

A path alone says nothing: where Airflow runs in a container, the engine's host may have a folder of the same name with
other files in it. Nor does one disk say anything of another: each that is mounted is asked for.
"""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from taxiway import archive
from taxiway.engine import Engine
from taxiway.errors import ToolFailedError
from taxiway.runners import delivery
from taxiway.tools import scratch_folder

_TOKEN = "token"


def disk_of(folder: Path) -> tuple[int, Path]:
    """Return what tells the disk of a folder from every other: its device, and where it is mounted.

    One device may be mounted in several places, of which an engine sees some: so do the volumes of a host's containers.
    """
    place = folder.resolve()
    mounted = _mounted()
    return place.stat().st_dev, next(path for path in (place, *place.parents) if path in mounted)


def _mounted() -> frozenset[Path]:
    """Return where something is mounted, as Linux tells it; elsewhere a device is all that tells disks apart."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except FileNotFoundError:
        return frozenset({Path("/")})
    places = (line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in lines)
    return frozenset({Path("/"), *(Path(os.fsdecode(place)) for place in places)})


def is_seen(engine: Engine, folder: Path, image: str, labels: Mapping[str, str]) -> bool:
    """Tell whether a folder can be mounted into containers: what is written beside it, on its disk, is read there.

    Args:
        engine: The engine.
        folder: What would be mounted.
        image: Any image that the engine has.
        labels: Of the container that is made for it.

    Raises:
        TransportError: If the engine does not answer.
    """
    beside = folder.resolve().parent
    is_provable = disk_of(beside) == disk_of(folder) and os.access(beside, os.W_OK)
    return is_provable and is_shared(engine, beside, image, labels)


def is_shared(engine: Engine, place: Path, image: str, labels: Mapping[str, str]) -> bool:
    """Tell whether what is written to a folder of this host is read there by a container, which is not started.

    Args:
        engine: The engine.
        place: Folder of this host.
        image: Any image that the engine has.
        labels: Of the container, so that one that is left behind is found.

    Raises:
        TransportError: If the engine does not answer.
    """
    said = uuid.uuid4().hex
    with scratch_folder(place, "proof") as folder:
        (folder / _TOKEN).write_text(said, encoding="utf-8")
        try:
            return _read(engine, folder, image, labels) == said
        except ToolFailedError:
            return False


def _read(engine: Engine, folder: Path, image: str, labels: Mapping[str, str]) -> str:
    """Return what a container finds in the file of a folder, or "" where it has none."""
    config = {
        "Image": image,
        "Entrypoint": ["true"],
        "Labels": dict(labels),
        "HostConfig": {"Mounts": [delivery.bind(folder, delivery.PROOF_DIR)], "NetworkMode": "none"},
    }
    container = engine.create(f"taxiway-proof-{uuid.uuid4().hex}", config)
    try:
        with scratch_folder(folder) as draft:
            with engine.get(container, delivery.PROOF_DIR) as pieces:
                archive.unpack(pieces, draft)
            path = draft / _TOKEN
            return path.read_text(encoding="utf-8") if path.is_file() else ""
    finally:
        engine.remove(container)
