"""Takes a model version to its endpoint: deploy and verify. Live traffic is moved in `traffic.py`.

The controller carries the variants; a caller that dies here leaves them as they are, and the next call finds them
again.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.errors import NotReadyError, VerificationFailedError
from taxiway.packaging.package import CodePackage, Materialised
from taxiway.project import Sla, resources
from taxiway.registry import models, packages
from taxiway.registry.models import ModelVersion
from taxiway.settings import Settings
from taxiway_serving.client import Controller
from taxiway_serving.names import HEADER_VERSION, READY_PATH

Log = Callable[[str], None]
# Between the declared rate, which must be held, and three times that rate, which must be refused fast.
RATE_HEADROOM = 1.5
MOST_RPS = 1e6
ROUTED_POLL_S = 0.1
MODEL_SERVER_READY_PATH = "/ping"
"""Where MLflow's scoring server says that it has loaded its model; SageMaker's protocol has the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model version that takes requests.

    Attributes:
        handle: The handle.
        version: The model version.
        url: The handle's stable address at the gateway.
    """

    handle: str
    version: int
    url: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)


def deploy(
    handle: str,
    version: int,
    settings: Settings,
    *,
    ready_deadline_s: float = 60.0,
    replicas: int = 1,
    most_replicas: int | None = None,
    url: str = "",
    ready_path: str = READY_PATH,
    log: Log = print,
) -> Deployment:
    """Run a model version with the inference package it was registered with, and wait until it takes requests.

    It gets no live traffic: only requests that pin its version reach it. Deployed again, it is found as it is.

    Args:
        handle: The handle.
        version: The model version.
        settings: Where everything is.
        ready_deadline_s: Seconds that the start may take.
        replicas: How many of it run alike.
        most_replicas: How many may run where load asks for more, on a runtime that follows it; None keeps `replicas`.
        url: Address of a server that somebody else runs with this version, `http://HOST:PORT`, as the gateway reaches
            it; nothing is started then. "" runs it.
        ready_path: Path at which that server answers 200 when it is ready.
        log: Called with a line of progress.

    Raises:
        ModelNotFoundError: If there is no such version.
        InvalidSpecError: If the controller's runtime cannot run it.
        ToolFailedError: If its image cannot be made.
        NotReadyError: If it does not become ready in time; the end of its log is in the message.
    """
    model = models.get(handle, version, settings)
    code = packages.lookup(handle, "inference", settings, model.inference_digest)
    controller = _controller(settings)
    there = {"url": url, "ready_path": ready_path} if url else None
    asked = {"ready_deadline_s": ready_deadline_s, "replicas": replicas, "most_replicas": most_replicas}
    spec = _specification(model, code, there, controller, settings, log) | asked
    controller.deploy(handle, version, spec)
    start = f"looked for at {url}" if url else f"starting with inference package {code.digest[:12]}"
    log(f"{handle}/{version} is {start}")
    endpoint = _url(handle, settings)
    _wait_ready(controller, model, endpoint + spec.get("ready_path", READY_PATH), ready_deadline_s)
    log(f"{handle}/{version} is ready; pin it with {HEADER_VERSION}: {version}")
    return Deployment(handle=handle, version=version, url=endpoint)


def lineage_of(model: ModelVersion) -> dict[str, str]:
    """Return what a version was made of, as the controller's ledger keeps it: enough to walk back without MLflow."""
    return {
        "dataset": model.dataset.tag,
        "dataset_hash": model.dataset.hash,
        "dataset_commit": model.dataset.commit,
        "training": model.training_digest,
        "inference": model.inference_digest,
        "model_hash": model.model_hash,
        "run_id": model.run_id,
    }


def verify(handle: str, version: int, settings: Settings, *, log: Log = print) -> dict[str, Any]:
    """Prove a deployed version against its contract and its SLA, through the gateway, and return the report.

    Args:
        handle: The handle.
        version: The deployed version; requests pin it, so live traffic is not part of this.
        settings: Where everything is.
        log: Called with a line for each check.

    Raises:
        VerificationFailedError: If a check did not answer yes; every one that did not is named.
        InvalidSpecError: If the package has no contract, or a broken one.
    """
    from taxiway_serving.evidence import verification

    model = models.get(handle, version, settings)
    code = packages.lookup(handle, "inference", settings, model.inference_digest)
    contract = verification.read_contract(_contract(code, packages.materialise(code, settings)))
    url = _url(handle, settings)
    report = verification.verify(url, contract, _sla(code), headers={HEADER_VERSION: str(version)})
    for check in report.checks:
        log(f"{check.name}: {check.answer.value}: {check.reason}")
    if not report.passed:
        raise VerificationFailedError(handle, version, report.failures)
    return report.to_json() | {"handle": handle, "version": version}


def _specification(
    model: ModelVersion,
    code: CodePackage,
    there: dict[str, str] | None,
    controller: Controller,
    settings: Settings,
    log: Log,
) -> dict[str, Any]:
    """Return what the controller is told of a version: what serves it, what it was made of, what it promises.

    Args:
        model: The version.
        code: Its inference package.
        there: Where a server of somebody else's answers; None where the controller runs the package.
        controller: Says which runtime that is.
        settings: Where everything is.
        log: Called with a line of progress.
    """
    ready = packages.materialise(code, settings)
    spec: dict[str, Any] = {
        "model": f"{model.handle}/{model.version}",
        **(there or _run_by(controller.runtime(), code, ready, settings, log)),
        "model_dir": str(models.download(model, settings)),
        "max_rps": min(_sla(code).rate_rps * RATE_HEADROOM, MOST_RPS),
        "lineage": lineage_of(model),
    }
    # The controller refuses what the project forbids, whoever asks for it.
    if policy := code.manifest.get("traffic"):
        spec |= {"forbid": policy["forbid"], "forbid_reason": policy["reason"]}
    # The controller proves it again at every step of a rollout.
    if (contract := _contract(code, ready)).is_file():
        spec["contract"] = str(contract)
    return spec


def _wait_ready(controller: Controller, model: ModelVersion, url: str, deadline_s: float) -> None:
    """Wait until a deployed version is ready, and until the gateway answers for it at a URL; both within one time."""
    end = time.monotonic() + deadline_s
    controller.wait_ready(model.handle, model.version, deadline_s=deadline_s)
    _wait_routed(url, model.version, end - time.monotonic(), f"{model.handle}/{model.version}")


def _wait_routed(url: str, version: int, deadline_s: float, variant: str) -> None:
    """Wait until the gateway, which looks for itself, sends requests that pin a version to it."""
    import httpx

    end, reason = time.monotonic() + deadline_s, ""
    while True:
        try:
            answer = httpx.get(url, headers={HEADER_VERSION: str(version)}, timeout=2.0, trust_env=False)
            if answer.status_code == httpx.codes.OK:
                return
            reason = f"HTTP {answer.status_code}"
        except httpx.HTTPError as exc:
            reason = str(exc)
        if time.monotonic() > end:
            raise NotReadyError(variant, deadline_s, f"the gateway at {url} does not reach it: {reason}")
        time.sleep(ROUTED_POLL_S)


def _run_by(
    runtime: str, code: CodePackage, ready: Materialised, settings: Settings, log: Log
) -> dict[str, Any]:
    """Return what the controller's runtime needs to run a package: files of this host, or an image and limits."""
    limits = resources.of(code.manifest)
    if runtime == "process":
        if code.manifest.get("resources"):
            log(f"runtime process holds no limits: {limits}")
        return {**_serving(code, ready), "python": str(ready.python)}
    is_stock = ready.bento_dir is None and not code.manifest.get("image")
    return {
        **({"ready_path": MODEL_SERVER_READY_PATH} if is_stock else {}),
        "image": _image(code, settings, log),
        "cpus": limits.cpus,
        "memory_bytes": None if limits.memory_mb is None else limits.memory_mb * 2**20,
    }


def _image(code: CodePackage, settings: Settings, log: Log) -> str:
    """Return the registered image of an inference package, by a name that can only mean this one."""
    from taxiway import engine as engines

    engine = engines.Engine(engines.connect(settings.containers), settings.containers.url)
    try:
        found = packages.image(code, engine, settings, log)
    finally:
        engine.rest()
    return found.name if "@" in found.name else found.id


def _serving(code: CodePackage, ready: Materialised) -> dict[str, Any]:
    """Return what answers for a version: the Bento of its package, or the model server that the package names."""
    if ready.bento_dir is not None:
        return {"bento_dir": str(ready.bento_dir)}
    return {"server": code.manifest["options"]["server"], "ready_path": MODEL_SERVER_READY_PATH}


def _contract(code: CodePackage, ready: Materialised) -> Path:
    return ready.source_dir / (code.manifest["contract"] or "contract.json")


def _sla(code: CodePackage) -> Sla:
    return Sla(**code.manifest["sla"])


def _url(handle: str, settings: Settings) -> str:
    return f"{settings.gateway_url.rstrip('/')}/{handle}"


def _controller(settings: Settings) -> Controller:
    return Controller(settings.controller_url, settings.controller_token or "", actor="airflow")
