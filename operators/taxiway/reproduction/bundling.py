"""Writes one file that holds a model and all that it was made of: code, wheels, data, source models, workflow.

`python <bundle> train` trains it again, `serve` serves it, on a machine without a network that has the same Python;
what they do is in `standalone/`. Nothing is trained or served here.
"""

import contextlib
import hashlib
import json
import os
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from taxiway.arguments import typed
from taxiway.datasets import versions as datasets
from taxiway.errors import InvalidSpecError
from taxiway.packaging.package import CodePackage
from taxiway.registry import models, packages
from taxiway.registry.models import ModelVersion
from taxiway.reproduction import recipe_files
from taxiway.reproduction.recipe_files import SCRIPT
from taxiway.settings import Settings
from taxiway.tools import exclusive, fresh_folder, run

MAIN = "__main__.py"
# Always the same, so that equal content gives equal bytes.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
Member = tuple[str, bytes | Path]
Log = Callable[[str], None]


@typed
def bundle(
    handle: str,
    version: int | str,
    settings: Settings,
    *,
    into: Path | None = None,
    workflow: Path | None = None,
    log: Log = print,
) -> Path:
    """Write a bundle of a registered model, and return its path, `<handle>-<version>.pyz`.

    Args:
        handle: The handle.
        version: Version or alias.
        settings: Where everything is. The wheels come from the index that pip knows.
        into: Folder to write it to; None is the working directory.
        workflow: DAG file to take along.
        log: Called with a line of progress.

    Raises:
        ModelNotFoundError: If there is no such version.
        ArtifactChangedError: If something is not what was registered.
        InvalidSpecError: If the workflow is no file.
        ToolFailedError: If a wheel cannot be had.
    """
    if workflow is not None and not workflow.is_file():
        raise InvalidSpecError((f"workflow: {workflow} is no file",), "bundle")
    model = models.get(handle, version, settings)
    target = (into or Path()).resolve() / f"{handle}-{model.version}.pyz"
    with exclusive(settings.home / "bundles" / f"{target.name}.lock"):
        log(f"bundling {handle}/{model.version} into {target}")
        training = packages.lookup(handle, "training", settings, model.training_digest)
        inference = packages.lookup(handle, "inference", settings, model.inference_digest)
        members = [*_members(model, training, inference, settings)]
        members += _wheels([training, inference], settings, log)
        if workflow is not None:
            members.append((f"workflow/{workflow.name}", workflow))
        with _replacing(target) as draft:
            _write(draft, model, inference, members)
    log(f"{target}: {target.stat().st_size} bytes, {len(members)} files")
    return target


def _members(
    model: ModelVersion, training: CodePackage, inference: CodePackage, settings: Settings
) -> Iterator[Member]:
    code, service = (recipe_files.code_of(package, settings) for package in (training, inference))
    places = {name: f"../source_models/{name}" for name in model.source_models}
    recipe = recipe_files.recipe_of(model, training, code, places)
    yield "training/recipe.json", recipe_files.as_text(recipe).encode()
    yield "training/requirements.txt", code.lock.encode()
    yield "inference/requirements.txt", service.lock.encode()
    yield f"training/{SCRIPT}", recipe_files.script(SCRIPT).encode()
    for folder, part in (("training", code), ("inference", service)):
        for name, content in part.files.items():
            yield f"{folder}/code/{name}", content
    yield from _folder("training/data", datasets.fetch(model.dataset, settings))
    yield from _folder("model", models.download(model, settings))
    for name, number in model.source_models.items():
        source = models.get(name, number, settings)
        yield from _folder(f"source_models/{name}", models.download(source, settings))


def _folder(prefix: str, folder: Path) -> Iterator[Member]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{prefix}/{path.relative_to(folder).as_posix()}", path


def _wheels(parts: list[CodePackage], settings: Settings, log: Log) -> Iterator[Member]:
    """Yield a wheel of everything that the locks name; pip builds one where a project publishes none."""
    found: dict[str, Member] = {}
    for part in parts:
        code = recipe_files.code_of(part, settings)
        found |= {wheel.name: (f"wheels/{wheel.name}", wheel) for wheel in code.wheels.values()}
        lines = [line for line in code.lock.splitlines() if line.strip() and not line.startswith("#")]
        wanted = sorted(line for line in lines if line.partition(" ")[0] not in code.wheels)
        if wanted:
            folder = _brought(wanted, part, settings, log)
            found |= {wheel.name: (f"wheels/{wheel.name}", wheel) for wheel in sorted(folder.glob("*.whl"))}
    yield from found.values()


def _brought(wanted: list[str], part: CodePackage, settings: Settings, log: Log) -> Path:
    """Return a folder with the wheels of requirements, as the package's own Python wants them."""
    key = hashlib.sha256("\n".join((part.python, *wanted)).encode()).hexdigest()[:32]
    folder = settings.home / "wheels" / key
    if not folder.exists():
        log(f"bringing {len(wanted)} wheels for Python {part.python}")
        is_ours = part.python == f"{sys.version_info.major}.{sys.version_info.minor}"
        python = sys.executable if is_ours else str(packages.materialise(part, settings).python)
        with fresh_folder(folder) as draft:
            requirements = draft / "requirements.in"
            requirements.write_text("\n".join(wanted) + "\n", encoding="utf-8")
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
            run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", draft, "-r", requirements], cwd=draft)
            requirements.unlink()
    return folder


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes the target, durably, when the block ends well; else nothing is left."""
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _write(draft: Path, model: ModelVersion, inference: CodePackage, members: list[Member]) -> None:
    """Write the bundle with a manifest that names each file's hash; Python runs a zip file that has a `__main__.py`."""
    digests: dict[str, str] = {}
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            digests[name] = _add(archive, name, content)
        manifest = {
            "handle": model.handle,
            "version": model.version,
            "dataset": model.dataset.to_json(),
            "source_models": dict(model.source_models),
            "inference": {
                "service": inference.manifest["service"],
                "server": inference.manifest["options"].get("server", "bento"),
                "python": inference.python,
            },
            "files": digests,
        }
        _add(archive, "bundle.json", json.dumps(manifest, indent=2, sort_keys=True).encode())
        _add(archive, SCRIPT, recipe_files.script(SCRIPT).encode())
        _add(archive, MAIN, recipe_files.script(MAIN).encode())


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> str:
    entry, digest = zipfile.ZipInfo(name, _NO_TIME), hashlib.sha256()
    entry.compress_type = (
        zipfile.ZIP_STORED if name.endswith((".whl", ".png", ".gz")) else zipfile.ZIP_DEFLATED
    )
    entry.external_attr = 0o644 << 16
    with archive.open(entry, "w", force_zip64=True) as member:
        for piece in _pieces(content):
            digest.update(piece)
            member.write(piece)
    return digest.hexdigest()


def _pieces(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
