"""The Docker engine behind a client that is handed in: images, containers and their files as plain values.

The one place that imports docker, inside functions. What an image holds and what a container is for is decided by who
asks: `images.py` and `docker.py` here, the runners of the library.
"""

import functools
import hashlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from taxiway_serving.errors import ToolFailedError, TransportError
from taxiway_serving.runtimes.containers import Container, Found, carrying

MISSING, CONFLICT = 404, 409
BUILD_TAIL_LINES = 40
TIMEOUT_S = 60.0


def connect(url: str, certificates: Path | None = None, timeout_s: float = TIMEOUT_S) -> Any:
    """Return a client of an engine.

    Args:
        url: Its address, such as `unix:///var/run/docker.sock`.
        certificates: Folder with `ca.pem`, `cert.pem` and `key.pem` for an engine behind TLS, or None.
        timeout_s: Seconds that an answer, or the next piece of a long one, may take.

    Raises:
        TransportError: If it does not answer.
    """
    import docker  # type: ignore[import-untyped]

    tls = False
    if certificates:
        pair = (str(certificates / "cert.pem"), str(certificates / "key.pem"))
        tls = docker.TLSConfig(client_cert=pair, ca_cert=str(certificates / "ca.pem"), verify=True)
    with _asking(url, "version"):
        _check_socket(url)
        return docker.APIClient(base_url=url, tls=tls, timeout=timeout_s)


def _check_socket(url: str) -> None:
    """Knock where a socket's file is: the SDK leaves its own end open where nobody answers."""
    scheme, _, path = url.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except OSError as error:
                raise TransportError(f"the Docker engine at {url}", str(error)) from error


def connect_late(url: str, certificates: Path | None = None, timeout_s: float = TIMEOUT_S) -> Any:
    """Return a client that connects when it is first asked, and until it has: its holder can start before the engine.

    Args:
        url: As `connect`.
        certificates: As `connect`.
        timeout_s: As `connect`.
    """
    return _Late(functools.partial(connect, url, certificates, timeout_s))


class _Late:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._client: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._client is None:
            self._client = self._make()
        return getattr(self._client, name)

    def close(self) -> None:
        """Close the connections, if there ever was one."""
        if self._client is not None:
            self._client.close()


class Engine:
    """An engine; threads may share it.

    Args:
        client: A `docker.APIClient`, as `connect` and `connect_late` make one.
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
            known = self._client.info()["ID"]
        return hashlib.sha256(f'"{known}"'.encode()).hexdigest()[:12]

    def capacity(self) -> tuple[int, int]:
        """Return the processors and the bytes of memory of the engine's host."""
        with self._asking("info"):
            found = self._client.info()
        return int(found["NCPU"]), int(found["MemTotal"])

    def image(self, name: str) -> Found | None:
        """Return an image that is on the engine, by tag, digest or id; None if it is not there."""
        found = None
        with self._asking("image inspect", MISSING):
            found = self._client.inspect_image(name)
        return Found.inspected(found) if found else None

    def image_id(self, name: str) -> str | None:
        """Return the id of an image that is on the engine, by tag, digest or id; None if it is not there."""
        found = self.image(name)
        return found.id if found else None

    def images(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the tags of every image that carries the labels."""
        with self._asking("images"):
            found = self._client.images(filters=carrying(labels))
        return tuple(sorted(tag for item in found for tag in item["RepoTags"] or ()))

    def remove_image(self, name: str) -> bool:
        """Remove an image, and return whether it is gone; one that a container or another image needs stays."""
        try:
            with self._asking("rmi", MISSING):
                self._client.remove_image(name)
        except ToolFailedError as error:
            if error.exit_code != CONFLICT:
                raise
            return False
        return True

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
        looks = (self.find(item["Id"]) for item in self._listed(labels))
        return tuple(look for look in looks if look)

    def find(self, name: str) -> Container | None:
        """Return a container by its name or id; None if it is not there."""
        found = None
        with self._asking("inspect", MISSING):
            found = self._client.inspect_container(name)
        return Container.inspected(found) if found else None

    def glimpse(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """Return every container that carries the labels by one question; how those that ended did is left out."""
        return tuple(Container.listed(item) for item in self._listed(labels))

    def tail(self, container: str, lines: int) -> str:
        """Return the last lines that a container printed, "" for one that is gone."""
        told: bytes = b""
        with self._asking("logs", MISSING, CONFLICT):
            told = self._client.logs(container, tail=lines)
        return told.decode("utf-8", "replace").rstrip("\n")

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container from a body of the engine's own API, and return its id."""
        with self._asking("create"):
            return str(self._client.create_container_from_config(dict(config), name)["Id"])

    def start(self, container: str) -> None:
        """Start a container that was created."""
        with self._asking("start"):
            self._client.start(container)

    def stop(self, container: str, grace_s: float) -> None:
        """Ask a container to end, and end it after a while; it stays with its log. One that is gone is welcome."""
        with self._asking("stop", MISSING):
            self._client.stop(container, timeout=max(0, round(grace_s)))

    def end(self, container: str, grace_s: float) -> None:
        """Ask a container to end, end it after a while, and remove it with its volumes; one that is gone is welcome."""
        self.stop(container, grace_s)
        self.remove(container)

    def remove(self, container: str) -> None:
        """Remove a container with its volumes, at once; one that is gone, or is being removed, is welcome."""
        with self._asking("rm", MISSING, CONFLICT):
            self._client.remove_container(container, v=True, force=True)

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

    def _listed(self, labels: Mapping[str, str]) -> Any:
        with self._asking("ps"):
            return self._client.containers(all=True, filters=carrying(labels))

    def _asking(self, command: str, *welcome: int) -> AbstractContextManager[None]:
        return _asking(self.url, command, *welcome)


@contextmanager
def _asking(url: str, command: str, *welcome: int) -> Iterator[None]:
    """Turn the SDK's errors into ours; a refusal whose status is welcome ends the block, and nothing more."""
    from docker.errors import APIError, DockerException  # type: ignore[import-untyped]

    try:
        yield
    except APIError as error:
        status = error.status_code or 0
        if status not in welcome:
            raise ToolFailedError(f"docker {command}", status, str(error.explanation or error)) from error
    except (DockerException, ConnectionError, TimeoutError) as error:
        raise TransportError(f"the Docker engine at {url}", str(error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise TransportError(f"the Docker engine at {url}", str(error)) from error
