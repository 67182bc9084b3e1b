"""A Swarm of two nodes on one machine: two engines of its own, each in a network namespace, joined by a switch.

Needs root, `dockerd` and `ip`. A third namespace is the switch; this machine has a port of it, and nothing else of its
network is touched: engines in one namespace undo each other's rules. What is run there, and what is measured, is said
elsewhere.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_S = 150.0
PROGRAMS = ("dockerd", "ip", "nsenter", "unshare")


def missing() -> str:
    """Return why no Swarm can be made here, "" if one can."""
    if os.geteuid() != 0:
        return "a second engine in a network namespace needs root"
    absent = [name for name in PROGRAMS if not _program(name)]
    return f"not installed: {', '.join(absent)}" if absent else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One engine.

    Attributes:
        name: Its name in the Swarm.
        place: Its port of the switch.
        address: Where the others reach it.
        folder: Its data, socket and log.
        process: It.
        client: A `docker.APIClient` of it.
    """

    name: str
    place: int
    address: str
    folder: Path
    process: subprocess.Popen[bytes]
    client: Any

    @property
    def url(self) -> str:
        return _url(self.folder)


class Swarm:
    """Two nodes. Made by `two_nodes`.

    Attributes:
        first: The manager.
        second: The worker.
    """

    def __init__(self, first: Node, second: Node, network: "_Network") -> None:
        self.first, self.second = first, second
        self._network = network

    def cut(self) -> None:
        """Unplug the second node."""
        _ip("-n", self._network.switch, "link", "set", self._network.port(self.second.place), "down")

    def mend(self) -> None:
        """Plug it in again; the manager has it back some time later."""
        _ip("-n", self._network.switch, "link", "set", self._network.port(self.second.place), "up")

    def set_availability(self, node: Node, availability: str) -> None:
        """Let a node take replicas (`active`), or let it give up those that it has (`drain`)."""
        entry = self._entry(node)
        spec = {**entry["Spec"], "Availability": availability}
        self.first.client.update_node(entry["ID"], entry["Version"]["Index"], spec)

    def build(self, base: str, files: dict[str, bytes], command: list[str]) -> str:
        """Build an image on the first node, bring it to the second, and return its id, which is the same on both."""
        copies = "".join(f"COPY {name} /app/{name}\n" for name in files)
        recipe = f"FROM {base}\n{copies}WORKDIR /app\nUSER 65534\nCMD {command!r}\n".replace("'", '"')
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            for name, content in {"Dockerfile": recipe.encode(), **files}.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o644
                tar.addfile(info, io.BytesIO(content))
        context.seek(0)
        client = self.first.client
        tag = "taxiway-swarm/built:latest"
        answers = client.build(fileobj=context, custom_context=True, tag=tag, rm=True, decode=True)
        told = [str(answer.get("error") or answer.get("stream", "")) for answer in answers]
        try:
            image = str(client.inspect_image(tag)["Id"])
        except Exception as error:
            raise RuntimeError(f"the image was not built: {''.join(told)}") from error
        self.second.client.load_image(b"".join(client.get_image(tag)))
        return image

    def _entry(self, node: Node) -> dict[str, Any]:
        found = self.first.client.nodes()
        return next(each for each in found if each["Status"]["Addr"] == node.address)


@contextmanager
def two_nodes() -> Iterator[Swarm]:
    """Make a Swarm of two nodes and leave nothing of it behind, whatever happens."""
    number = os.getpid() % 200
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="taxiway-swarm-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        network = stack.enter_context(_network(number))
        first, second = (stack.enter_context(_engine(folder, network, place)) for place in (1, 2))
        first.client.init_swarm(advertise_addr=first.address, listen_addr=f"{first.address}:2377")
        token = first.client.inspect_swarm()["JoinTokens"]["Worker"]
        joined = {"advertise_addr": second.address, "listen_addr": f"{second.address}:2377"}
        second.client.join_swarm([f"{first.address}:2377"], token, **joined)
        yield Swarm(first, second, network)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """A switch with three ports: this machine's (0) and the nodes' (1 and 2), each with an address.

    Attributes:
        number: What tells it from others of this machine, 0 to 199.
    """

    number: int

    @property
    def switch(self) -> str:
        return f"tw{self.number}s"

    def space(self, place: int) -> str:
        return f"tw{self.number}n{place}"

    def port(self, place: int) -> str:
        return f"tw{self.number}p{place}"

    def cable(self, place: int) -> str:
        return f"tw{self.number}c{place}"

    def group(self, place: int) -> str:
        return f"taxiway-tw{self.number}n{place}"

    def address(self, place: int) -> str:
        return f"10.77.{self.number}.{place + 1}"


@contextmanager
def _network(number: int) -> Iterator[_Network]:
    made = _Network(number=number)
    spaces = (made.switch, made.space(1), made.space(2))
    try:
        for space in spaces:
            _ip("netns", "add", space)
        _ip("-n", made.switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", made.switch, "link", "set", "switch", "up")
        for place in range(3):
            _plug_in(made, place)
        yield made
    finally:
        _ip_quietly("link", "delete", made.cable(0))
        for space in spaces:
            _ip_quietly("netns", "delete", space)


def _plug_in(network: _Network, place: int) -> None:
    """Lay a cable from a port of the switch to this machine, place 0, or to a node."""
    port, cable = network.port(place), network.cable(place)
    there = ("-n", network.space(place)) if place else ()
    _ip("link", "add", cable, "type", "veth", "peer", "name", port, "netns", network.switch)
    _ip("-n", network.switch, "link", "set", port, "master", "switch", "up")
    if place:
        _ip("link", "set", cable, "netns", network.space(place))
    _ip(*there, "address", "add", f"{network.address(place)}/24", "dev", cable)
    for name in (cable, "lo"):
        _ip(*there, "link", "set", name, "up")


@contextmanager
def _engine(home: Path, network: _Network, place: int) -> Iterator[Node]:
    name, folder = f"node{place}", home / str(place)
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        command = _command(folder, name, network, place)
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: _answers(folder, process), what=f"{name}, see {folder}/log")
        import docker  # type: ignore[import-untyped]

        client = docker.APIClient(base_url=_url(folder), timeout=300)
        try:
            address = network.address(place)
            yield Node(name=name, place=place, address=address, folder=folder, process=process, client=client)
        finally:
            _leave_nothing(client)
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        _unmount(folder)
        _forget_group(network.group(place))


def _unmount(folder: Path) -> None:
    """Take off what an engine that is gone has mounted in its folder, the deepest first."""
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((each for each in places if each.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)


def _forget_group(name: str) -> None:
    """Remove the groups by which an engine's containers were limited."""
    root = Path("/sys/fs/cgroup")
    for group in (*root.glob(name), *root.glob(f"*/{name}")):
        for path in sorted((path for path in (group, *group.rglob("*")) if path.is_dir()), reverse=True):
            with suppress(OSError):
                path.rmdir()


def _command(folder: Path, name: str, network: _Network, place: int) -> list[str]:
    dockerd = [
        *(_program("dockerd"), "--host", _url(folder), "--data-root", str(folder / "data")),
        *("--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid"), "--bip", "172.31.40.1/24"),
        *("--cgroup-parent", f"/{network.group(place)}"),
    ]
    # Not `ip netns exec`: it hides the groups by which processes are limited.
    inside = f"hostname {name}; exec " + " ".join(dockerd)
    return ["nsenter", f"--net=/run/netns/{network.space(place)}", "unshare", "--uts", "sh", "-c", inside]


def _answers(folder: Path, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the engine ended: {(folder / 'log').read_text()[-2000:]}")
    try:
        # Asked first by hand: where nobody listens yet, httpx forgets to close its socket.
        with socket.socket(socket.AF_UNIX) as listening:
            listening.connect(str(folder / "socket"))
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(folder / "socket"))) as client:
            return client.get("http://engine/_ping").status_code == httpx.codes.OK
    except (OSError, httpx.HTTPError):
        return False


def _leave_nothing(client: Any) -> None:
    """End every container: an engine that goes leaves them behind."""
    with suppress(Exception):
        client.leave_swarm(force=True)
    with suppress(Exception):
        for container in client.containers(all=True):
            client.remove_container(container["Id"], force=True, v=True)
    client.close()


def wait_until(fact: Callable[[], bool], *, what: str, within_s: float = START_S) -> None:
    """Look ten times a second until something holds.

    Raises:
        TimeoutError: If it does not within so many seconds.
    """
    end_s = time.monotonic() + within_s
    while not fact():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what}: not so within {within_s:g} s")
        time.sleep(0.1)


def _url(folder: Path) -> str:
    return f"unix://{folder}/socket"


def _program(name: str) -> str:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or ""


def _ip(*arguments: str) -> None:
    subprocess.run([_program("ip"), *arguments], check=True, capture_output=True)


def _ip_quietly(*arguments: str) -> None:
    subprocess.run([_program("ip"), *arguments], check=False, capture_output=True)
