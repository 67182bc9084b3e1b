"""What travels between this host and the jobs of a Swarm: folders out, results back, each known by its hash."""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from taxiway import archive
from taxiway.archive import READ_ONLY, Entry
from taxiway.errors import InvalidSpecError, TransportError
from taxiway.runners import swarm_courier
from taxiway.runners.delivery import Folder
from taxiway.runners.swarm_service import LETTER_BYTES, Parcel, letter
from taxiway.runners.swarm_store import PROXY, JobStore
from taxiway.tools import digest, exclusive, fresh_folder, redact

KEPT_S = 3 * 86_400.0
"""Seconds that an input stays in the artifact store after its last use from this home."""
FOLDER = "taxiway-jobs"
_INPUTS = "inputs"


class Post:
    """The artifact store as jobs use it; any number of threads may share it.

    A job's folder lies in the room of its handle, beside what all of them read: that is in the handle's experiment, so
    that MLflow's permissions for the one are those for the other.

    Args:
        store: The store, as this host reaches it.
        authorization: What MLflow asks a container for, or "".
        address: Address of MLflow as a container reaches it.
        home: Folder for the marks of inputs that were sent.
        experiment: Returns the id of a handle's experiment.
    """

    def __init__(
        self,
        store: JobStore,
        authorization: str,
        address: str,
        home: Path,
        experiment: Callable[[str], str],
    ) -> None:
        self._store = store
        self._experiment = experiment
        self._authorization = authorization
        self._address = address.rstrip("/")
        self._marks = home / "inputs"
        self._known: dict[str, tuple[str, int]] = {}

    def room(self, handle: str) -> str:
        """Return where the jobs of a handle have their folders.

        Raises:
            TransportError: If MLflow does not answer.
        """
        return f"{self._experiment(handle)}/{FOLDER}"

    def letter(self, job: str, folder: str, folders: Iterable[Folder], secrets_dir: Path | None) -> bytes:
        """Send what a job reads, and return what its courier is to be told.

        Args:
            job: For people.
            folder: Where its results go, in the room of its handle.
            folders: What it reads.
            secrets_dir: Its secret files, or None.

        Raises:
            InvalidSpecError: If its secrets are more than a Swarm hands over.
            TransportError: If MLflow does not answer.
        """
        told = letter(
            store=f"{self._address}{PROXY}/",
            authorization=self._authorization,
            folder=folder,
            inputs=[self._sent(each, _inputs_beside(folder)) for each in folders],
            secrets=_secrets(secrets_dir),
        )
        if len(told) > LETTER_BYTES:
            fault = f"its secrets take {len(told)} bytes, and a Swarm hands over {LETTER_BYTES}"
            raise InvalidSpecError((fault,), job)
        return told

    def receipt(self, folder: str) -> dict[str, Any] | None:
        """Return how a job ended; None if it left no result and no reason.

        Raises:
            TransportError: If MLflow does not answer.
        """
        return self._store.read(f"{folder}/{swarm_courier.RECEIPT}")

    def collect(self, folder: str, receipt: Mapping[str, Any], into: Path) -> None:
        """Bring what a job left into a new folder; nothing of it is seen there before its hash was.

        Raises:
            ToolFailedError: If it is not what the job sent.
            OutputFaultsError: If it tries to leave the folder.
            TransportError: If MLflow does not answer.
            OSError: If it cannot be written.
        """
        packed = into.with_name(swarm_courier.OUTPUT)
        try:
            self._store.fetch(f"{folder}/{swarm_courier.OUTPUT}", receipt["sha256"], packed)
            with fresh_folder(into) as draft, packed.open("rb") as file:
                archive.unpack(iter(lambda: file.read(archive.PIECE_BYTES), b""), draft)
        finally:
            packed.unlink(missing_ok=True)

    def clear(self, folder: str) -> bool:
        """Delete what a job left, and return whether it is gone; nobody waits for a server that is away."""
        try:
            self._store.delete(folder)
        except TransportError:
            return False
        return True

    def doubt(self, folder: str, folders: Iterable[Folder]) -> None:
        """Have inputs sent anew by the next job that reads them: what lies in the store is damaged.

        Args:
            folder: Of the job that met them.
            folders: What it read.
        """
        for each in folders:
            known = self._known.pop(_look(each.path.resolve()), None)
            if known is not None:
                with suppress(TransportError):
                    self._store.delete(f"{_inputs_beside(folder)}/{known[0]}.tar")

    def tidy(self) -> None:
        """Delete the inputs that no job of this home has used for days, as far as MLflow lets it."""
        for mark in self._marks.glob("*/*.tar"):
            if _is_old(mark):
                # It stands in no job's way: whoever may put and read need not have the right to delete.
                with (
                    suppress(BlockingIOError, TransportError),
                    exclusive(mark.with_suffix(".lock"), waits=False),
                ):
                    self._delete_if_old(mark)

    def _delete_if_old(self, mark: Path) -> None:
        # Before its lock was held, a job may have been promised it.
        if _is_old(mark):
            self._store.delete(f"{mark.parent.name}/{FOLDER}/{_INPUTS}/{mark.name}")
            mark.unlink(missing_ok=True)

    def _sent(self, folder: Folder, inputs: str) -> Parcel:
        """Have a folder among the inputs, once for all jobs that read the same."""
        entries = [Entry(name=".", path=folder.path.resolve(), mode=READ_ONLY)]
        look = _look(folder.path.resolve())
        sha256, size = self._known[look] = self._known.get(look) or _hash(entries)
        mark = self._marks / inputs.partition("/")[0] / f"{sha256}.tar"
        with exclusive(mark.with_suffix(".lock")):
            mark.touch()
            if self._store.sizes(inputs).get(mark.name) != size:
                with archive.stream(entries) as pieces:
                    self._store.put(f"{inputs}/{mark.name}", pieces, size)
        return Parcel(path=f"{inputs}/{mark.name}", sha256=sha256, target=folder.target)


def _is_old(mark: Path) -> bool:
    try:
        return mark.stat().st_mtime < time.time() - KEPT_S
    except FileNotFoundError:
        return False


def _inputs_beside(folder: str) -> str:
    return f"{folder.rpartition('/')[0]}/{_INPUTS}"


def reachable(address: str) -> str:
    """Return an address of MLflow that containers are to use, without credentials.

    Raises:
        InvalidSpecError: If it is loopback, where a container meets nobody but itself.
    """
    address = redact(address)
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        fault = f"{address} is nobody's but this host's; set it to an address that every node of the Swarm reaches"
        raise InvalidSpecError((fault,), "TAXIWAY_CONTAINER_TRACKING_URI")
    return address


def new_attempt() -> str:
    """Return what names one attempt at a job: its letter, its tasks and its folder in the store."""
    return secrets.token_hex(16)


def _look(path: Path) -> str:
    """Return what tells a folder as it is now from what it was or will be: names, sizes and times."""
    files = sorted(each for each in path.rglob("*") if each.is_file())
    stats = [(each, each.stat()) for each in files]
    seen = [[str(each.relative_to(path)), at.st_ino, at.st_size, at.st_ctime_ns] for each, at in stats]
    return digest([str(path), seen])


def _hash(entries: list[Entry]) -> tuple[str, int]:
    """Return the SHA-256 and the bytes of an archive."""
    seen, size = hashlib.sha256(), 0
    with archive.stream(entries) as pieces:
        for piece in pieces:
            seen.update(piece)
            size += len(piece)
    return seen.hexdigest(), size


def _secrets(folder: Path | None) -> dict[str, bytes]:
    if folder is None:
        return {}
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
