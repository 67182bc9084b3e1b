"""A Swarm as a manager tells of it, with what only jobs ask of it: services that end, their logs, secrets, nodes.

What a job is for is decided in `swarm.py`, how it is worded in `swarm_service.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from taxiway.engine import Engine
from taxiway.project.resources import Host
from taxiway_serving.runtimes.containers import carrying
from taxiway_serving.runtimes.engine import MISSING
from taxiway_serving.runtimes.swarm_engine import SwarmEngine, pieces

LOG_TIMEOUT_S = 10.0
"""Seconds that a node may be silent while it sends a log: one that is lost sends nothing, and no end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTask:
    """The one task of a job's service, as its manager has it.

    Attributes:
        state: Where it stands, in the Swarm's words; `new` before there is one.
        node: Name of the node that it was given to; "" before.
        error: Why it waits or ended, in the Swarm's words.
        exit_code: Of its container; None where the Swarm knows none.
        is_node_gone: Whether that node is down, or no longer of the Swarm.
    """

    state: str
    node: str = ""
    error: str = ""
    exit_code: int | None = None
    is_node_gone: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether there may be a log: one that was shut down has a container only if it ran."""
        is_ended_early = self.state == "shutdown" and self.exit_code is not None
        return self.state in {"running", "complete", "failed"} or is_ended_early

    @property
    def is_lost(self) -> bool:
        """Whether nobody will ever say how it ended: its node is gone, or was told to give it up."""
        is_open = self.state not in {"complete", "failed", "rejected"}
        return self.state in {"shutdown", "orphaned", "remove"} or (is_open and self.is_node_gone)

    @property
    def is_over(self) -> bool:
        """Whether it runs no more and never will, as far as the Swarm knows."""
        return self.state in {"complete", "failed", "rejected"} or self.is_lost


class JobEngine(Engine, SwarmEngine):
    """A manager of a Swarm; threads may share it. For what its methods raise, see `taxiway_serving.runtimes.engine`."""

    def create_job(self, body: Mapping[str, Any]) -> str:
        """Make the service of a job from a body of the engine's own API, and return its id."""
        with self._asking("service create"):
            made = self._client.create_service(
                task_template=dict(body["TaskTemplate"]),
                name=body["Name"],
                labels=dict(body["Labels"]),
                mode=dict(body["Mode"]),
            )
        return str(made["ID"])

    def job_task(self, labels: Mapping[str, str]) -> JobTask:
        """Return the task of the service that carries the labels, the first if the Swarm made more than one."""
        found = self._tasks(labels)
        if not found:
            return JobTask(state="new")
        item = min(found, key=lambda each: str(each["CreatedAt"]))
        status, node = item["Status"], item.get("NodeID", "")
        name, is_gone = self._node(node) if node else ("", False)
        return JobTask(
            state=status["State"],
            node=name,
            error=status.get("Err", ""),
            exit_code=(status.get("ContainerStatus") or {}).get("ExitCode"),
            is_node_gone=is_gone,
        )

    def has_tasks(self, labels: Mapping[str, str]) -> bool:
        """Tell whether something of the service that carries the labels still runs on a node that can be asked."""
        return any(
            not item.get("NodeID") or not self._node(item["NodeID"])[1] for item in self._tasks(labels)
        )

    def hosts(self) -> tuple[Host, ...]:
        """Return what each node has that takes tasks."""
        with self._asking("node ls"):
            found = self._client.nodes()
        ready = [
            each["Description"]["Resources"]
            for each in found
            if each["Status"]["State"] == "ready" and each["Spec"].get("Availability") == "active"
        ]
        return tuple(
            Host(cpus=each["NanoCPUs"] // 10**9, memory_mb=each["MemoryBytes"] // 2**20) for each in ready
        )

    def log_pieces(self, service: str, since_s: int | None) -> Iterator[str]:
        """Give what a service's task printed since a second: moments with pieces of lines.

        Raises:
            TransportError: After what came, if that may not be all: the next question gives the rest.
        """
        asked: dict[str, Any] = {"stdout": 1, "stderr": 1, "timestamps": 1}
        if since_s:
            asked["since"] = since_s
        told, broken = self._log(service, asked, LOG_TIMEOUT_S)
        for piece in pieces(told):
            yield piece.decode("utf-8", "replace")
        if broken:
            raise broken

    def create_secret(self, name: str, content: bytes, labels: Mapping[str, str]) -> str:
        """Hand a secret to the Swarm, and return its id."""
        with self._asking("secret create"):
            return str(self._client.create_secret(name, content, dict(labels))["ID"])

    def secrets(self, labels: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of every secret that carries the labels, by its id."""
        with self._asking("secret ls"):
            found = self._client.secrets(filters=carrying(labels))
        return {item["ID"]: item["Spec"].get("Labels") or {} for item in found}

    def remove_secret(self, secret: str) -> None:
        """Remove a secret; one that is gone is welcome."""
        with self._asking("secret rm", MISSING):
            self._client.remove_secret(secret)

    def _node(self, node: str) -> tuple[str, bool]:
        """Return the name of a node, and whether it is gone."""
        name, is_gone = node, True
        with self._asking("node inspect", MISSING):
            found = self._client.inspect_node(node)
            name, is_gone = found["Description"]["Hostname"], found["Status"]["State"] == "down"
        return name, is_gone
