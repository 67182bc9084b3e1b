"""Runs many jobs of a package from an interpreter that has its imports loaded, so that a job costs its work alone.

The interpreter itself is `zygote.py`. What cannot be run so runs in a fresh process each, and the log says why.
"""

import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from taxiway.errors import ComponentFailedError, JobStoppedError
from taxiway.packaging import environment as environments
from taxiway.packaging.package import CodePackage, Materialised
from taxiway.runners import limits, watch, workplace, zygote
from taxiway.runners.process import ProcessRunner
from taxiway.runners.runner import UNLOOKED, Job, JobResult, Log
from taxiway.runners.stop import Stop
from taxiway.tools import held_locks, remove

MOST_WARM = 2
START_S = 300.0
# Arrow's allocator would start a thread when it is imported, and a process with threads cannot be forked.
NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
END_S = 3.0
# By then the next job has begun: looking costs processor time that its beginning would wait for.
LOOK_AFTER_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Warm:
    """One interpreter with its imports loaded.

    Attributes:
        process: The zygote.
        control: Where it is told of jobs.
        folder: Its own.
        notes: What was noted while it imported: each of its jobs read that, too.
    """

    process: "subprocess.Popen[bytes]"
    control: socket.socket
    folder: Path
    notes: str = ""

    def close(self) -> None:
        """End it; its jobs have guards of their own and are not touched."""
        self.control.close()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        remove(self.folder)


class WarmRunner:
    """A runner of processes on this host that are forked with the package's imports loaded; a context manager.

    One interpreter serves the jobs of one package and seed, since Python's hash seed is fixed when it starts; it has
    the environment of the first of them, and is no other than a fresh one to the script. Any number of threads may
    share it. What a job wrote into the package's source or environment is its own and its neighbours' fault: the jobs
    that begin once it was seen get source, environment and interpreter anew.

    Args:
        materialise: Returns a package ready to run on this host.
        folder: Working folder of its interpreters.
        log: Called with a line when a package cannot be kept warm.
        seed: Of the jobs that a package is made ready for; those of another seed start an interpreter when they come.
    """

    def __init__(
        self,
        materialise: Callable[[CodePackage], Materialised],
        folder: Path,
        log: Log,
        seed: int | None = None,
    ) -> None:
        self._materialise = materialise
        self._cold = ProcessRunner(materialise)
        self._folder = folder
        self._log = log
        self._seed = seed
        self._lock = threading.Lock()
        self._ready: dict[str, Materialised] = {}
        self._warm: dict[tuple[Path, str, int | None], _Warm | None] = {}
        self._spoiled: list[_Warm | None] = []
        self._looking = ThreadPoolExecutor(1, "look at environments")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every interpreter; jobs that run go on to their end."""
        self._looking.shutdown()
        with self._lock:
            for warm in (*self._warm.values(), *self._spoiled):
                if warm:
                    warm.close()
            self._warm.clear()
            self._spoiled.clear()

    def prepare(self, package: CodePackage) -> None:
        """Make source and environment of a package ready, and its imports loaded; see `Runner.prepare`."""
        first = Job(package=package, folder=self._folder / "first", seed=self._seed)
        self._interpreter(first, self._made_ready(package))

    def is_known(self, _package: CodePackage, _folder: Path) -> bool:
        """Return False: a process ends with its caller. See `Runner.is_known`."""
        return False

    def forget(self, _package: CodePackage, _folder: Path) -> None:
        """Leave nothing to end: a process ends with its caller. See `Runner.forget`."""

    def run(self, job: Job, log: Log, stop: Stop | None = None) -> JobResult:
        """Run a job; see `Runner.run`."""
        ready = self._made_ready(job.package)
        warm = self._interpreter(job, ready)
        if warm is None:
            return self._cold.run(job, log, stop)
        try:
            with workplace.room(job):
                found = _run(warm, job, ready, log, stop or Stop())
        finally:
            # That takes as long as it takes to begin the next job, which need not wait for it.
            wanted = threading.Event()
            look = self._looking.submit(self._look, ready, wanted, time.monotonic() + LOOK_AFTER_S)

        def looked(at_once: bool) -> tuple[str, ...]:
            if at_once:
                wanted.set()
            return look.result()

        return replace(found, looked=looked)

    def _made_ready(self, package: CodePackage) -> Materialised:
        """Make a package ready once, and again where a job wrote into what others are to share."""
        with self._lock:
            known = self._ready.get(package.digest)
            if known is None or watch.code(known.source_dir).hash != package.source_hash:
                known = self._ready[package.digest] = self._materialise(package)
            return known

    def _look(self, ready: Materialised, wanted: threading.Event, at_s: float) -> tuple[str, ...]:
        """Return what is altered in an environment, and let no more jobs begin in one where something is."""
        wanted.wait(max(0.0, at_s - time.monotonic()))
        found = tuple(workplace.alterations(ready.python))
        if found:
            with self._lock:
                for digest in [name for name, each in self._ready.items() if each.python == ready.python]:
                    del self._ready[digest]
                # A job may be about to begin there: it is doubted, but need not fail.
                spoiled = [key for key in self._warm if key[0] == ready.python]
                self._spoiled += [self._warm.pop(key) for key in spoiled]
                for old in self._spoiled[:-MOST_WARM]:
                    if old:
                        old.close()
                del self._spoiled[:-MOST_WARM]
        return found

    def _interpreter(self, job: Job, ready: Materialised) -> _Warm | None:
        key = (ready.python, job.package.digest, job.seed)
        with self._lock:
            known = self._warm.pop(key, None) if key in self._warm else self._start(job, ready)
            if known and known.process.poll() is not None:
                known.close()
                known = self._start(job, ready)
            # The one that was asked for last is at the end; jobs of the one that goes are not touched.
            self._warm[key] = known
            for old in list(self._warm)[: max(0, len(self._warm) - MOST_WARM)]:
                gone = self._warm.pop(old)
                if gone:
                    gone.close()
            return known

    def _start(self, job: Job, ready: Materialised) -> _Warm | None:
        limits.announce(job, self._log)
        words = workplace.arguments(job, ready.python)
        if not _is_script(words, ready.python):
            self._log(
                f"{job.name}: `{job.command}` is no script of Python; each run of it is a process of its own"
            )
            return None
        warm = _launch(job, ready, words[1:], self._folder / f"warm-{os.getpid()}-{time.monotonic_ns()}")
        refusal = _refusal(warm.control)
        if refusal:
            warm.close()
            self._log(f"{job.name}: {refusal}; each trial is a process of its own")
            return None
        return replace(warm, notes=_notes(warm.folder, ready.source_dir))


def _run(warm: _Warm, job: Job, ready: Materialised, log: Log, stop: Stop) -> JobResult:
    began, started = workplace.prepare(job, ready.source_dir), time.monotonic()
    (job.folder / watch.NOTES).write_text(warm.notes, encoding="utf-8")
    try:
        guard, code, tail = _fork(warm, job, ready, log, stop)
    finally:
        ended = workplace.clear(job)
    if code != 0 and stop.is_requested:
        raise JobStoppedError(job.name)
    if code != 0:
        raise ComponentFailedError(job.name, job.command, code, tail)
    seen = workplace.trace(job, began, ended, guard, (UNLOOKED,))
    return JobResult(output_dir=job.output_dir, seconds=time.monotonic() - started, trace=seen)


def _is_script(words: list[str], python: Path) -> bool:
    if len(words) < 2 or words[0] != str(python):
        return False
    return (words[1] == "-m" and len(words) > 2) or not words[1].startswith("-")


def _launch(job: Job, ready: Materialised, words: list[str], folder: Path) -> _Warm:
    folder.mkdir(parents=True)
    ours, theirs = socket.socketpair()
    environment = workplace.environment(job, ready.python) | watch.environment(folder, time.time())
    environment |= NO_THREADS
    with theirs, environments.occupied(ready.python) as lock:
        process = subprocess.Popen(
            [ready.python, zygote.__file__, str(theirs.fileno()), str(os.getpid()), ready.source_dir, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(theirs.fileno(), lock),
        )
    return _Warm(process=process, control=ours, folder=folder)


def _refusal(control: socket.socket) -> str | None:
    ready, _, _ = select.select([control], [], [], START_S)
    with control.makefile("rb") as file:
        line = file.readline() if ready else b""
    if not line:
        return f"its imports did not end well within {START_S:.0f} s"
    refusal: str | None = json.loads(line)["refusal"]
    return refusal


def _notes(folder: Path, source_dir: Path) -> str:
    """Return what its imports read; it looked into the package's source only to see what that imports."""
    path = folder / watch.NOTES
    if not path.exists():
        return ""
    looked = (zygote.__file__, f"{source_dir.resolve()}{os.sep}")
    own = tuple(f"{kind}\t{each}" for kind in ("read", "old") for each in looked)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(own))


def _fork(warm: _Warm, job: Job, ready: Materialised, log: Log, stop: Stop) -> tuple[int, int, str]:
    """Run a job to its end, and return its guard's process id, its exit code and the end of its log."""
    link, theirs = socket.socketpair()
    readable, writable = os.pipe()
    with link, os.fdopen(readable, encoding="utf-8", errors="replace") as lines:
        try:
            socket.send_fds(warm.control, [b"j"], [theirs.fileno(), writable, *held_locks()])
            link.sendall(json.dumps(_request(job, ready)).encode() + b"\n")
        except OSError as exc:
            raise ComponentFailedError(job.name, job.command, -9, f"its interpreter is gone: {exc}") from exc
        finally:
            theirs.close()
            os.close(writable)
        with stop.calling(lambda: _hang_up(link)):
            tail = workplace.follow(lines, job, log)
            with link.makefile("rb") as file:
                answer = json.loads(file.readline() or b'{"guard": 0, "code": -9}')
    return answer["guard"], answer["code"], tail


def _hang_up(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_WR)


def _request(job: Job, ready: Materialised) -> dict[str, object]:
    return {
        "words": workplace.arguments(job, ready.python)[1:],
        "folder": str(job.folder / workplace.SOURCE),
        "environment": workplace.environment(job, ready.python),
    }
