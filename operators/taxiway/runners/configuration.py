"""What a job's container is to the engine: its command, variables, limits and rights. Nothing is started here."""

from pathlib import Path
from typing import Any

from taxiway import component
from taxiway.packaging.image import OUTPUT_DIR, SOURCE_DIR, USER, Image
from taxiway.project.resources import Resources
from taxiway.runners import delivery
from taxiway.runners.runner import Inputs, Job
from taxiway.settings import Containers
from taxiway.tools import redact

SHARED_MEMORY_BYTES = 2**30
CPU_SHARES = 128
"""Of the usual 1,024: where processor time is short, what serves has it before what trains."""
_LOG = {"Type": "json-file", "Config": {"max-size": "20m", "max-file": "3"}}


def configuration(job: Job, image: Image, limits: Resources, containers: Containers) -> dict[str, Any]:
    """Return the body of the engine's API for a job's container, without labels and mounts.

    No process in it is root or can become so, has a capability, or writes to the image. No secret is in it.
    """
    words = delivery.witnessed(job.words)
    return {
        # By its id: between the check and the start nobody can put another one under the name.
        "Image": image.id,
        "Entrypoint": delivery.awaiting_secrets(words) if delivery.secrets_of(job.inputs) else words,
        "Cmd": [],
        "Env": delivery.environment(_variables(job, containers)),
        "User": f"{USER}:{USER}",
        "WorkingDir": SOURCE_DIR,
        "StopSignal": "SIGTERM",
        "HostConfig": {
            "NanoCpus": round((limits.cpus or 0) * 1e9),
            "CpuShares": CPU_SHARES,
            "Memory": (limits.memory_mb or 0) * 2**20,
            "MemorySwap": (limits.memory_mb or 0) * 2**20,
            "PidsLimit": limits.pids,
            "DeviceRequests": _devices(limits.gpus),
            "ShmSize": SHARED_MEMORY_BYTES,
            "Init": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            # A team's own image may write where it likes; it is thrown away with the container.
            "ReadonlyRootfs": "dockerfile" not in job.package.manifest,
            "NetworkMode": containers.network,
            "LogConfig": _LOG,
        },
    }


def _variables(job: Job, containers: Containers) -> dict[str, str]:
    seen: Inputs = delivery.seen(job.inputs)
    tracking = job.tracking
    if tracking:
        # Whoever may look at a container sees its variables.
        uri = redact(containers.tracking_uri or tracking.uri)
        tracking = component.Tracking(uri=uri, run_id=tracking.run_id, experiment_id=tracking.experiment_id)
    contract = component.environment(
        job.package.handle,
        data_dir=seen.data_dir,
        output_dir=Path(OUTPUT_DIR),
        model_dir=seen.model_dir,
        source_models_dir=seen.source_models_dir,
        params=job.params,
        secrets_dir=seen.secrets_dir,
        # Without a network there is no server to log to.
        tracking=None if containers.network == "none" else tracking,
        seed=job.seed,
        threads=job.package.manifest["threads"],
    )
    return contract | {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"}  # noqa: S108 - the container's own


def _devices(gpus: int) -> list[dict[str, Any]]:
    return [{"Count": gpus, "Capabilities": [["gpu"]]}] if gpus else []
