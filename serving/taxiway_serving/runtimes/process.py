"""The runtime that runs variants as detached processes of this host.

They outlive the controller, its `kill -9` included: what runs is found again by what its folder remembers and by the
mark that its processes carry. How processes are found and ended is `tree.py`'s, what is remembered `records.py`'s, and
which should run `keeper.py`'s.
"""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from taxiway_serving import names
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.runtimes import tree
from taxiway_serving.runtimes.keeper import Keeper
from taxiway_serving.runtimes.records import Folder, Record, folders
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.settings import inherited_environment

HOST: Final = "127.0.0.1"

_EXIT_WAIT_S: Final = 5.0

Command = Callable[[VariantSpec, int], Sequence[str]]


def serving_command(spec: VariantSpec, port: int) -> list[str]:
    """Return the command line that serves a variant on a loopback port with its own interpreter."""
    if spec.server == "mlflow":
        serve = [str(spec.python), "-m", "mlflow", "models", "serve", "-m", str(spec.model_dir)]
        serve += ["--env-manager", "local", "--workers", "1"]
    else:
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


class ProcessRuntime(Keeper):
    """Runs each replica as a detached process tree. A `Runtime`.

    Args:
        home: Folder that remembers them, below `variants/<handle>/<version>`, and `<version>+1` for a further copy.
        command: Makes the command line of a variant on a port; the default serves its Bento, or its model by MLflow.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, home: Path, *, command: Command = serving_command, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(home, ProcessMachine(home.resolve(), command), clock=clock)


class ProcessMachine:
    """Starts, finds and ends one process tree for a replica. A `Machine`."""

    def __init__(self, home: Path, command: Command) -> None:
        self._home, self._command = home, command
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def check(self, spec: VariantSpec) -> None:
        """Refuse files that are not there, and limits that a process would not keep. See `Machine.check`."""
        faults = _faults(spec)
        if faults:
            raise InvalidSpecError(faults, f"variant {spec.variant}")

    def prepare(self, spec: VariantSpec) -> bool:
        """Return True: all that a process needs is on this host. See `Machine.prepare`."""
        return True

    def start(self, spec: VariantSpec, folder: Folder, record: Record) -> Record:
        """Start a process on a free port. See `Machine.start`."""
        port = _free_port(record.port, self._ports())
        folder.save(replace(record, host=HOST, port=port))
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
        self._children[process.pid] = process
        threading.Thread(target=process.wait, name=f"await-{folder.variant}", daemon=True).start()
        return replace(record, host=HOST, port=port, pid=process.pid)

    def address(self, folder: Folder, record: Record) -> tuple[str, int]:
        """Return what it was told. See `Machine.address`."""
        return HOST, record.port

    def lives(self, folder: Folder, record: Record) -> bool:
        """Return whether the process that was started carries its mark. See `Machine.lives`."""
        return record.pid is not None and tree.carries(record.pid, folder.mark(record.digest))

    def is_answering(self, folder: Folder, record: Record) -> bool:
        """Return whether one of its processes listens on the port. See `Machine.is_answering`."""
        return tree.listens(tree.marked(folder.mark_prefix), record.port)

    def why_gone(self, folder: Folder, record: Record) -> str:
        """Return how its first process ended, if that was a child of this one. See `Machine.why_gone`."""
        child = None if record.pid is None else self._children.pop(record.pid, None)
        if child is None:
            return f"process {record.pid} is gone"
        code = child.wait(timeout=_EXIT_WAIT_S)
        return f"process {record.pid} " + (
            f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        )

    def end(self, folder: Folder, record: Record | None, grace_s: float) -> None:
        """End its whole tree, orphans of an earlier start included. See `Machine.end`."""
        pid = None if record is None else record.pid
        tree.end(pid, tree.marked(folder.mark_prefix), grace_s=grace_s)

    def tail(self, folder: Folder, record: Record, lines: int) -> str:
        """Return the end of its file. See `Machine.tail`."""
        return folder.tail(lines)

    def tidy(self, needed: Collection[Record]) -> None:
        """Remove nothing: environment and model were there before, and others use them. See `Machine.tidy`."""

    def close(self) -> None:
        """Close nothing: no connection leads to a process. See `Machine.close`."""

    def _ports(self) -> set[int]:
        replicas = (each for first in folders(self._home) for each in first.replicas())
        return {record.port for each in replicas if (record := each.record()) is not None}


def _faults(spec: VariantSpec) -> tuple[str, ...]:
    needed = {"python": spec.python, "model_dir": spec.model_dir}
    needed |= {"bento_dir": spec.bento_dir} if spec.server == "bento" else {}
    faults = [
        f"{name} is missing: a process of this host needs it"
        if path is None
        else f"{name} does not exist: {path}"
        for name, path in needed.items()
        if path is None or not path.exists()
    ]
    limits = [name for name in ("cpus", "memory_bytes") if getattr(spec, name) is not None]
    if limits:
        faults.append(f"{', '.join(limits)}: a process keeps to no limit; TAXIWAY_RUNTIME=docker does")
    return tuple(faults)


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
