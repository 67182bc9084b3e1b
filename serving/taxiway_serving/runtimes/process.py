"""The runtime that runs variants as detached processes of this host.

They outlive the controller, its `kill -9` included: what runs is found again by what the variant's folder remembers
and by the mark that its processes carry. How processes are found and ended is `tree.py`'s, what is remembered
`records.py`'s.
"""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx

from taxiway_serving import names
from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes import tree
from taxiway_serving.runtimes.records import Folder, Record, folders
from taxiway_serving.runtimes.runtime import VariantSpec, VariantState
from taxiway_serving.settings import inherited_environment

HOST: Final = "127.0.0.1"

_ORPHAN_GRACE_S: Final = 1.0
_REPLACE_GRACE_S: Final = 10.0
_PROBE_TIMEOUT_S: Final = 0.5
_EXIT_WAIT_S: Final = 5.0
_LASTING_S: Final = 60.0

Command = Callable[[VariantSpec, int], Sequence[str]]


def bento_command(spec: VariantSpec, port: int) -> list[str]:
    """Return the command line that serves a Bento on a loopback port with the variant's own interpreter."""
    serve = [str(spec.python), "-m", "bentoml", "serve", str(spec.bento_dir)]
    return [*serve, "--host", HOST, "--port", str(port)]


def environment(spec: VariantSpec, folder: Folder, parent: Mapping[str, str]) -> dict[str, str]:
    """Return everything that a variant's processes see of the environment.

    Args:
        spec: The variant; its own variables win over defaults, never over what Taxiway says of it.
        folder: Its folder, which holds its own BENTOML_HOME: two servers that share one wreck each other's metrics.
        parent: What it inherits; no secrets.
    """
    inherited = dict(parent)
    programs = [str(spec.python.parent)] if spec.python else []
    inherited["PATH"] = os.pathsep.join((*programs, parent.get("PATH", os.defpath)))
    # Small models on shared cores: more threads than cores make every call slower.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **inherited,
        **threads,
        "PYTHONUNBUFFERED": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        **spec.environment,
        "BENTOML_HOME": str(folder.bentoml_home),
        names.ENV_HANDLE: spec.handle,
        names.ENV_MODEL_DIR: str(spec.model_dir),
        names.ENV_MODEL_VERSION: str(spec.version),
        names.ENV_VARIANT: folder.mark(spec.digest()),
    }


class ProcessRuntime:
    """Runs each variant as a detached process tree. A `Runtime`.

    Args:
        home: Folder that remembers them, below `variants/<handle>/<version>`, and `<version>+1` for a further copy.
        command: Makes the command line of a variant on a port; the default serves its Bento.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, home: Path, *, command: Command = bento_command, clock: Callable[[], float] = time.time
    ) -> None:
        self._home = home.resolve()
        self._command = command
        self._clock = clock
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._client = httpx.Client(timeout=_PROBE_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        """Close the connections of the probes. The variants run on."""
        self._client.close()

    def ensure(self, spec: VariantSpec) -> None:
        """Find the variant running as specified, or start it. See `Runtime.ensure`."""
        _check_files(spec)
        folder = Folder(self._home, spec.variant)
        record = self._seen(folder)
        is_same = record is not None and record.digest == spec.digest() and not record.is_stopped
        folder.save(spec)
        if record is not None and is_same:
            if self._lives(folder, record) or self._clock() < record.ended_s + record.pause_s():
                return
            self._end(folder, record, _ORPHAN_GRACE_S)
            self._start(folder, spec, _next(record))
        else:
            self._end(folder, record, _REPLACE_GRACE_S)
            self._start(folder, spec, Record(digest=spec.digest(), port=0 if record is None else record.port))

    def observe(self) -> Mapping[VariantId, VariantState]:
        """Look at every variant that this home knows. See `Runtime.observe`."""
        return {folder.variant: self._state(folder) for folder in folders(self._home)}

    def ready(self, variant: VariantId) -> Answer:
        """Ask its /readyz; a process that is gone is not ready. See `Runtime.ready`."""
        folder = Folder(self._home, variant)
        record = folder.record()
        if record is None or not self._lives(folder, record):
            return Answer.NO
        answer = self._probe(record.port)
        if answer is Answer.YES and not record.ready_s:
            return self._first_ready(folder, record)
        return answer

    def logs(self, variant: VariantId, *, tail: int) -> str:
        """Return the end of what the variant wrote. See `Runtime.logs`."""
        return Folder(self._home, variant).tail(tail)

    def stop(self, variant: VariantId, *, grace_s: float) -> None:
        """End its whole tree, orphans of an earlier start included. See `Runtime.stop`."""
        folder = Folder(self._home, variant)
        record = folder.record()
        self._end(folder, record, grace_s)
        if record is not None and not record.is_stopped:
            ended = replace(
                record, pid=None, ended_s=self._clock(), is_stopped=True, reason="stopped as asked"
            )
            folder.save(ended)

    def _state(self, folder: Folder) -> VariantState:
        record = self._seen(folder)
        spec = folder.spec()
        if record is None or record.is_stopped:
            ended_s, reason = (0.0, "") if record is None else (record.ended_s, record.reason)
            return VariantState(phase="stopped", since_s=ended_s, reason=reason)
        seen = VariantState(
            phase="starting",
            host=HOST,
            port=record.port,
            pid=record.pid,
            since_s=record.started_s,
            restarts=record.restarts,
        )
        if record.ended_s:
            return replace(seen, phase="failed", pid=None, since_s=record.ended_s, reason=record.reason)
        if record.ready_s:
            return replace(seen, phase="ready", since_s=record.ready_s)
        deadline_s = record.started_s + (60.0 if spec is None else spec.ready_deadline_s)
        if self._clock() > deadline_s:
            reason = f"not ready within {deadline_s - record.started_s:g} s"
            return replace(seen, phase="failed", since_s=deadline_s, reason=reason)
        return seen

    def _seen(self, folder: Folder) -> Record | None:
        """Return the record after a look at the process: its death or its first ready answer is written down."""
        record = folder.record()
        if record is None or record.is_stopped or record.ended_s:
            return record
        if not self._lives(folder, record):
            record = replace(record, ended_s=self._clock(), reason=self._why_gone(record))
            folder.save(record)
        elif not record.ready_s and self._probe(record.port) is Answer.YES:
            self._first_ready(folder, record)
            record = folder.record()
        return record

    def _first_ready(self, folder: Folder, record: Record) -> Answer:
        # Between choosing the port and listening on it another program may have taken it, and its answer is not ours.
        if not tree.listens(tree.marked(folder.mark_prefix), record.port):
            return Answer.NO
        folder.save(replace(record, ready_s=self._clock()))
        return Answer.YES

    def _start(self, folder: Folder, spec: VariantSpec, record: Record) -> None:
        port = _free_port(
            record.port, {other.port for f in folders(self._home) if (other := f.record()) is not None}
        )
        record = replace(record, port=port, started_s=self._clock())
        # Written before the start too: if this process dies in between, the mark finds the one that was started.
        folder.save(record)
        folder.bentoml_home.mkdir(parents=True, exist_ok=True)
        folder.make_room()
        with folder.log.open("ab") as log:
            process = subprocess.Popen(
                list(self._command(spec, port)),
                cwd=folder.path,
                env=environment(spec, folder, inherited_environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        folder.save(replace(record, pid=process.pid))
        self._children[process.pid] = process
        threading.Thread(target=process.wait, name=f"await-{folder.variant}", daemon=True).start()

    def _end(self, folder: Folder, record: Record | None, grace_s: float) -> None:
        pid = None if record is None else record.pid
        tree.end(pid, tree.marked(folder.mark_prefix), grace_s=grace_s)

    def _lives(self, folder: Folder, record: Record) -> bool:
        return (
            record.pid is not None
            and not record.ended_s
            and tree.carries(record.pid, folder.mark(record.digest))
        )

    def _why_gone(self, record: Record) -> str:
        child = None if record.pid is None else self._children.pop(record.pid, None)
        if child is None:
            return f"process {record.pid} is gone"
        code = child.wait(timeout=_EXIT_WAIT_S)
        return f"process {record.pid} " + (
            f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        )

    def _probe(self, port: int) -> Answer:
        try:
            return Answer.of(self._client.get(f"http://{HOST}:{port}{names.READY_PATH}").status_code == 200)
        except httpx.ConnectError:
            return Answer.NO
        except httpx.HTTPError:
            return Answer.UNKNOWN


def _next(record: Record) -> Record:
    """Return the record of the next start after one that ended."""
    was_ready = record.ready_s > 0
    has_lasted = was_ready and record.ended_s - record.ready_s >= _LASTING_S
    return Record(
        digest=record.digest,
        # The same port again spares Envoy a change; but one that never came up may have found its port taken.
        port=record.port if was_ready else 0,
        restarts=record.restarts + 1,
        failures=0 if has_lasted else record.failures + 1,
    )


def _check_files(spec: VariantSpec) -> None:
    needed = {"bento_dir": spec.bento_dir, "python": spec.python, "model_dir": spec.model_dir}
    faults = tuple(
        f"{name} is missing: a process of this host needs it"
        if path is None
        else f"{name} does not exist: {path}"
        for name, path in needed.items()
        if path is None or not path.exists()
    )
    if faults:
        raise InvalidSpecError(faults, f"variant {spec.variant}")


def _free_port(preferred: int, taken: set[int]) -> int:
    """Return the preferred port if it is free, else any free one that no variant has been told to use."""
    if preferred and _is_free(preferred):
        return preferred
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
