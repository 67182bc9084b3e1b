"""The Docker engine behind a client that is handed in: images, containers and their files as plain values.

The one place that imports docker, inside functions. What an image holds is decided in `packaging/image.py`, what a
container is for in `runners/docker.py`.
"""

import functools
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taxiway.errors import ToolFailedError, TransportError
from taxiway.project.resources import Host
from taxiway.settings import Containers
from taxiway.tools import digest

MISSING, CONFLICT = 404, 409
LOOK_S = 0.2
BUILD_TAIL_LINES = 40
_STAMP_LENGTH = len("2026-05-01T12:00:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container, as it was when it was looked at.

    Attributes:
        id: The engine's id.
        name: Its name.
        status: `created`, `running`, `exited`, or another word of the engine.
        exit_code: How it ended; 0 while it runs.
        is_out_of_memory: Whether the kernel ended something in it for its memory.
        error: What the engine says about its end, such as a start that failed.
        labels: Its labels.
    """

    id: str
    name: str
    status: str
    exit_code: int = 0
    is_out_of_memory: bool = False
    error: str = ""
    labels: Mapping[str, str]

    @property
    def is_running(self) -> bool:
        """Whether it runs, paused or not."""
        return self.status in ("running", "paused", "restarting")


def connect(containers: Containers) -> Any:
    """Return a client of the engine that the settings name.

    Raises:
        TransportError: If it does not answer.
    """
    import docker  # type: ignore[import-untyped]

    tls, folder = False, containers.certificates
    if folder:
        pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
        tls = docker.TLSConfig(client_cert=pair, ca_cert=str(folder / "ca.pem"), verify=True)
    with _asking(containers.url, "version"):
        return docker.APIClient(base_url=containers.url, tls=tls)


class Engine:
    """An engine; threads may share it.

    Args:
        client: A `docker.APIClient`: of DockerHook in a task, of `connect` elsewhere.
        url: Its address, for people.

    Every method raises TransportError if the engine does not answer, and ToolFailedError, with the status of its
    answer as the exit code, if it refuses.
    """

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self.url = url

    def rest(self) -> None:
        """Close connections that nobody uses; the next question opens one again."""
        self._client.close()

    @functools.cached_property
    def key(self) -> str:
        """12 characters that tell this engine from any other."""
        with self._asking("info"):
            return digest(self._client.info()["ID"])[:12]

    def host(self) -> Host:
        """Return what the engine's host has."""
        with self._asking("info"):
            found = self._client.info()
        return Host(cpus=int(found["NCPU"]), memory_mb=int(found["MemTotal"]) // 2**20)

    def image_id(self, name: str) -> str | None:
        """Return the id of an image that is on the engine, by tag, digest or id; None if it is not there."""
        try:
            with self._asking("image inspect"):
                return str(self._client.inspect_image(name)["Id"])
        except ToolFailedError as error:
            if error.exit_code == MISSING:
                return None
            raise

    def pull(self, name: str) -> None:
        """Bring an image from its registry."""
        repository, at, digest_ = name.partition("@")
        tag = digest_ if at else None
        with self._asking(f"pull {name}"):
            self._check(self._client.pull(repository, tag=tag, stream=True, decode=True), f"pull {name}")

    def push(self, name: str, target: str) -> str:
        """Push an image to a registry under another name, `repository:tag`, and return its digest there."""
        repository, _, tag = target.rpartition(":")
        with self._asking(f"push {target}"):
            self._client.tag(name, repository, tag)
            answers = self._client.push(repository, tag=tag, stream=True, decode=True)
            last = self._check(answers, f"push {target}")
        return str(last["Digest"])

    def build(
        self,
        context: Iterable[bytes],
        tag: str,
        labels: Mapping[str, str],
        arguments: Mapping[str, str],
        network: str,
    ) -> str:
        """Build an image and return its id.

        Args:
            context: A tar archive with a `Dockerfile`, in pieces.
            tag: Its name.
            labels: Its labels.
            arguments: Values of the Dockerfile's `ARG`s.
            network: Network of its steps; `none` for those that need none.
        """
        with self._asking(f"build {tag}"):
            answers = self._client.build(
                fileobj=context,
                custom_context=True,
                tag=tag,
                labels=dict(labels),
                buildargs=dict(arguments),
                network_mode=network,
                rm=True,
                forcerm=True,
                decode=True,
            )
            self._check(answers, f"build {tag}")
        found = self.image_id(tag)
        if found is None:
            raise ToolFailedError(f"docker build {tag}", MISSING, "the image is gone already")
        return found

    def containers(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """Return every container that carries the labels, whatever its state."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        with self._asking("ps"):
            found = self._client.containers(all=True, filters={"label": wanted})
        looks = (self.find(item["Id"]) for item in found)
        return tuple(look for look in looks if look)

    def find(self, name: str) -> Container | None:
        """Return a container by its name or id; None if it is not there."""
        try:
            with self._asking("inspect"):
                found = self._client.inspect_container(name)
        except ToolFailedError as error:
            if error.exit_code == MISSING:
                return None
            raise
        state = found["State"]
        return Container(
            id=found["Id"],
            name=found["Name"].lstrip("/"),
            status=state["Status"],
            exit_code=state["ExitCode"],
            is_out_of_memory=state["OOMKilled"],
            error=state["Error"],
            labels=found["Config"]["Labels"] or {},
        )

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container from a body of the engine's own API, and return its id."""
        with self._asking("create"):
            return str(self._client.create_container_from_config(dict(config), name)["Id"])

    def start(self, container: str) -> None:
        """Start a container that was created."""
        with self._asking("start"):
            self._client.start(container)

    def end(self, container: str, grace_s: float) -> None:
        """Ask a container to end, end it after a while, and remove it with its volumes; one that is gone is welcome."""
        try:
            with self._asking("stop"):
                self._client.stop(container, timeout=max(0, round(grace_s)))
            self.remove(container)
        except ToolFailedError as error:
            if error.exit_code != MISSING:
                raise

    def remove(self, container: str) -> None:
        """Remove a container with its volumes, at once; one that is gone, or is being removed, is welcome."""
        try:
            with self._asking("rm"):
                self._client.remove_container(container, v=True, force=True)
        except ToolFailedError as error:
            if error.exit_code not in {MISSING, CONFLICT}:
                raise

    def put(self, container: str, folder: str, archive: Iterable[bytes]) -> None:
        """Unpack a tar archive in a folder of a container."""
        with self._asking("cp"):
            self._client.put_archive(container, folder, archive)

    @contextmanager
    def get(self, container: str, path: str) -> Iterator[Iterator[bytes]]:
        """Give a folder of a container as a tar archive, in pieces."""
        with self._asking("cp"):
            pieces, _ = self._client.get_archive(container, path)
            yield iter(pieces)

    def lines(self, container: str) -> Iterator[str]:
        """Give each line that a container printed or prints, until it has ended; a broken stream is taken up again."""
        last, part = "", ""
        while True:
            look = self.find(container)
            if look is None:
                raise ToolFailedError(
                    "docker logs", MISSING, f"no container {container[:12]}: it was removed"
                )
            for stamp, text in self._entries(container, last):
                last, part = stamp, part + text
                if part.endswith("\n"):
                    yield part
                    part = ""
            if not look.is_running:
                break
            time.sleep(LOOK_S)
        if part:
            yield part + "\n"

    def _entries(self, container: str, after: str) -> Iterator[tuple[str, str]]:
        """Give what a container printed after a moment, as long as the stream lasts: moments and pieces of lines."""
        from urllib3.exceptions import HTTPError

        since = _second(after) if after else None
        try:
            with (
                self._asking("logs"),
                closing(
                    self._client.logs(container, stream=True, follow=True, timestamps=True, since=since)
                ) as pieces,
            ):
                for piece in pieces:
                    stamp, _, text = piece.decode("utf-8", "replace").partition(" ")
                    if stamp > after:
                        yield stamp, text
        except (TransportError, HTTPError, struct.error):
            return

    def _check(self, answers: Iterable[Mapping[str, Any]], command: str) -> Mapping[str, Any]:
        """Wait for the end of a long command, and return the last thing that it named."""
        told: list[str] = []
        named: Mapping[str, Any] = {}
        for answer in answers:
            if "error" in answer:
                output = "\n".join([*told[-BUILD_TAIL_LINES:], str(answer["error"])])
                raise ToolFailedError(f"docker {command}", 1, output)
            line = str(answer.get("stream", "")).strip()
            if line:
                told.append(line)
            named = answer.get("aux") or named
        return named

    def _asking(self, command: str) -> Any:
        return _asking(self.url, command)


@contextmanager
def _asking(url: str, command: str) -> Iterator[None]:
    from docker.errors import APIError, DockerException  # type: ignore[import-untyped]

    try:
        yield
    except APIError as error:
        status = error.status_code or 0
        raise ToolFailedError(f"docker {command}", status, str(error.explanation or error)) from error
    except (DockerException, ConnectionError, TimeoutError) as error:
        raise TransportError(f"the Docker engine at {url}", str(error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise TransportError(f"the Docker engine at {url}", str(error)) from error


def _second(stamp: str) -> int:
    """Return the second of an engine's time stamp, which is in UTC."""
    return int(datetime.fromisoformat(f"{stamp[:_STAMP_LENGTH]}+00:00").timestamp())
