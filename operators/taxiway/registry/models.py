"""Model versions: registers them with every edge of their lineage, finds them, brings their files.

Registration alone writes lineage: as tags of the version, given when it is created, so that MLflow's UI shows them. A
version is named by what it was made of; made again of the same, it is the same version.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxiway import provenance as who
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import ModelNotFoundError, UntraceableError
from taxiway.packaging import source
from taxiway.packaging.package import CodePackage
from taxiway.provenance import Provenance
from taxiway.registry import tracking
from taxiway.registry.reading import Version
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, fresh_folder, remove

MODEL = "model"
CHAMPION, PREVIOUS = "champion", "previous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a training run was made of: everything that its result depends on.

    Attributes:
        training: The registered training package; it covers source, lock and Python.
        dataset: The data.
        params: Every parameter, defaults included.
        seed: Seed of the run.
        source_models: Version of each source model, by handle.
    """

    training: CodePackage
    dataset: DatasetVersion
    params: Mapping[str, Any]
    seed: int = 0
    source_models: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the result, 64 hexadecimal characters."""
        parts = [
            self.training.digest,
            self.dataset.hash,
            dict(self.params),
            self.seed,
            dict(self.source_models),
        ]
        return digest(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a model, with its lineage.

    Attributes:
        handle: The handle, name of the registered model.
        version: Its number in MLflow, from 1.
        run_id: The training run.
        key: What it was made of: the training's recipe and the inference package.
        training_digest: Content hash of the training package.
        inference_digest: Content hash of the inference package.
        dataset: The data that it was trained on.
        params: Every parameter of the training.
        metrics: What training measured.
        model_hash: Content hash of the model's files.
        source_models: Version of each source model, by handle.
        url: Its page in MLflow's UI.
    """

    handle: str
    version: int
    run_id: str
    key: str
    training_digest: str
    inference_digest: str
    dataset: DatasetVersion
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    model_hash: str
    source_models: Mapping[str, int] = field(default_factory=dict)
    url: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ModelVersion":
        """Read what `to_json` wrote."""
        return cls(**{**data, "dataset": DatasetVersion.from_json(data["dataset"])})


def register_version(
    recipe: Recipe,
    inference: CodePackage,
    run: tracking.Run,
    settings: Settings,
    *,
    provenance: Provenance | None = None,
) -> ModelVersion:
    """Register a finished training run with an inference package as a model version, once.

    Args:
        recipe: What the run was made of.
        inference: The registered inference package that will serve it.
        run: The run; it holds the model's files, its metrics and the hash of its model.
        settings: Which MLflow.
        provenance: Who asked.

    Raises:
        UntraceableError: If an edge of the lineage is missing; every missing one is named.
        TransportError: If MLflow does not answer.
    """
    handle = recipe.training.handle
    faults = _missing_edges(recipe, inference, run)
    if faults:
        raise UntraceableError(faults, f"a version of {handle}")
    key = digest([recipe.key, inference.digest])
    with exclusive(settings.home / "registry" / f"{handle}.lock"):
        found = tracking.find_versions(handle, {"taxiway.key": key}, settings)
        return _read(
            found[0] if found else _create(recipe, inference, run, key, settings, provenance), settings
        )


def get(handle: str, version: int | str, settings: Settings) -> ModelVersion:
    """Return a version by its number or alias.

    Raises:
        ModelNotFoundError: If there is none.
    """
    which = int(version) if str(version).isdigit() else version
    found = tracking.version(handle, which, settings)
    if found is None or "taxiway.lineage" not in found.tags:
        raise ModelNotFoundError(handle, str(version))
    return _read(found, settings)


def set_alias(handle: str, alias: str, version: int, settings: Settings) -> None:
    """Point an alias at a version, unless it does already: writing one costs time that grows with the versions."""
    found = tracking.version(handle, alias, settings)
    if found is None or found.number != version:
        tracking.set_alias(handle, alias, version, settings)


def download(version: ModelVersion, settings: Settings) -> Path:
    """Return the folder of a version's files on this host, checked against the hash that it was registered with."""
    folder = settings.home / "models" / version.handle / str(version.version)
    if folder.exists() and hash_of(folder) != version.model_hash:
        remove(folder)
    if not folder.exists():
        with fresh_folder(folder) as draft:
            fetched = tracking.download(version.run_id, MODEL, draft, settings)
            for path in fetched.iterdir():
                path.rename(draft / path.name)
            fetched.rmdir()
    return folder


def hash_of(folder: Path) -> str:
    """Return the content hash of a model's files; MLflow's own description of them, which holds times, is left out."""
    return source.content_hash(folder, [name for name in source.listing(folder) if name != "MLmodel"])


def _missing_edges(recipe: Recipe, inference: CodePackage, run: tracking.Run) -> tuple[str, ...]:
    edges = {
        "training package is not registered": recipe.training.version,
        "inference package is not registered": inference.version,
        "dataset has no Git commit": recipe.dataset.commit,
        "dataset has no content hash": recipe.dataset.hash,
        "training run has no model hash": run.tags.get("taxiway.model_hash"),
    }
    faults = [fault for fault, value in edges.items() if not value]
    if run.status != "FINISHED":
        faults.append(f"training run is {run.status}, not FINISHED")
    if recipe.training.handle != inference.handle:
        faults.append(f"inference package is of {inference.handle}")
    return tuple(faults)


def _create(
    recipe: Recipe,
    inference: CodePackage,
    run: tracking.Run,
    key: str,
    settings: Settings,
    provenance: Provenance | None,
) -> Version:
    training = recipe.training
    tracking.ensure_registered_model(
        training.handle, {"taxiway.handle": training.handle, "taxiway.kind": "model"}, settings
    )
    lineage = {
        "key": key,
        "training_digest": training.digest,
        "inference_digest": inference.digest,
        "dataset": recipe.dataset.to_json(),
        "params": dict(recipe.params),
        "metrics": dict(run.metrics),
        "model_hash": run.tags["taxiway.model_hash"],
        "source_models": dict(recipe.source_models),
    }
    tags = {"taxiway.lineage": json.dumps(lineage, sort_keys=True)} | _plain_tags(recipe, inference, key)
    text = f"Trained on {recipe.dataset.tag} by {training.digest[:12]}, served by {inference.digest[:12]}"
    return tracking.create_version(
        training.handle, run.run_id, MODEL, tags | dict(who.tags(provenance)), text, settings
    )


def _plain_tags(recipe: Recipe, inference: CodePackage, key: str) -> dict[str, str]:
    training = recipe.training
    tags = {
        "taxiway.handle": training.handle,
        "taxiway.key": key,
        "taxiway.training.digest": training.digest,
        "taxiway.training.version": str(training.version),
        "taxiway.training.lock": training.lock_hash,
        "taxiway.inference.digest": inference.digest,
        "taxiway.inference.version": str(inference.version),
        "taxiway.inference.lock": inference.lock_hash,
        "taxiway.dataset": recipe.dataset.tag,
        "taxiway.dataset.hash": recipe.dataset.hash,
        "taxiway.dataset.commit": recipe.dataset.commit,
        "taxiway.seed": str(recipe.seed),
        "mlflow.source.git.dirty": str(training.is_dirty or inference.is_dirty).lower(),
    }
    if training.commit:
        tags["mlflow.source.git.commit"] = training.commit
    if training.url:
        tags["mlflow.source.git.repoURL"] = training.url
    return tags


def _read(found: Version, settings: Settings) -> ModelVersion:
    return ModelVersion.from_json(
        {
            "handle": found.name,
            "version": found.number,
            "run_id": found.run_id,
            "url": tracking.version_url(found.name, found.number, settings),
            **json.loads(found.tags["taxiway.lineage"]),
        }
    )
