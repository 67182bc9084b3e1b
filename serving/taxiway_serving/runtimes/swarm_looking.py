"""Which replicas of a Swarm's services take requests now: tasks as the manager tells, each asked for itself."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx

from taxiway_serving.answers import Answer
from taxiway_serving.names import READY_PATH, VariantId
from taxiway_serving.runtimes.docker import PORT, SPEC
from taxiway_serving.runtimes.swarm_engine import Service, SwarmEngine, Task
from taxiway_serving.runtimes.swarm_service import READY, variant_of

_PROBE_TIMEOUT_S: Final = 0.5
_PROBES_AT_ONCE: Final = 16
_SILENCE_S: Final = 2.0
_NO_NODES: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A replica that runs, where it listens, and what it answered when it was asked whether it is ready."""

    task: Task
    address: tuple[str, int]
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One service at one look.

    Attributes:
        service: The service.
        tasks: Its tasks, those that ended lately included.
        running: Those that run on a node that answers, and shall.
    """

    service: Service
    tasks: tuple[Task, ...]
    running: tuple[Replica, ...]

    @property
    def ready(self) -> tuple[Replica, ...]:
        """Those that take requests, by address, what is wanted now before what an update replaces."""
        ready = [each for each in self.running if each.answer is Answer.YES]
        return tuple(sorted(ready, key=lambda each: (not self.is_current(each.task), each.address)))

    def is_current(self, task: Task) -> bool:
        """Tell whether a task runs what is wanted now."""
        return task.labels.get(SPEC) == self.service.labels.get(SPEC)


class SwarmLookout:
    """Looks at services. One thread calls it.

    Args:
        engine: A manager of the Swarm.
        clock: Seconds since the epoch.
    """

    def __init__(self, engine: SwarmEngine, clock: Callable[[], float]) -> None:
        self._engine, self._clock = engine, clock
        self._client = httpx.Client(timeout=_PROBE_TIMEOUT_S, trust_env=False)
        self._pool = ThreadPoolExecutor(_PROBES_AT_ONCE, thread_name_prefix="probe")
        self._answered_s: dict[str, float] = {}

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def look(self, labels: Mapping[str, str]) -> dict[VariantId, View]:
        """Return every variant whose service carries the labels, with what each replica answered a moment ago.

        Raises:
            TransportError, ToolFailedError: If the manager could not be asked.
        """
        found = {
            variant: each
            for each in self._engine.services(labels)
            if (variant := variant_of(each.labels)) is not None
        }
        tasks = self._engine.tasks(labels) if found else ()
        nodes = self._engine.nodes() if found else _NO_NODES
        paths = {each.id: each.labels.get(READY, READY_PATH) for each in found.values()}
        oldest_s = self._clock() - _SILENCE_S
        self._answered_s = {task: at_s for task, at_s in self._answered_s.items() if at_s >= oldest_s}
        running = self._asked([task for task in tasks if _runs(task, nodes)], nodes, paths)
        return {
            variant: View(
                service=service,
                tasks=tuple(task for task in tasks if task.service == service.id),
                running=tuple(each for each in running if each.task.service == service.id),
            )
            for variant, service in found.items()
        }

    def _asked(
        self, tasks: Sequence[Task], nodes: Mapping[str, str], paths: Mapping[str, str]
    ) -> list[Replica]:
        """Ask every task whether it is ready, all at once: one that does not answer holds nobody up."""
        places = [(nodes[task.node], task.ports[PORT]) for task in tasks]
        urls = [
            f"http://{host}:{port}{paths.get(task.service, READY_PATH)}"
            for task, (host, port) in zip(tasks, places, strict=True)
        ]
        answers = self._pool.map(self._probe, urls)
        return [
            Replica(task=task, address=place, answer=self._lenient(task, answer))
            for task, place, answer in zip(tasks, places, answers, strict=True)
        ]

    def _probe(self, url: str) -> Answer:
        try:
            return Answer.of(self._client.get(url).status_code == httpx.codes.OK)
        except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
            return Answer.NO
        except httpx.HTTPError:
            return Answer.UNKNOWN

    def _lenient(self, task: Task, answer: Answer) -> Answer:
        """Return YES as well for one that was ready a moment ago and is silent now: a busy one is not a lost one."""
        if answer is Answer.YES:
            self._answered_s[task.id] = self._clock()
        return Answer.YES if answer is Answer.UNKNOWN and task.id in self._answered_s else answer


def _runs(task: Task, nodes: Mapping[str, str]) -> bool:
    is_going = task.state == "running" and task.wish == "running"
    return is_going and task.node in nodes and PORT in task.ports
