"""Follows jobs that an engine runs to their ends, asked for or not. How one is ended there is its runner's business."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from taxiway.errors import DiskFullError, JobStoppedError, TaxiwayError, ToolFailedError, TransportError
from taxiway.runners import workplace
from taxiway.runners.runner import Job
from taxiway.runners.stop import Stop


class Following:
    """The jobs that a runner follows, until all of them are to end. Threads and handlers of signals share it."""

    def __init__(self) -> None:
        self._ends: dict[object, Callable[[float], object]] = {}
        self._is_over = threading.Event()

    def refuse_if_over(self, job: Job) -> None:
        """Refuse to begin a job when all are to end.

        Raises:
            JobStoppedError: If they are.
        """
        if self._is_over.is_set():
            raise JobStoppedError(job.name)

    def is_ended(self, asked: Stop) -> bool:
        """Tell whether somebody has asked for the end of a job, or of all of them."""
        return asked.is_requested or self._is_over.is_set()

    def end_all(self, grace_s: float) -> None:
        """End every job that is followed, all at once, and let no other begin."""
        self._is_over.set()
        ends = tuple(self._ends.values())
        if ends:
            with ThreadPoolExecutor(len(ends)) as pool:
                list(pool.map(lambda end: end(grace_s), ends))

    @contextmanager
    def ended_by(self, end: Callable[[float], object]) -> Iterator[None]:
        """Have `end` called with the seconds of grace when all jobs are to end while the block lasts."""
        key = object()
        self._ends[key] = end
        try:
            yield
        finally:
            del self._ends[key]

    @contextmanager
    def to_the_end(
        self, job: Job, asked: Stop, *, end: Callable[[float], object], remove: Callable[[], object]
    ) -> Iterator[None]:
        """Remove a job when the block ends, however it does, but for an engine or a disk that comes back.

        Args:
            job: The job.
            asked: Whether its end was asked for.
            end: Ends it within so many seconds when all jobs are to end.
            remove: Removes it, ended or not.

        Raises:
            JobStoppedError: If it was gone in the middle of a question because its end was asked for.
            DiskFullError: If its results do not fit on this host; it waits for a retry.
        """
        with self.ended_by(end):
            try:
                self.refuse_if_over(job)
                yield
            except TransportError:
                raise
            except BaseException as error:
                if workplace.is_full(error):
                    raise DiskFullError(job.folder, None, shutil.disk_usage(job.folder).free) from error
                remove()
                if isinstance(error, ToolFailedError) and self.is_ended(asked):
                    raise JobStoppedError(job.name) from error
                raise
            remove()


def end_soon(end: Callable[[], object]) -> None:
    """Begin to end a job and wait for nothing; what is in the way of that is met by whoever follows the job."""

    def ending() -> None:
        with suppress(TaxiwayError):
            end()

    threading.Thread(target=ending, name="end of a job", daemon=True).start()
