"""Model versions: registers them with every edge of their lineage, finds them, brings their files.

Registration alone writes lineage: as tags of the version, given when it is created, so that MLflow's UI shows them. A
version is named by what it was made of; made again of the same, it is the same version.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxiway import provenance as who
from taxiway import stamps
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import ArtifactChangedError, ModelNotFoundError, UntraceableError
from taxiway.packaging import source
from taxiway.packaging.package import CodePackage
from taxiway.provenance import Provenance
from taxiway.registry import doubts, measured, mlmodel, tracking, version_tags
from taxiway.registry.reading import Version
from taxiway.registry.recipe import Recipe
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, fresh_folder, protect, write_atomically
from taxiway.trace import Trace

MODEL, LINEAGE = "model", "lineage"
CHAMPION, PREVIOUS = "champion", "previous"
UNTRACEABLE, TRACE = "taxiway.untraceable", "taxiway.trace"
MODEL_HASH, MLMODEL = "taxiway.model_hash", "taxiway.mlmodel"
MOST_TAG = 4_000
"""Longest text of a tag, in characters: MLflow takes 5,000 bytes or more of a run's."""


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
        model_hash: Content hash of the model's files, but for MLflow's description of them.
        mlmodel: Hash of what that description says; "" for a version that is older than this was kept.
        seed: Seed of the training.
        source_models: Version of each source model, by handle.
        libraries: Published libraries that its code was locked to, by name, with version and hash.
        untraceable: Which edges of its lineage are missing; with one, it can never be promoted.
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
    seed: int = 0
    source_models: Mapping[str, int] = field(default_factory=dict)
    libraries: Mapping[str, Any] = field(default_factory=dict)
    untraceable: tuple[str, ...] = ()
    url: str = ""
    mlmodel: str = ""

    @property
    def content(self) -> str:
        """What it is, byte for byte: its files, and what MLflow's description says of them where that is known."""
        return self.model_hash + self.mlmodel

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self) | {"untraceable": list(self.untraceable)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ModelVersion":
        """Read what `to_json` wrote."""
        dataset = DatasetVersion.from_json(data["dataset"])
        return cls(**{**data, "dataset": dataset, "untraceable": tuple(data.get("untraceable", ()))})


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
        UntraceableError: If an edge of the lineage is missing; every missing one is named. Where the settings allow
            it, code without a commit, a file that was read and is no input, and the like are registered all the same,
            marked, and the version can never be promoted.
        TransportError: If MLflow does not answer.
    """
    handle = recipe.training.handle
    faults, marks = _missing_edges(recipe, inference, run), _doubts(recipe, inference, run, settings)
    if faults or (marks and not settings.allow_untraceable):
        raise UntraceableError((*faults, *marks), f"a version of {handle}")
    key = digest([recipe.key, inference.digest])
    with exclusive(settings.home / "registry" / f"{handle}.lock"):
        found = tracking.find_versions(handle, {"taxiway.key": key}, settings)
        # Code that was committed since makes a version of its own: a mark is never taken off.
        fit = [version for version in found if marks or UNTRACEABLE not in version.tags]
        if fit:
            _follow_commits(fit[0], recipe, inference, settings)
            return _read(fit[0], settings)
        return _read(_create(recipe, inference, run, key, marks, settings, provenance), settings)


def trace_of(run: tracking.Run) -> Trace | None:
    """Return what was seen of a run, or None if nobody watched it."""
    text = run.tags.get(TRACE)
    return Trace.from_json(json.loads(text)) if text else None


def trace_tags(trace: Trace | None) -> dict[str, str]:
    """Return a trace as a run keeps it; an empty one covers what an earlier try of the same run left there."""
    faults = "; ".join(trace.faults)[:MOST_TAG] if trace else ""
    shown = json.dumps(trace.to_json(), sort_keys=True, ensure_ascii=False) if trace else ""
    return {TRACE: shown, UNTRACEABLE: faults}


def refuse_untraceable(version: ModelVersion) -> None:
    """Refuse to promote a version whose lineage has a missing edge.

    Raises:
        UntraceableError: If it has one; every missing one is named.
    """
    if version.untraceable:
        raise UntraceableError(version.untraceable, f"{version.handle}/{version.version} is never promoted")


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
    """Return the folder of a version's files on this host, read-only, checked against the hash it was registered with.

    A variant may serve from it, so it is never removed nor changed: what others left beside its files is not looked
    at, and a changed file is refused. Files that nobody wrote to since the last check are not read again.

    Raises:
        ArtifactChangedError: If a file is not what was registered, here or in MLflow; nothing new is kept.
    """
    folder, listing = _place(version, settings)
    if not folder.exists():
        with fresh_folder(folder) as draft:
            fetched = tracking.download(version.run_id, MODEL, draft, settings)
            for path in fetched.iterdir():
                path.rename(draft / path.name)
            fetched.rmdir()
            source.remove_compiled(draft)
            restore = "restore its artifacts in MLflow; nothing of them was kept"
            _check(version, draft, hash_of(draft), restore)
            protect(draft)
            write_atomically(listing, json.dumps(source.listing(draft)))
        os.chmod(folder, 0o555)  # noqa: S103 - readable by every component, writable by none
    names = files_of(version, settings)
    got = hash_of(folder, names, memory=folder.with_name(f"{version.version}.checked.json"))
    _check(version, folder, got, f"delete {folder}, once nothing serves it, to fetch it again")
    return folder


def files_of(version: ModelVersion, settings: Settings) -> tuple[str, ...]:
    """Return the files of a version that was downloaded, relative to its folder."""
    folder, listing = _place(version, settings)
    return (
        tuple(json.loads(listing.read_text(encoding="utf-8"))) if listing.exists() else source.listing(folder)
    )


def _place(version: ModelVersion, settings: Settings) -> tuple[Path, Path]:
    folder = settings.home / "models" / version.handle / str(version.version)
    return folder, folder.with_name(f"{version.version}.files.json")


def is_described(version: ModelVersion, folder: Path) -> bool:
    """Tell whether MLflow's description in a folder, by which the model is loaded, is the one of the version."""
    return not version.mlmodel or mlmodel.hash_of(folder) == version.mlmodel


def _check(version: ModelVersion, folder: Path, got: str, next_step: str) -> None:
    name = f"{version.handle}/{version.version}"
    if got != version.model_hash:
        raise ArtifactChangedError(name, "model", version.model_hash, got, next_step)
    if not is_described(version, folder):
        found = mlmodel.hash_of(folder) or "nothing"
        raise ArtifactChangedError(name, mlmodel.NAME, version.mlmodel, found, next_step)


def hash_of(folder: Path, names: Iterable[str] | None = None, *, memory: Path | None = None) -> str:
    """Return the content hash of a model's files; MLflow's own description of them has a hash of its own.

    Args:
        folder: The model.
        names: Files of the model, relative; None is all that are there. One that is missing changes the hash.
        memory: Where the hash is remembered until somebody writes to a file; None reads them all.
    """
    listed = source.listing(folder) if names is None else names
    found = [name for name in listed if name != mlmodel.NAME and (folder / name).is_file()]
    if memory is None:
        return source.content_hash(folder, found)
    return stamps.hash_of(folder, found, memory, lambda: source.content_hash(folder, found))


def _missing_edges(recipe: Recipe, inference: CodePackage, run: tracking.Run) -> tuple[str, ...]:
    edges = {
        "training package is not registered": recipe.training.version,
        "inference package is not registered": inference.version,
        "dataset has no Git commit": recipe.dataset.commit,
        "dataset has no content hash": recipe.dataset.hash,
        "training run has no model hash": run.tags.get(MODEL_HASH),
    }
    faults = [fault for fault, value in edges.items() if not value]
    if run.status != "FINISHED":
        faults.append(f"training run is {run.status}, not FINISHED")
    if recipe.training.handle != inference.handle:
        faults.append(f"inference package is of {inference.handle}")
    return tuple(faults)


def _doubts(recipe: Recipe, inference: CodePackage, run: tracking.Run, settings: Settings) -> tuple[str, ...]:
    """Return which edges nobody could walk back, although something is known of each."""
    return (
        *doubts.of_code(recipe.training, inference),
        *doubts.of_run(recipe.training, trace_of(run)),
        *(doubts.of_data(recipe.dataset, settings) if recipe.dataset.commit else ()),
        *_doubtful_sources(recipe, settings),
    )


def _doubtful_sources(recipe: Recipe, settings: Settings) -> tuple[str, ...]:
    found = [get(name, number, settings) for name, number in recipe.source_models.items()]
    return tuple(
        f"its source model {model.handle}/{model.version} is untraceable"
        for model in found
        if model.untraceable
    )


def _create(
    recipe: Recipe,
    inference: CodePackage,
    run: tracking.Run,
    key: str,
    marks: tuple[str, ...],
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
        "metrics": measured.of(run),
        "model_hash": run.tags[MODEL_HASH],
        "mlmodel": run.tags.get(MLMODEL, ""),
        "seed": recipe.seed,
        "source_models": dict(recipe.source_models),
        "libraries": dict(inference.manifest.get("libraries", {}))
        | dict(training.manifest.get("libraries", {})),
        "untraceable": list(marks),
    }
    tags = {
        "taxiway.lineage": json.dumps(lineage, sort_keys=True),
        **version_tags.of_inputs(recipe, inference, key),
        **{name: run.tags[name] for name in (TRACE,) if run.tags.get(name)},
        **({UNTRACEABLE: "; ".join(marks)[:MOST_TAG]} if marks else {}),
        **version_tags.of_differences((training, inference), settings),
    }
    text = f"Trained on {recipe.dataset.tag} by {training.digest[:12]}, served by {inference.digest[:12]}"
    return tracking.create_version(
        training.handle, run.run_id, MODEL, tags | dict(who.tags(provenance)), text, settings
    )


def _follow_commits(found: Version, recipe: Recipe, inference: CodePackage, settings: Settings) -> None:
    """Say of a version that is there from which commits its code is known to be by now: it may have been dirty."""
    tags = version_tags.of_commits(recipe.training, inference)
    tags |= {f"taxiway.{made.kind}.diff": "" for made in (recipe.training, inference) if not made.is_dirty}
    changed = {name: value for name, value in tags.items() if found.tags.get(name, "") != value}
    if changed:
        tracking.tag_version(found.name, found.number, changed, settings)


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
