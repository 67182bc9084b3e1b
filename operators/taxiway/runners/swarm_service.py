"""What a job is as a service of a Swarm, and what its courier is told, in the words of the engine's API. Pure."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taxiway.packaging.image import OUTPUT_DIR, USER
from taxiway.packaging.package import CodePackage
from taxiway.runners import delivery, swarm_courier
from taxiway.runners.plan import GRACE_S, Plan
from taxiway.tools import digest

ATTEMPT: Final = "taxiway.attempt"
FOLDER: Final = "taxiway.folder"
NAME: Final = "taxiway.name"
SCRATCH_DIR: Final = f"{delivery.ROOT}/job"
LETTER_BYTES: Final = 500_000
"""What a secret of Docker may hold."""

_NS: Final = 1_000_000_000
# Becoming the component's user, and ending its processes: nothing else is left of root.
_RIGHTS: Final = ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"]
_MEMORY: Final = {
    "/dev/shm": 2**30,  # noqa: S108 - the container's own
    delivery.SECRETS_DIR: delivery.SECRETS_BYTES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A folder that a job reads, as it lies in the artifact store.

    Attributes:
        path: Of its archive.
        sha256: Of that archive.
        target: Where the component sees it.
    """

    path: str
    sha256: str
    target: str


def name_of(package: CodePackage, folder: Path) -> str:
    """Return the name of a job's service, which is its identity: whose code it runs, and the hash of its folder."""
    handle = package.handle[:24].strip("_")
    return f"taxiway-{handle}-{package.kind}-{digest(str(folder))[:12]}"


def letter(
    *, store: str, authorization: str, folder: str, inputs: Sequence[Parcel], secrets: Mapping[str, bytes]
) -> bytes:
    """Return what the courier is told: a secret, for it holds the component's, and the way into the artifact store.

    Args:
        store: Address of the artifacts, as a container reaches it.
        authorization: What MLflow asks for, or "".
        folder: Where the results go.
        inputs: What the component reads.
        secrets: Its secret files.
    """
    told = {
        "store": store,
        "authorization": authorization,
        "folder": folder,
        "inputs": [{"path": each.path, "sha256": each.sha256, "target": each.target} for each in inputs],
        "secrets": {name: base64.b64encode(content).decode() for name, content in secrets.items()},
        "secrets_dir": delivery.SECRETS_DIR,
        "output": OUTPUT_DIR,
        "scratch": SCRATCH_DIR,
        "user": USER,
    }
    return json.dumps(told).encode()


def labels_of(plan: Plan, *, owner: str, attempt: str, folder: str) -> dict[str, str]:
    """Return the labels by which a job is found again, and known to be what it should be.

    Args:
        plan: What it must be.
        owner: What tells this home from any other.
        attempt: What names this attempt.
        folder: Where its results go in the artifact store.
    """
    return plan.labels(owner) | {NAME: plan.name, ATTEMPT: attempt, FOLDER: folder}


def body_of(
    plan: Plan,
    *,
    labels: Mapping[str, str],
    secret: tuple[str, str],
    constraints: Sequence[str],
    network: str,
) -> dict[str, Any]:
    """Return what is wanted of a job's service: one task, once, whatever comes of it.

    Args:
        plan: What it must be; a node takes no more jobs than it has room for.
        labels: Of the service.
        secret: Id and name of the letter.
        constraints: Which nodes may run it, in the Swarm's words.
        network: The overlay network that it is in; `none` is the node's own.
    """
    host = plan.config["HostConfig"]
    most = {"NanoCPUs": host["NanoCpus"], "MemoryBytes": host["Memory"]}
    named = {} if network == "none" else {"Networks": [{"Target": network}]}
    return {
        "Name": labels[NAME],
        "Labels": dict(labels),
        # No job in the Swarm's own sense: the tasks of one go on when it is removed, and nobody can end them any more.
        "Mode": {"Replicated": {"Replicas": 1}},
        "TaskTemplate": {
            "ContainerSpec": _container(plan, secret),
            "Resources": {
                "Limits": {**most, "Pids": plan.limits.pids},
                "Reservations": {name: value for name, value in most.items() if value},
            },
            # A task that fails, or whose node is lost, is begun anew by the retry alone, with a clean slate.
            "RestartPolicy": {"Condition": "none"},
            "Placement": {"Constraints": list(constraints)},
            "LogDriver": {"Name": host["LogConfig"]["Type"], "Options": host["LogConfig"]["Config"]},
            **named,
        },
    }


def _container(plan: Plan, secret: tuple[str, str]) -> dict[str, Any]:
    image, config = plan.image, plan.config
    courier = Path(swarm_courier.__file__).read_text(encoding="utf-8")
    file = {"Name": Path(swarm_courier.LETTER).name, "UID": "0", "GID": "0", "Mode": 0o400}
    return {
        # By content, never by tag. What has a digest of a registry, each node pulls; an id must be there.
        "Image": image.name if "@" in image.name else image.id,
        "Command": ["python", "-I", "-S", "-c", courier, *plan.job.words],
        "Env": config["Env"],
        "Dir": config["WorkingDir"],
        "User": "0:0",
        "Init": True,
        "ReadOnly": config["HostConfig"]["ReadonlyRootfs"],
        "CapabilityDrop": ["ALL"],
        "CapabilityAdd": _RIGHTS,
        "Mounts": _mounts(each.target for each in plan.folders),
        "Secrets": [{"SecretID": secret[0], "SecretName": secret[1], "File": file}],
        "StopSignal": config["StopSignal"],
        "StopGracePeriod": round(GRACE_S * _NS),
    }


def _mounts(targets: Iterable[str]) -> list[dict[str, Any]]:
    own = [each["Target"] for each in delivery.mounts((), mounted=False, has_secrets=False)]
    volumes = [{"Type": "volume", "Target": target} for target in (*own, SCRATCH_DIR, *targets)]
    memory = [
        {"Type": "tmpfs", "Target": target, "TmpfsOptions": {"SizeBytes": size}}
        for target, size in _MEMORY.items()
    ]
    return volumes + memory
