"""What a training was made of, as files that need neither Airflow nor MLflow: code, lock, recipe, and who runs them.

Where the files go is decided in `stages.py` and `bundling.py`.
"""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from taxiway.errors import ArtifactChangedError
from taxiway.packaging import libraries as published
from taxiway.packaging.package import ARCHIVE, FILES, LOCK, CodePackage, home_of
from taxiway.packaging.wheel import filename
from taxiway.registry import libraries, packages
from taxiway.registry.models import ModelVersion
from taxiway.settings import Settings

SCRIPT = "reproduce.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A code package's files.

    Attributes:
        files: Bytes of each, by its path.
        executables: Which of them can be run as programs.
        lock: Exact requirements of its environment, one a line.
        wheels: Wheels of the published libraries among them, by requirement, `name==version`. No index has them, or
            what an index has under such a name is a stranger's.
    """

    files: Mapping[str, bytes]
    executables: tuple[str, ...]
    lock: str
    wheels: Mapping[str, Path]


def code_of(package: CodePackage, settings: Settings) -> Code:
    """Return the files of a package, brought from the registry if they are not on this host.

    Raises:
        PackageNotRegisteredError: If they are neither here nor there.
        ArtifactChangedError: If they, or a library that they were made with, are not what was registered.
    """
    packages.fetch(package, settings)
    folder = home_of(package.digest, settings) / FILES
    with tarfile.open(folder / ARCHIVE, mode="r:gz") as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
        contents = {member.name: tar.extractfile(member) for member in members}
        files = {name: file.read() for name, file in contents.items() if file is not None}
    return Code(
        files=files,
        executables=tuple(member.name for member in members if member.mode & 0o100),
        lock=(folder / LOCK).read_text(encoding="utf-8"),
        wheels=_wheels(package, settings),
    )


def _wheels(package: CodePackage, settings: Settings) -> dict[str, Path]:
    wanted: Mapping[str, Mapping[str, str]] = package.manifest.get("libraries", {})
    if wanted:
        libraries.bring(settings)
    found = {}
    for name, each in wanted.items():
        requirement = f"{name}=={each['version']}"
        wheel = published.folder(settings) / filename(name, each["version"])
        got = hashlib.sha256(wheel.read_bytes()).hexdigest() if wheel.exists() else "nothing"
        if got != each["hash"]:
            raise ArtifactChangedError(
                requirement, "wheel", each["hash"], got, "publish the same bytes again"
            )
        found[requirement] = wheel
    return found


def recipe_of(
    version: ModelVersion, package: CodePackage, code: Code, source_models: Mapping[str, str]
) -> dict[str, Any]:
    """Return what `reproduce.py` reads.

    Args:
        version: The registered model.
        package: Its training package.
        code: That package's files.
        source_models: Where the files of each source model are, relative to the recipe, by handle.
    """
    described = {"mlmodel": version.mlmodel} if version.mlmodel else {}
    return {
        "handle": version.handle,
        "version": version.version,
        "command": package.manifest["command"],
        "params": dict(version.params),
        "seed": version.seed,
        "threads": package.manifest["threads"],
        "python": package.python,
        "executables": list(code.executables),
        "source_models": dict(source_models),
        "expected": {"model_hash": version.model_hash, "metrics": dict(version.metrics), **described},
    }


def as_text(value: Any) -> str:
    """Return a JSON value as people read it, always the same."""
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def script(name: str) -> str:
    """Return the text of a program that travels with the files."""
    place = resources.files("taxiway.reproduction").joinpath("standalone", name)
    return place.read_text(encoding="utf-8")
