"""Keeps the replicas of variants running on any machine: which to start, when again, and what they are as one variant.

What is remembered is `records.py`'s; how one replica is started, found and ended is a `Machine`'s, which each runtime
brings: `process.py`, `docker.py`.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx

from taxiway_serving.answers import Answer
from taxiway_serving.errors import TaxiwayError, TransportError
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.machine import Machine
from taxiway_serving.runtimes.records import Folder, Record, folders
from taxiway_serving.runtimes.runtime import Phase, VariantSpec, VariantState

_ORPHAN_GRACE_S: Final = 1.0
_REPLACE_GRACE_S: Final = 10.0
_PROBE_TIMEOUT_S: Final = 0.5
_LASTING_S: Final = 60.0
_MOST_ENDED_AT_ONCE: Final = 8
_BEST_FIRST: Final[tuple[Phase, ...]] = ("ready", "starting", "failed")


class Keeper:
    """A `Runtime` over a machine.

    Args:
        home: Folder that remembers the variants, below `variants/<handle>/<version>`, and `<version>+1` for a further
            copy.
        machine: What starts and ends their replicas.
        clock: Seconds since the epoch.
    """

    def __init__(self, home: Path, machine: Machine, *, clock: Callable[[], float] = time.time) -> None:
        self._home = home.resolve()
        self._machine = machine
        self._clock = clock
        self._client = httpx.Client(timeout=_PROBE_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        """Close the connections to the replicas and of the machine. See `Runtime.close`."""
        self._client.close()
        self._machine.close()

    def ensure(self, spec: VariantSpec) -> None:
        """Find every replica running as specified, or start it; end those beyond. See `Runtime.ensure`."""
        self._machine.check(spec)
        first = Folder(self._home, spec.variant)
        self._ensure_replica(first, spec, is_first=True)
        for number in range(1, spec.replicas):
            self._ensure_replica(Folder(self._home, spec.variant, number), spec)
        self._stop([each for each in first.replicas() if each.replica >= spec.replicas], _REPLACE_GRACE_S)

    def observe(self) -> Mapping[VariantId, VariantState]:
        """Look at every variant that this home knows. See `Runtime.observe`."""
        return {folder.variant: self._state(folder) for folder in folders(self._home)}

    def ready(self, variant: VariantId) -> Answer:
        """Ask the /readyz of its replicas; one that is gone is not ready. See `Runtime.ready`."""
        answers = {self._ready(folder) for folder in Folder(self._home, variant).replicas()}
        return next(each for each in (Answer.YES, Answer.UNKNOWN, Answer.NO) if each in answers)

    def logs(self, variant: VariantId, *, tail: int) -> str:
        """Return the end of what its replicas wrote. See `Runtime.logs`."""
        first = Folder(self._home, variant)
        told = [self._tail(first, tail), *(self._tail(each, tail) for each in _going(first.replicas()[1:]))]
        if len(told) == 1:
            return told[0]
        named = (f"[{number}] {line}" for number, text in enumerate(told) for line in text.splitlines())
        return "\n".join(list(named)[-tail:])

    def stop(self, variant: VariantId, *, grace_s: float) -> None:
        """End every replica whole, orphans of an earlier start included. See `Runtime.stop`."""
        self._stop(Folder(self._home, variant).replicas(), grace_s)
        # What is left over is looked for again at the next stop; the variant has ended whatever comes of it.
        with contextlib.suppress(TaxiwayError):
            self._machine.tidy(
                [record for each in folders(self._home) for record in _records(each.replicas())]
            )

    # One replica

    def _ensure_replica(self, folder: Folder, spec: VariantSpec, *, is_first: bool = False) -> None:
        record = self._seen(folder)
        is_same = record is not None and record.digest == spec.digest() and not record.is_stopped
        if is_first:
            folder.save(spec)
        if record is not None and is_same:
            if not record.is_waiting:
                if not record.ended_s or self._clock() < record.ended_s + record.pause_s():
                    return
                self._machine.end(folder, record, _ORPHAN_GRACE_S)
                record = _next(record)
        else:
            self._machine.end(folder, record, _REPLACE_GRACE_S)
            record = Record(digest=spec.digest(), port=0 if record is None else record.port)
        self._begin(folder, spec, replace(record, ready_path=spec.ready_path))

    def _begin(self, folder: Folder, spec: VariantSpec, record: Record) -> None:
        """Start a replica, or write down what it waits for, or why it cannot be started."""
        started_s = record.started_s if record.is_waiting else self._clock()
        waiting = replace(record, is_waiting=True, started_s=started_s)
        folder.save(waiting)
        try:
            if self._machine.prepare(spec):
                # Written before the start too: if this process dies in between, what was started is found by it.
                starting = replace(record, is_waiting=False, started_s=self._clock())
                folder.save(starting)
                folder.save(self._machine.start(spec, folder, starting))
        except TransportError:
            raise
        except TaxiwayError as error:
            folder.note(str(error))
            reason = f"cannot be started: {str(error).strip().splitlines()[-1]}"
            folder.save(
                replace(record, is_waiting=False, started_s=started_s, ended_s=self._clock(), reason=reason)
            )

    def _ready(self, folder: Folder) -> Answer:
        record = folder.record()
        if record is None or not _is_going(record):
            return Answer.NO
        try:
            if not self._machine.lives(folder, record):
                return Answer.NO
            record = self._located(folder, record)
            answer = self._probe(record)
            if answer is Answer.YES and not record.ready_s:
                return self._first_ready(folder, record)
        except TransportError:
            return Answer.UNKNOWN
        return answer

    def _seen(self, folder: Folder) -> Record | None:
        """Return the record after a look at the replica: its death or its first ready answer is written down."""
        record = folder.record()
        if record is None or not _is_going(record):
            return record
        if not self._machine.lives(folder, record):
            record = replace(record, ended_s=self._clock(), reason=self._machine.why_gone(folder, record))
            folder.save(record)
            return record
        record = self._located(folder, record)
        if not record.ready_s and self._probe(record) is Answer.YES:
            self._first_ready(folder, record)
            return folder.record()
        return record

    def _located(self, folder: Folder, record: Record) -> Record:
        host, port = self._machine.address(folder, record)
        if (host, port) == (record.host, record.port):
            return record
        moved = replace(record, host=host, port=port)
        folder.save(moved)
        return moved

    def _first_ready(self, folder: Folder, record: Record) -> Answer:
        # Between choosing the port and listening on it another program may have taken it, and its answer is not ours.
        if not self._machine.is_answering(folder, record):
            return Answer.NO
        folder.save(replace(record, ready_s=self._clock()))
        return Answer.YES

    def _probe(self, record: Record) -> Answer:
        if not record.port:
            return Answer.NO
        try:
            url = f"http://{record.host}:{record.port}{record.ready_path}"
            return Answer.of(self._client.get(url).status_code == httpx.codes.OK)
        except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
            return Answer.NO
        except httpx.HTTPError:
            return Answer.UNKNOWN

    def _stop(self, replicas: Sequence[Folder], grace_s: float) -> None:
        going = [(each, record) for each in replicas if (record := each.record()) is not None]
        going = [(each, record) for each, record in going if not record.is_stopped]
        if not going:
            return
        with ThreadPoolExecutor(min(len(going), _MOST_ENDED_AT_ONCE)) as pool:
            list(pool.map(lambda pair: self._machine.end(pair[0], pair[1], grace_s), going))
        for each, record in going:
            each.save(
                replace(
                    record,
                    pid=None,
                    ended_s=self._clock(),
                    is_stopped=True,
                    is_waiting=False,
                    reason="stopped as asked",
                )
            )

    def _tail(self, folder: Folder, lines: int) -> str:
        record = folder.record()
        return "" if record is None else self._machine.tail(folder, record, lines)

    # The replicas as one variant

    def _state(self, first: Folder) -> VariantState:
        spec = first.spec()
        deadline_s = 60.0 if spec is None else spec.ready_deadline_s
        states = [self._replica_state(each, deadline_s) for each in first.replicas()]
        going = [state for state in states if state.phase != "stopped"]
        return _together(going, 1 if spec is None else spec.replicas) if going else states[0]

    def _replica_state(self, folder: Folder, deadline_s: float) -> VariantState:
        try:
            record = self._seen(folder)
        except TransportError:
            # What cannot be looked at is as it was: an engine that does not answer says nothing of what it runs.
            record = folder.record()
        if record is None or record.is_stopped:
            ended_s, reason = (0.0, "") if record is None else (record.ended_s, record.reason)
            return VariantState(phase="stopped", since_s=ended_s, reason=reason)
        return _state_of(record, deadline_s, self._clock())


def _state_of(record: Record, deadline_s: float, now_s: float) -> VariantState:
    seen = VariantState(
        phase="starting",
        host=record.host,
        port=record.port,
        pid=record.pid,
        since_s=record.started_s,
        restarts=record.restarts,
    )
    if record.is_waiting:
        return replace(seen, reason="what it needs is being made")
    if record.ended_s:
        return replace(seen, phase="failed", pid=None, since_s=record.ended_s, reason=record.reason)
    if record.ready_s:
        return replace(seen, phase="ready", since_s=record.ready_s)
    if now_s > record.started_s + deadline_s:
        reason = f"not ready within {deadline_s:g} s"
        return replace(seen, phase="failed", since_s=record.started_s + deadline_s, reason=reason)
    return seen


def _together(states: Sequence[VariantState], wanted: int) -> VariantState:
    """Return what replicas are as one variant: as well as the best of them, and where each ready one is."""
    best = min(states, key=lambda state: _BEST_FIRST.index(state.phase))
    ready = [state for state in states if state.phase == "ready"]
    lacking = f"{len(ready)} of {wanted} replicas are ready" if len(ready) < wanted and wanted > 1 else ""
    return replace(
        best,
        restarts=sum(state.restarts for state in states),
        reason="; ".join(text for text in (lacking, best.reason) if text),
        replicas=tuple((state.host, state.port) for state in ready if state is not best),
    )


def _next(record: Record) -> Record:
    """Return the record of the next start after one that ended."""
    was_ready = record.ready_s > 0
    has_lasted = was_ready and record.ended_s - record.ready_s >= _LASTING_S
    return Record(
        digest=record.digest,
        host=record.host if was_ready else "",
        # The same port again spares Envoy a change; but one that never came up may have found its port taken.
        port=record.port if was_ready else 0,
        restarts=record.restarts + 1,
        failures=0 if has_lasted else record.failures + 1,
    )


def _is_going(record: Record) -> bool:
    return not (record.is_stopped or record.is_waiting or record.ended_s)


def _records(replicas: Sequence[Folder]) -> list[Record]:
    found = (each.record() for each in replicas)
    return [record for record in found if record is not None and not record.is_stopped]


def _going(replicas: Sequence[Folder]) -> list[Folder]:
    return [each for each in replicas if _records([each])]
