"""The runtime that runs variants as containers of one Docker engine, found again by their names and labels.

They outlive the controller. No process in them is root, has a capability or sees a folder of a host: the model is part
of the image, which `images.py` makes. Which should run is decided in `keeper.py`.
"""

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from taxiway_serving import names
from taxiway_serving.errors import InvalidSpecError, ToolFailedError, TransportError
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.containers import Container
from taxiway_serving.runtimes.engine import CONFLICT, Engine, connect_late
from taxiway_serving.runtimes.images import MODEL_DIR, Image, Images
from taxiway_serving.runtimes.keeper import Keeper
from taxiway_serving.runtimes.records import Folder, Record
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.settings import ServingSettings

PORT: Final = 3000
"""Port that every inference image listens on; variables tell it to whoever asks."""
USER: Final = 10001
"""Who a container's processes run as where the image would have them be root."""
PIDS: Final = 1024
LOOPBACK: Final = "127.0.0.1"
HOME, HANDLE, VERSION, COPY, REPLICA, SPEC = (
    f"taxiway.{name}" for name in ("home", "handle", "version", "copy", "replica", "spec")
)
BUILD_TIMEOUT_S: Final = 600.0
_LOOK_S: Final = 0.2
_KEPT_LINES: Final = 500
_SCRATCH: Final = "rw,nosuid,nodev,mode=1777"
_LOG: Final = {"Type": "json-file", "Config": {"max-size": "20m", "max-file": "3"}}


class DockerRuntime(Keeper):
    """Runs each replica as a container. A `Runtime`.

    Args:
        home: Folder that remembers them, as `ProcessRuntime`'s; its own id tells its containers from other homes'.
        engine: Where they run.
        builder: The same engine, of a client that waits for long builds.
        network: Network of the engine in which they are reached by their addresses; "" publishes each on loopback.
        registry: Where images are pushed to and pulled from, or None.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        home: Path,
        engine: Engine,
        builder: Engine,
        *,
        network: str = "",
        registry: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        owner = home_id(home)
        self.images = Images(builder, home, owner=owner, registry=registry)
        machine = DockerMachine(engine, self.images, owner=owner, network=network)
        super().__init__(home, machine, clock=clock)

    @classmethod
    def from_settings(cls, settings: ServingSettings) -> "DockerRuntime":
        """Return the runtime of a controller. The engine need not answer yet."""
        url, certificates = settings.engine_url, settings.engine_certificates
        return cls(
            settings.home,
            Engine(connect_late(url, certificates), url),
            Engine(connect_late(url, certificates, BUILD_TIMEOUT_S), url),
            network=settings.variant_network,
            registry=settings.image_registry,
        )


class DockerMachine:
    """Starts, finds and ends one container for a replica. A `Machine`.

    Args:
        engine: Where it runs.
        images: What it is made of.
        owner: What tells this home from any other on the engine.
        network: As `DockerRuntime`'s.
    """

    def __init__(self, engine: Engine, images: Images, *, owner: str, network: str) -> None:
        self._engine, self._images = engine, images
        self._owner, self._network = owner, network
        self._prepared: dict[VariantId, Image] = {}
        self._lock = threading.Lock()
        self._seen: Mapping[str, Container] | TransportError = {}
        self._seen_s = 0.0

    def check(self, spec: VariantSpec) -> None:
        """Refuse what is no container. See `Machine.check`."""
        faults = _faults(spec)
        if faults:
            raise InvalidSpecError(faults, f"variant {spec.variant}")

    def prepare(self, spec: VariantSpec) -> bool:
        """Return whether its image is there, verified. See `Machine.prepare`."""
        image = self._images.prepared(spec)
        if image is not None:
            self._prepared[spec.variant] = image
        return image is not None

    def start(self, spec: VariantSpec, folder: Folder, record: Record) -> Record:
        """Start a container in the place of any that has its name. See `Machine.start`."""
        image, name = self._prepared[spec.variant], self._name(folder)
        left = self._engine.find(name)
        if left is not None:
            # What runs as it should is found by `lives`: this one was never started, or is of another specification.
            self._engine.remove(left.id)
        labels = self._labels(folder, record)
        self._create(name, {**configuration(spec, image, self._network), "Labels": labels})
        self._look_again()
        host, port = self.address(folder, record)
        return replace(record, host=host, port=port, image=image.name)

    def address(self, folder: Folder, record: Record) -> tuple[str, int]:
        """Return where the engine has put it. See `Machine.address`."""
        found = self._look().get(self._name(folder))
        if found is None:
            return record.host, record.port
        if self._network:
            host = found.addresses.get(self._network, "")
            return host, PORT if host else 0
        return LOOPBACK, found.ports.get(PORT, 0)

    def lives(self, folder: Folder, record: Record) -> bool:
        """Return whether a container of its name runs the same specification. See `Machine.lives`."""
        found = self._look().get(self._name(folder))
        return found is not None and found.is_running and found.labels.get(SPEC) == record.digest

    def is_answering(self, folder: Folder, record: Record) -> bool:
        """Return True: the engine gives the address to nobody else. See `Machine.is_answering`."""
        return True

    def why_gone(self, folder: Folder, record: Record) -> str:
        """Return what the engine says of its end. See `Machine.why_gone`."""
        name = self._name(folder)
        found = self._engine.find(name)
        if found is None:
            return f"container {name} is gone"
        return f"container {name} {_end_of(found)}"

    def end(self, folder: Folder, record: Record | None, grace_s: float) -> None:
        """End its container and keep the end of its log. See `Machine.end`."""
        found = self._engine.find(self._name(folder))
        if found is None:
            return
        self._engine.stop(found.id, grace_s)
        told = self._engine.tail(found.id, _KEPT_LINES)
        if told:
            folder.note(told)
        self._engine.remove(found.id)
        self._look_again()

    def tail(self, folder: Folder, record: Record, lines: int) -> str:
        """Return the end of what was kept and of what its container wrote since. See `Machine.tail`."""
        told = [folder.tail(lines)]
        if not record.is_stopped:
            told.append(self._engine.tail(self._name(folder), lines))
        return "\n".join("\n".join(text for text in told if text).splitlines()[-lines:])

    def tidy(self, needed: Collection[Record]) -> None:
        """Remove images that no replica needs. See `Machine.tidy`."""
        self._images.prune({record.image for record in needed})

    def close(self) -> None:
        """Close the connections to the engine. See `Machine.close`."""
        self._engine.rest()
        self._images.close()

    def _name(self, folder: Folder) -> str:
        """Return the name of a replica's container: the engine takes no second one, whoever starts it."""
        variant = folder.variant
        which = f"{variant.handle}.{variant.version}.{variant.copy}.{folder.replica}"
        return f"taxiway-{self._owner[:8]}-{which}"

    def _labels(self, folder: Folder, record: Record) -> dict[str, str]:
        variant = folder.variant
        return {
            HOME: self._owner,
            HANDLE: variant.handle,
            VERSION: str(variant.version),
            COPY: str(variant.copy),
            REPLICA: str(folder.replica),
            SPEC: record.digest,
        }

    def _create(self, name: str, config: Mapping[str, Any]) -> None:
        try:
            container = self._engine.create(name, config)
        except ToolFailedError as error:
            if error.exit_code == CONFLICT:
                raise TransportError(name, "somebody else has just started it") from error
            raise
        self._engine.start(container)

    def _look(self) -> Mapping[str, Container]:
        """Return every container of this home by name; asked by one question for all, which holds for a moment."""
        with self._lock:
            if time.monotonic() - self._seen_s > _LOOK_S:
                try:
                    self._seen = {each.name: each for each in self._engine.glimpse({HOME: self._owner})}
                except TransportError as error:
                    self._seen = error
                self._seen_s = time.monotonic()
            if isinstance(self._seen, TransportError):
                raise self._seen
            return self._seen

    def _look_again(self) -> None:
        self._seen_s = 0.0


def configuration(spec: VariantSpec, image: Image, network: str) -> dict[str, Any]:
    """Return the body of the engine's API for a replica's container, without labels.

    No process in it is root or can become so, or has a capability. An image that says it can does not write to itself.
    """
    memory = spec.memory_bytes or 0
    published = {"PortBindings": {f"{PORT}/tcp": [{"HostIp": LOOPBACK, "HostPort": ""}]}}
    return {
        # By its id: between the check and the start nobody can put another one under the name.
        "Image": image.id,
        "Env": [f"{name}={value}" for name, value in environment(spec).items()],
        "User": image.user if _is_nobody_special(image.user) else f"{USER}:{USER}",
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "StopSignal": "SIGTERM",
        "HostConfig": {
            "NanoCpus": round((spec.cpus or 0) * 1e9),
            "Memory": memory,
            "MemorySwap": memory,
            "PidsLimit": PIDS,
            "Init": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": image.is_sealed,
            "Tmpfs": {"/tmp": _SCRATCH},  # noqa: S108 - the container's own
            "RestartPolicy": {"Name": "no"},
            "LogConfig": _LOG,
            **({"NetworkMode": network} if network else published),
        },
    }


def environment(spec: VariantSpec) -> dict[str, str]:
    """Return the variables of a container; its own win over defaults, never over what Taxiway says of it."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **threads,
        "PYTHONUNBUFFERED": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        **spec.environment,
        "HOME": "/tmp",  # noqa: S108 - the container's own
        "BENTOML_HOME": "/tmp/bentoml",  # noqa: S108
        "BENTOML_HOST": "0.0.0.0",  # noqa: S104 - of the container, which is published on loopback or in one network
        "BENTOML_PORT": str(PORT),
        "PORT": str(PORT),
        names.ENV_HANDLE: spec.handle,
        names.ENV_MODEL_DIR: MODEL_DIR,
        names.ENV_MODEL_VERSION: str(spec.version),
        names.ENV_VARIANT: str(spec.variant),
    }


def home_id(home: Path) -> str:
    """Return what tells a home from any other whose containers are on the same engine; made once and kept in it."""
    path = home / "variants" / "owner"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"owner.{os.getpid()}.tmp")
        scratch.write_text(uuid.uuid4().hex, encoding="utf-8")
        try:
            os.link(scratch, path)
        except FileExistsError:
            # Another process of this home was first: what it wrote is read below.
            pass
        finally:
            scratch.unlink()
    return path.read_text(encoding="utf-8")


def _faults(spec: VariantSpec) -> tuple[str, ...]:
    faults = []
    if not spec.image:
        faults.append("image is missing: a container needs it; deploy the version again, and it is made")
    if spec.model_dir is None or not spec.model_dir.is_dir():
        faults.append(f"model_dir does not exist: {spec.model_dir}")
    if spec.server != "bento":
        faults.append(
            f"server {spec.server} runs as a process; give an image that serves the model, or a url"
        )
    return tuple(faults)


def _is_nobody_special(user: str) -> bool:
    return user.partition(":")[0] not in {"", "0", "root"}


def _end_of(found: Container) -> str:
    if found.is_running or found.status == "created":
        return f"is {found.status}, and not as it was asked for"
    if found.is_out_of_memory:
        return "needed more memory than its limit"
    if found.error:
        return f"ended: {found.error}"
    number = found.exit_code - 128
    if number in {each.value for each in signal.Signals}:
        return f"was killed by signal {number}"
    return f"exited with code {found.exit_code}"
