"""The Protocol of what starts, finds and ends one replica. Which ones should run is decided in `keeper.py`."""

from collections.abc import Collection
from typing import Protocol

from taxiway_serving.runtimes.records import Folder, Record
from taxiway_serving.runtimes.runtime import VariantSpec


class Machine(Protocol):
    """Starts single replicas, and knows again what it started, whoever did it and whenever.

    One thread calls it at a time, but for `end`, which several may call for different replicas. Every method raises
    TransportError if it could not be found out: that is no sign of anything that runs. Containers have images that must
    go at some time, and an engine behind a connection; a machine that has neither leaves `tidy` and `close` empty.
    """

    def check(self, spec: VariantSpec) -> None:
        """Raise InvalidSpecError, with every fault, for a variant that it cannot run."""
        ...

    def prepare(self, spec: VariantSpec) -> bool:
        """Return whether a replica can be started now; False while what it needs is being made.

        Raises:
            TaxiwayError: If it cannot be made.
        """
        ...

    def start(self, spec: VariantSpec, folder: Folder, record: Record) -> Record:
        """Start a replica in the place of what is left of an earlier one, and return its record.

        Args:
            spec: What to run.
            folder: Whose replica.
            record: The record of this start, saved already, so that `lives` finds what was started if its starter
                dies here; its port is the one of the start before.

        Raises:
            TaxiwayError: If it cannot be started.
        """
        ...

    def address(self, folder: Folder, record: Record) -> tuple[str, int]:
        """Return where a live replica listens; "" and 0 before it has an address."""
        ...

    def lives(self, folder: Folder, record: Record) -> bool:
        """Return whether what the record tells of runs, with the content that the record tells."""
        ...

    def is_answering(self, folder: Folder, record: Record) -> bool:
        """Return whether an answer from its address can only be its own."""
        ...

    def why_gone(self, folder: Folder, record: Record) -> str:
        """Return in words how a replica that does not live has ended."""
        ...

    def end(self, folder: Folder, record: Record | None, grace_s: float) -> None:
        """End a replica and everything that it started, also what an earlier start left; its log stays."""
        ...

    def tail(self, folder: Folder, record: Record, lines: int) -> str:
        """Return the end of a replica's log, "" if there is none."""
        ...

    def tidy(self, needed: Collection[Record]) -> None:
        """Remove what only replicas needed that are not among these records."""
        ...

    def close(self) -> None:
        """Close connections; what runs runs on."""
        ...
