"""A Swarm as its manager tells of it: services, tasks and nodes as plain values, beside what `engine.py` knows.

What a service is for is decided by who asks: `swarm.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from taxiway_serving.errors import TransportError
from taxiway_serving.runtimes.containers import carrying, seconds
from taxiway_serving.runtimes.engine import MISSING, Engine

_LOG_TIMEOUT_S: Final = 2.0
_PIECE_BYTES: Final = 64 * 1024
_HEAD_LENGTH: Final = 8
_NOWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104  # what a manager says of itself; nothing is bound to it
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service, as its manager has it.

    Attributes:
        id: The manager's id.
        name: Its name.
        index: Which of its versions this is; a change names the one that it is made to.
        labels: Its labels.
        spec: All that is wanted of it, in the words of the engine's API.
        since_s: When it was made or, if that was later, when its last update began, in seconds since the epoch.
        update: How its last update stands, such as `updating`, `completed` or `rollback_completed`; "" without one.
        message: What the manager says about that.
    """

    id: str
    name: str
    index: int
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    since_s: float
    update: str = ""
    message: str = ""

    @property
    def replicas(self) -> int:
        """How many are wanted."""
        return int(self.spec["Mode"]["Replicated"]["Replicas"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One replica that runs, ran, or shall run.

    Attributes:
        id: The manager's id.
        service: Id of its service.
        node: Id of the node that it was given to; "" before.
        state: Where it stands, such as `starting`, `running`, `failed` or `shutdown`.
        wish: Where it shall stand: `running`, or `shutdown` once it was told to end.
        since_s: When its state began.
        labels: Labels of its container.
        ports: The node's port on which each of its TCP ports is published.
        pid: Its first process on its node; None before it has one.
        error: Why it ended, in the engine's words.
    """

    id: str
    service: str
    node: str
    state: str
    wish: str
    since_s: float
    labels: Mapping[str, str]
    ports: Mapping[int, int] = field(default_factory=dict)
    pid: int | None = None
    error: str = ""


class SwarmEngine(Engine):
    """An engine that manages a Swarm; threads may share it. For what its methods raise, see `Engine`."""

    def services(self, labels: Mapping[str, str]) -> tuple[Service, ...]:
        """Return every service that carries the labels."""
        with self._asking("service ls"):
            found = self._client.services(filters=carrying(labels))
        return tuple(_service(item) for item in found)

    def service(self, name: str) -> Service | None:
        """Return a service by its name or id; None if there is none."""
        found = None
        with self._asking("service inspect", MISSING):
            found = self._client.inspect_service(name)
        return _service(found) if found else None

    def create_service(self, spec: Mapping[str, Any]) -> str:
        """Make a service from a body of the engine's own API, and return its id."""
        with self._asking("service create"):
            return str(self._client.create_service(**_arguments(spec))["ID"])

    def update_service(self, service: Service, spec: Mapping[str, Any]) -> None:
        """Want something else of a service, as it was looked at; one that was changed since refuses."""
        with self._asking("service update"):
            self._client.update_service(service.id, version=service.index, **_arguments(spec))

    def remove_service(self, service: str) -> None:
        """Remove a service, whose tasks end then; one that is gone is welcome."""
        with self._asking("service rm", MISSING):
            self._client.remove_service(service)

    def tasks(self, labels: Mapping[str, str]) -> tuple[Task, ...]:
        """Return the tasks, those that ended lately included, of services that carry the labels."""
        return tuple(_task(item) for item in self._tasks(labels))

    def nodes(self) -> Mapping[str, str]:
        """Return the address of every node that answers its manager, by id."""
        with self._asking("node ls"):
            found = self._client.nodes()
        return {item["ID"]: _address(item) for item in found if item["Status"]["State"] == "ready"}

    def service_tail(self, service: str, lines: int) -> str:
        """Return the last lines that a service's tasks printed, "" for one that is gone.

        A node that is lost sends nothing and no end: what came before that is returned.
        """
        told, broken = self._log(service, {"stdout": 1, "stderr": 1, "tail": lines}, _LOG_TIMEOUT_S)
        if broken and not told:
            raise broken
        text = b"".join(pieces(told)).decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def _tasks(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        with self._asking("service ps"):
            return list(self._client.tasks(filters=carrying(labels)))

    def _log(
        self, service: str, asked: Mapping[str, Any], timeout_s: float
    ) -> tuple[bytes, TransportError | None]:
        """Return what came of a service's log, b"" for one that is gone, and why that may not be all of it.

        Args:
            service: Which one.
            asked: Parameters of the engine's API.
            timeout_s: Seconds that a node may be silent while it sends: one that is lost sends nothing, and no end.
        """
        told: list[bytes] = []
        # The SDK's own way waits without an end.
        client = self._client
        url = f"{client.base_url}/v{client.api_version}/services/{service}/logs"
        try:
            with (
                self._asking("service logs"),
                client.get(url, params=asked, timeout=timeout_s, stream=True) as answer,
            ):
                if answer.status_code != MISSING:
                    answer.raise_for_status()
                    told.extend(answer.iter_content(_PIECE_BYTES))
        except TransportError as error:
            return b"".join(told), error
        return b"".join(told), None


def pieces(stream: bytes) -> Iterator[bytes]:
    """Give the whole pieces of a log, which have heads: a word of 4 bytes, and their length. A torn one is left out."""
    place = 0
    while place + _HEAD_LENGTH <= len(stream):
        start = place + _HEAD_LENGTH
        place = start + int.from_bytes(stream[place + 4 : start], "big")
        if place > len(stream):
            return
        yield stream[start:place]


def _arguments(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task_template": dict(spec["TaskTemplate"]),
        "name": spec["Name"],
        "labels": dict(spec["Labels"]),
        "mode": dict(spec["Mode"]),
        "update_config": dict(spec["UpdateConfig"]),
        "rollback_config": dict(spec["RollbackConfig"]),
        "endpoint_spec": dict(spec["EndpointSpec"]),
    }


def _service(item: Mapping[str, Any]) -> Service:
    status = item.get("UpdateStatus") or {}
    return Service(
        id=item["ID"],
        name=item["Spec"]["Name"],
        index=int(item["Version"]["Index"]),
        labels=item["Spec"].get("Labels") or {},
        spec=item["Spec"],
        since_s=max(seconds(item["CreatedAt"]), seconds(status.get("StartedAt", ""))),
        update=status.get("State", ""),
        message=status.get("Message", ""),
    )


def _task(item: Mapping[str, Any]) -> Task:
    status = item["Status"]
    ports = (status.get("PortStatus") or {}).get("Ports") or ()
    return Task(
        id=item["ID"],
        service=item["ServiceID"],
        node=item.get("NodeID", ""),
        state=status["State"],
        wish=item["DesiredState"],
        since_s=seconds(status["Timestamp"]),
        labels=item["Spec"]["ContainerSpec"].get("Labels") or {},
        ports={each["TargetPort"]: each["PublishedPort"] for each in ports if "PublishedPort" in each},
        pid=(status.get("ContainerStatus") or {}).get("PID") or None,
        error=status.get("Err", ""),
    )


def _address(node: Mapping[str, Any]) -> str:
    manager = (node.get("ManagerStatus") or {}).get("Addr", "").rpartition(":")[0]
    known = [text for text in (node["Status"].get("Addr", ""), manager) if text not in _NOWHERE]
    return known[0] if known else LOOPBACK
