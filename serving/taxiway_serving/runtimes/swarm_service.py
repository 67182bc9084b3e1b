"""What a variant is as a service of a Swarm, in the words of the engine's API. Pure; who asks a Swarm is `swarm.py`."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any, Final

from taxiway_serving.errors import InvalidNameError
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.docker import COPY, HANDLE, HOME, PORT, SPEC, VERSION, configuration
from taxiway_serving.runtimes.images import Image
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.runtimes.swarm_engine import Service, Task

GRACE_S: Final = 10.0
"""Seconds that a replica has for the requests under way when it is told to end."""

VARIANT: Final = "taxiway.variant"
DEADLINE: Final = "taxiway.ready-deadline"
READY: Final = "taxiway.ready-path"

_NS: Final = 1_000_000_000
_RESTART_PAUSE_S: Final = 2
_WATCHED_S: Final = 5
_ENDED_BADLY: Final = ("failed", "rejected", "complete")
# What the manager counts as running takes requests: it asks the container itself, which need not have curl.
_CHECK: Final = (
    "import socket,sys;s=socket.create_connection(('127.0.0.1',int(sys.argv[1])),2);s.settimeout(2);"
    "s.sendall(f'GET {sys.argv[2]} HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n'.encode());"
    "sys.exit(b' 200 ' not in s.recv(64))"
)


def name_of(owner: str, variant: VariantId) -> str:
    """Return the name of a variant's service: readable, of at most 63 characters, and no other home's."""
    whole = f"{owner}/{variant}"
    short = hashlib.sha256(whole.encode()).hexdigest()[:12]
    copy = f"-{variant.copy}" if variant.copy else ""
    return f"taxiway-{variant.handle[:24].strip('_')}-{variant.version}{copy}-{short}"


def labels_of(owner: str, spec: VariantSpec) -> dict[str, str]:
    """Return the labels by which a service is found again, and known to run what it should."""
    return {
        HOME: owner,
        HANDLE: spec.handle,
        VERSION: str(spec.version),
        COPY: str(spec.copy),
        SPEC: spec.digest(),
        DEADLINE: f"{spec.ready_deadline_s:g}",
        READY: spec.ready_path,
    }


def variant_of(labels: Mapping[str, str]) -> VariantId | None:
    """Return whose service carries these labels; None if they name no variant."""
    try:
        version, copy = int(labels[VERSION]), int(labels[COPY])
        return VariantId(handle=labels[HANDLE], version=version, copy=copy)
    except (KeyError, ValueError, InvalidNameError):
        return None


def body_of(owner: str, spec: VariantSpec, image: Image) -> dict[str, Any]:
    """Return what is wanted of a variant's service."""
    one_by_one = {"Parallelism": 1, "Order": "start-first", "Monitor": _WATCHED_S * _NS}
    return {
        "Name": name_of(owner, spec.variant),
        "Labels": labels_of(owner, spec),
        "TaskTemplate": _task(owner, spec, image),
        "Mode": {"Replicated": {"Replicas": spec.replicas}},
        "UpdateConfig": {**one_by_one, "Delay": _NS, "FailureAction": "rollback"},
        "RollbackConfig": {**one_by_one, "FailureAction": "pause"},
        # No virtual address and no mesh: the gateway sends to every replica itself, and knows which ones answer.
        "EndpointSpec": {
            "Mode": "dnsrr",
            "Ports": [{"Protocol": "tcp", "TargetPort": PORT, "PublishMode": "host"}],
        },
    }


def resized(service: Service, replicas: int) -> dict[str, Any]:
    """Return what is wanted of a service with so many replicas of the same."""
    return {**service.spec, "Mode": {"Replicated": {"Replicas": replicas}}}


def failures(tasks: Collection[Task]) -> list[Task]:
    """Return the replicas that ended without being told to, the one that ended last at the end."""
    return sorted((task for task in tasks if task.state in _ENDED_BADLY), key=lambda task: task.since_s)


def has_been_refused(service: Service, tasks: Collection[Task], digest: str) -> bool:
    """Tell whether this content was tried on the service, and the Swarm went back from it."""
    has_gone_back = service.update.startswith("rollback") or service.update == "paused"
    return has_gone_back and any(task.labels.get(SPEC) == digest for task in tasks)


def _task(owner: str, spec: VariantSpec, image: Image) -> dict[str, Any]:
    alone = configuration(spec, image, "")
    host = alone["HostConfig"]
    # A node takes no more replicas than it has memory for: a late surprise is worse than one that waits.
    reserved = {"MemoryBytes": host["Memory"]} if host["Memory"] else {}
    return {
        "ContainerSpec": {
            # By content, never by tag. What has a digest of a registry, each node pulls; an id must be there, and is
            # looked for nowhere else.
            "Image": image.pinned or image.id,
            "Labels": {HOME: owner, VARIANT: str(spec.variant), SPEC: spec.digest()},
            "Env": alone["Env"],
            "User": alone["User"],
            "Init": True,
            "ReadOnly": host["ReadonlyRootfs"],
            "Mounts": [{"Type": "tmpfs", "Target": target} for target in host["Tmpfs"]],
            "CapabilityDrop": host["CapDrop"],
            "StopGracePeriod": round(GRACE_S * _NS),
            "Healthcheck": _health_check(spec),
        },
        "Resources": {
            "Limits": {
                "NanoCPUs": host["NanoCpus"],
                "MemoryBytes": host["Memory"],
                "Pids": host["PidsLimit"],
            },
            "Reservations": reserved,
        },
        "RestartPolicy": {"Condition": "any", "Delay": _RESTART_PAUSE_S * _NS},
        "LogDriver": {"Name": host["LogConfig"]["Type"], "Options": host["LogConfig"]["Config"]},
    }


def _health_check(spec: VariantSpec) -> dict[str, Any]:
    return {
        "Test": ["CMD", "python", "-S", "-c", _CHECK, str(PORT), spec.ready_path],
        "Interval": _NS,
        "Timeout": 5 * _NS,
        "Retries": 5,
        "StartPeriod": round(spec.ready_deadline_s * _NS),
    }
