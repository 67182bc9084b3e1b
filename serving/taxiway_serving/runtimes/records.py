"""What a runtime remembers of a variant's replicas, each in a folder of its own. Nothing that runs is touched here."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import READY_PATH, VariantId
from taxiway_serving.runtimes.runtime import VariantSpec

_NUMBER: Final = re.compile(r"([1-9][0-9]*)(?:\+([1-9][0-9]*))?")
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_TAIL_BYTES: Final = 256 * 1024
_LOG_LIMIT_BYTES: Final = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One start of a replica and what became of it. Times are seconds since the epoch, 0.0 for not yet.

    Attributes:
        digest: Content hash of the specification that was started.
        host: Where it was last seen listening; "" before.
        port: Port that it was told to listen on, or was last seen listening on.
        pid: Its first process; None before it is known, after it was stopped, and where it is no process of this host.
        image: Name of the image that its container was made of; "" for a process.
        started_s: When it was started.
        ready_s: When it was first seen ready.
        ended_s: When it was found dead, or was stopped.
        reason: Why it ended.
        is_stopped: Whether it was stopped because it was asked for.
        is_waiting: Whether it is not started yet, because what it needs is still being made.
        restarts: How often it was started again since it was asked for.
        failures: How many starts in a row did not last; the pauses grow with them.
        ready_path: Path that it is asked whether it is ready.
    """

    digest: str
    host: str = ""
    port: int = 0
    pid: int | None = None
    image: str = ""
    started_s: float = 0.0
    ready_s: float = 0.0
    ended_s: float = 0.0
    reason: str = ""
    is_stopped: bool = False
    is_waiting: bool = False
    restarts: int = 0
    failures: int = 0
    ready_path: str = READY_PATH

    def pause_s(self) -> float:
        """Return how long to wait after its end until the next start: 0, then 1, 2, 4 … 30 s."""
        if self.failures == 0:
            return 0.0
        return min(_FIRST_PAUSE_S * 2.0 ** min(self.failures - 1, 10), _LONGEST_PAUSE_S)


class Folder:
    """The folder of one replica: `record.json`, `serve.log` and BentoML's own home; the first one's has `spec.json`.

    Args:
        home: Of all of them.
        variant: Whose it is.
        replica: Which one, from 0; further ones have theirs in the folder of the first.
    """

    def __init__(self, home: Path, variant: VariantId, replica: int = 0) -> None:
        self.variant, self.replica = variant, replica
        self._home = home
        number = str(variant.version) + (f"+{variant.copy}" if variant.copy else "")
        first = home / "variants" / variant.handle / number
        self.path = first / "replicas" / str(replica) if replica else first
        self.log = self.path / "serve.log"
        self.bentoml_home = self.path / "bentoml"

    def mark(self, digest: str) -> str:
        """Return the mark that this variant's processes carry: no other home's or version's is equal."""
        return f"{self.path}#{digest}"

    @property
    def mark_prefix(self) -> str:
        """What the marks of all this variant's processes begin with, whatever their specification."""
        return f"{self.path}#"

    def replicas(self) -> list["Folder"]:
        """Return the folders of all replicas that were ever started, this one first; called on the first one."""
        found = sorted(int(path.parent.name) for path in self.path.glob("replicas/*/record.json"))
        return [self, *(Folder(self._home, self.variant, number) for number in found)]

    def spec(self) -> VariantSpec | None:
        """Return the specification that was asked for last, or None."""
        value = _load(self.path / "spec.json")
        try:
            return None if value is None else VariantSpec.from_json(value)
        except InvalidSpecError:
            return None

    def record(self) -> Record | None:
        """Return the record of the last start, or None. A file that is not one counts as none."""
        value = _load(self.path / "record.json")
        try:
            return None if value is None else Record(**value)  # type: ignore[arg-type]
        except TypeError:
            return None

    def save(self, value: VariantSpec | Record) -> None:
        """Replace the specification or the record, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        is_spec = isinstance(value, VariantSpec)
        target = self.path / ("spec.json" if is_spec else "record.json")
        content = value.to_json() if isinstance(value, VariantSpec) else asdict(value)
        scratch = target.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(content, indent=1) + "\n")
        scratch.replace(target)

    def make_room(self) -> None:
        """Put a long log aside before a start; one older log is kept."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def note(self, text: str) -> None:
        """Write something at the end of the log."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.make_room()
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(text.rstrip("\n") + "\n")

    def tail(self, lines: int) -> str:
        """Return the last lines of the log, "" if there is none."""
        try:
            with self.log.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, size - _TAIL_BYTES))
                text = stream.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def folders(home: Path) -> Iterator[Folder]:
    """Yield the folder of the first replica of every variant that was ever started here, in order."""
    for path in sorted((home / "variants").glob("*/*/record.json")):
        found = _NUMBER.fullmatch(path.parent.name)
        if found:
            handle, version, copy = path.parent.parent.name, int(found[1]), int(found[2] or 0)
            yield Folder(home, VariantId(handle=handle, version=version, copy=copy))


def _load(path: Path) -> dict[str, object] | None:
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None
