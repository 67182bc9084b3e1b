"""Where a trial keeps its things, and on which ports it listens. No process is started here."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from taxiway.tools import write_atomically

PORT_NAMES = (
    "airflow",
    "airflow_worker_log",
    "airflow_trigger_log",
    "controller",
    "flower",
    "gateway",
    "gateway_admin",
    "mlflow",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The folders and files of a trial.

    Attributes:
        checkout: The clone that the trial is of; only read.
        home: `.trial` of the checkout, or another folder; everything that the trial writes is below it.
    """

    checkout: Path
    home: Path

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def bundle(self) -> Path:
        """The copy of `dags/` and `examples/` that Airflow reads, a Git repository."""
        return self.home / "bundle"

    @property
    def taxiway(self) -> Path:
        """TAXIWAY_HOME of the library and of the controller."""
        return self.home / "home"

    @property
    def airflow(self) -> Path:
        return self.home / "airflow"

    @property
    def mlflow(self) -> Path:
        return self.home / "mlflow"

    @property
    def samples(self) -> Path:
        """Digits as image files, for the traffic and for the reader's own curl."""
        return self.home / "samples"

    @property
    def token_file(self) -> Path:
        return self.taxiway / "token"

    @property
    def ports_file(self) -> Path:
        return self.home / "ports.json"

    @property
    def processes_file(self) -> Path:
        return self.home / "processes.json"

    @property
    def summary_file(self) -> Path:
        return self.home / "summary.json"

    @property
    def lock_file(self) -> Path:
        return self.home / "lock"

    def make(self) -> None:
        for folder in (self.logs, self.taxiway, self.airflow, self.mlflow, self.samples):
            folder.mkdir(parents=True, exist_ok=True)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def choose_ports(remembered: Path) -> dict[str, int]:
    """Return a free loopback port for each name, the remembered one where it is still free, and remember them.

    A second trial answers under the first one's address that way.
    """
    before = _read_ports(remembered)
    with _Claims() as claims:
        ports = {name: claims.claim(before.get(name, 0)) for name in PORT_NAMES}
    write_atomically(remembered, json.dumps(ports, indent=2) + "\n")
    return ports


def _read_ports(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {name: port for name, port in found.items() if isinstance(port, int) and 0 < port < 65536}


class _Claims:
    """Holds every chosen port until the last is chosen, so that no two are the same."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._sockets:
            held.close()

    def claim(self, wanted: int) -> int:
        for port in self._candidates(wanted):
            held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                held.close()
                continue
            self._sockets.append(held)
            return int(held.getsockname()[1])
        raise OSError("no free port on 127.0.0.1")

    @staticmethod
    def _candidates(wanted: int) -> Iterator[int]:
        if wanted:
            yield wanted
        yield 0
