"""One handle's comparisons: how many at once, how many wait, what becomes of each. Belongs to one event loop."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from taxiway_serving.criterion import Criterion
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.evidence.comparison import (
    AGAIN,
    CANDIDATE,
    COMPARISON,
    STABLE,
    Comparison,
    Findings,
    findings,
)
from taxiway_serving.evidence.matching import Agree, Response
from taxiway_serving.shadow import functions
from taxiway_serving.shadow.calls import Call, Caller, Target
from taxiway_serving.shadow.log import ShadowWriter

log = logging.getLogger(__name__)

_DETAIL_LENGTH: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """What is compared for one handle.

    Attributes:
        stable: A second copy of the stable version, which has no other traffic.
        candidate: The version in question.
        criterion: What counts as the same answer.
    """

    stable: Target
    candidate: Target
    criterion: Criterion = field(default_factory=Criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What comparing may cost at most, for each handle.

    Attributes:
        at_once: Requests that are compared at once, >= 1. The copy of stable has twice as many calls under way.
        waiting: Further requests that may wait, >= 0; those beyond are dropped and counted.
        call_s: Seconds that a variant has to answer, > 0.
        compare_s: Seconds that comparing two answers may take, > 0.
        body_bytes: Longest body of a request that is compared.
        answer_bytes: Longest body of an answer that is compared.
    """

    at_once: int = 4
    waiting: int = 32
    call_s: float = 10.0
    compare_s: float = 10.0
    body_bytes: int = 1024 * 1024
    answer_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of a handle's mirrored requests since it is followed so. For people; evidence is the log.

    Attributes:
        compared: Comparisons that were written down, those that failed included.
        failed: Those of them that failed.
        dropped: Requests that were not compared: too many waited, or what was found could not be written down.
        waiting: Requests that are being compared, or wait for it.
    """

    compared: int = 0
    failed: int = 0
    dropped: int = 0
    waiting: int = 0


class Lane:
    """Compares one handle's mirrored requests, in one way.

    Args:
        handle: The handle.
        comparing: Whom to ask, and what counts as the same.
        writer: Where what was found goes.
        limits: What it may cost.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        handle: str,
        comparing: Comparing,
        *,
        writer: ShadowWriter,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self.comparing = comparing
        self._handle, self._writer, self._limits, self._clock = handle, writer, limits, clock
        self._turns = asyncio.Semaphore(limits.at_once)
        self._judge = _Judge(comparing.criterion, limits.compare_s)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._reserved = 0
        self._compared = self._failed = self._dropped = self._untold = 0

    def counts(self) -> Counts:
        """Return what became of the requests so far. May be called from any thread."""
        return Counts(
            compared=self._compared, failed=self._failed, dropped=self._dropped, waiting=self._reserved
        )

    def reserve(self) -> bool:
        """Take a place for a request whose body is still to be read; where none is left, it is dropped.

        Whoever has taken one ends it with `compare` or `give_back`.
        """
        if self._reserved >= self._limits.at_once + self._limits.waiting:
            self._drop()
            return False
        self._reserved += 1
        return True

    def give_back(self) -> None:
        """Give a place back: its request will not be compared."""
        self._reserved -= 1
        self._drop()

    def compare(self, call: Call, caller: Caller) -> None:
        """Compare a request soon, at a place that was reserved. Returns at once."""
        if self._is_closed:
            self.give_back()
            return
        task = asyncio.create_task(self._compare(call, caller, self._clock()))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def close(self) -> None:
        """Forget what waits, and hang up on who is being asked."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Return when nothing of a closed lane is under way any more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, call: Call, caller: Caller, at_s: float) -> None:
        stable, candidate = self.comparing.stable, self.comparing.candidate
        async with self._turns:
            # All at once: whatever else goes on meanwhile meets the three of them alike.
            (first, first_ms), (again, again_ms), (other, other_ms) = await asyncio.gather(
                caller.ask(stable, call), caller.ask(stable, call), caller.ask(candidate, call)
            )
            found = await self._judge.findings(first, again, other)
        self._write(
            Comparison(
                at_s=at_s,
                handle=self._handle,
                request_id=call.request_id,
                unit=call.unit,
                stable=stable.version,
                candidate=candidate.version,
                candidate_differs=found.candidate_differs,
                noise_differs=found.noise_differs,
                failed=found.failed,
                ms={STABLE: first_ms, AGAIN: again_ms, CANDIDATE: other_ms},
                detail=found.detail[:_DETAIL_LENGTH],
            )
        )

    def _write(self, comparison: Comparison) -> None:
        try:
            self._writer.add(comparison, dropped=self._untold)
        except OSError as error:
            log.warning("a comparison of %s is lost: %s", self._handle, error)
            self._drop()
            return
        self._untold = 0
        self._compared += 1
        self._failed += bool(comparison.failed)

    def _drop(self) -> None:
        self._dropped += 1
        self._untold += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._reserved -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a comparison of %s is lost", self._handle, exc_info=error)
            self._drop()


class _Judge:
    """Compares answers in a thread, one request at a time: a user's function may be slow, or never return.

    One that never returns keeps its thread, and every later comparison fails for want of it; nothing else waits.
    """

    def __init__(self, criterion: Criterion, limit_s: float) -> None:
        self._criterion, self._limit_s = criterion, limit_s
        self._free = asyncio.Semaphore(1)
        self._agree: Agree | None = None
        self._fault = ""

    async def findings(self, stable: Response, again: Response, candidate: Response) -> Findings:
        try:
            async with asyncio.timeout(self._limit_s):
                await self._free.acquire()
                return await self._in_thread(lambda: self._findings(stable, again, candidate))
        except TimeoutError:
            detail = f"comparing the answers took more than {self._limit_s:g} s"
            return Findings(failed=(COMPARISON,), detail=detail)

    def _findings(self, stable: Response, again: Response, candidate: Response) -> Findings:
        name = self._criterion.function
        if name is not None and self._agree is None and not self._fault:
            try:
                self._agree = functions.load(name)
            except InvalidSpecError as error:
                self._fault = str(error)
        if self._fault:
            return Findings(failed=(COMPARISON,), detail=self._fault)
        return findings(stable, again, candidate, self._criterion, self._agree)

    def _in_thread(self, work: Callable[[], Findings]) -> asyncio.Future[Findings]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Findings] = loop.create_future()

        def ended(result: Findings | Exception) -> None:
            self._free.release()
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        def run() -> None:
            result: Findings | Exception
            try:
                result = work()
            except Exception as exc:  # noqa: BLE001  # handed to who waits
                result = exc
            # Where the loop is closed, nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended, result)

        # Not a pool: the end of the process waits for a pool's threads, and for a daemon it does not.
        threading.Thread(target=run, name="comparison", daemon=True).start()
        return future
