"""Registers code packages under one handle in MLflow, and finds them by that handle.

`visual_recognition.training` and its like are registered models whose versions hold the package's archive, lock and
manifest; the alias `current` is what a handle means today. Nothing runs that is not registered.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from taxiway import provenance as who
from taxiway.errors import PackageNotRegisteredError
from taxiway.packaging.package import FILES, CodePackage, Materialised, home_of
from taxiway.packaging.package import materialise as _materialise
from taxiway.provenance import Provenance
from taxiway.registry import tracking
from taxiway.registry.reading import Version
from taxiway.settings import Settings
from taxiway.tools import exclusive, fresh_folder

CURRENT = "current"


def register(
    packages: Sequence[CodePackage], settings: Settings, *, provenance: Provenance | None = None
) -> tuple[CodePackage, ...]:
    """Register packages and make them what their handle means; the same package again is the same version.

    Returns:
        The packages with their version in the registry.

    Raises:
        TransportError: If MLflow does not answer.
    """
    with ThreadPoolExecutor(4) as pool:
        return tuple(pool.map(lambda made: _register(made, settings, provenance), packages))


def lookup(handle: str, kind: str, settings: Settings, digest: str | None = None) -> CodePackage:
    """Return the registered package of a handle: the current one, or the one with a digest.

    Raises:
        PackageNotRegisteredError: If there is none.
        TransportError: If MLflow does not answer.
    """
    return _read(_find(handle, kind, settings, digest))


def materialise(made: CodePackage, settings: Settings) -> Materialised:
    """Return the package ready to run on this host, brought from the registry if its files are not here.

    Raises:
        PackageNotRegisteredError: If its files are not here and it is not registered.
        ToolFailedError: If its environment or Bento cannot be made.
    """
    folder = home_of(made.digest, settings)
    if not folder.exists():
        found = _find(made.handle, made.kind, settings, made.digest)
        with fresh_folder(folder) as draft:
            tracking.download(found.run_id, FILES, draft, settings)
    return _materialise(made, settings)


def _find(handle: str, kind: str, settings: Settings, digest: str | None) -> Version:
    name = f"{handle}.{kind}"
    if digest is None:
        found = tracking.version(name, CURRENT, settings)
    else:
        found = next(iter(tracking.find_versions(name, {"taxiway.digest": digest}, settings)), None)
    if found is None:
        raise PackageNotRegisteredError(handle, kind, digest)
    return found


def _register(made: CodePackage, settings: Settings, provenance: Provenance | None) -> CodePackage:
    name = f"{made.handle}.{made.kind}"
    with exclusive(settings.home / "registry" / f"{name}.lock"):
        found = tracking.find_versions(name, {"taxiway.digest": made.digest}, settings)
        version = found[0] if found else _create(name, made, settings, provenance)
        current = tracking.version(name, CURRENT, settings)
        if current is None or current.number != version.number:
            tracking.set_alias(name, CURRENT, version.number, settings)
    return replace(made, version=version.number)


def _create(name: str, made: CodePackage, settings: Settings, provenance: Provenance | None) -> Version:
    described = {"taxiway.handle": made.handle, "taxiway.kind": made.kind}
    tracking.ensure_registered_model(name, described, settings)
    experiment = tracking.ensure_experiment(made.handle, settings)
    tags = described | _source_tags(made) | dict(who.tags(provenance))
    as_run = {"taxiway.kind": "package", "taxiway.package.kind": made.kind}
    run = tracking.create_run(experiment, f"package {made.kind} {made.digest[:12]}", tags | as_run, settings)
    tracking.upload(run.run_id, home_of(made.digest, settings) / FILES, FILES, settings)
    tracking.finish(run.run_id, "FINISHED", settings)
    content = {"taxiway.digest": made.digest, "taxiway.package": json.dumps(made.to_json(), sort_keys=True)}
    text = f"The {made.kind} component of {made.handle}, source {made.source_hash[:12]}, lock {made.lock_hash[:12]}"
    return tracking.create_version(name, run.run_id, FILES, tags | content, text, settings)


def _source_tags(made: CodePackage) -> dict[str, str]:
    git = {"mlflow.source.git.commit": made.commit, "mlflow.source.git.repoURL": made.url}
    known = {key: value for key, value in git.items() if value}
    known["mlflow.project.entryPoint"] = made.kind
    return known | {"mlflow.source.git.dirty": str(made.is_dirty).lower()}


def _read(found: Version) -> CodePackage:
    made = CodePackage.from_json(json.loads(found.tags["taxiway.package"]))
    return replace(made, version=found.number)
