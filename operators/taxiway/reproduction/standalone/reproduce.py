"""Trains a registered model again from the files beside this one, and says whether it came out the same.

It travels with them, into the data repository and into bundles, and needs nothing but Python's standard library: no
Airflow, no MLflow, no Taxiway. `recipe.json` says what is run, `requirements.txt` in which environment; a folder
`wheels` beside it, if it is there, is where the environment is installed from, so that no network is needed.
"""

import argparse
import hashlib
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TOLERANCE = 1e-6
"""A metric may differ by so much, relative to its size, where another processor rounds otherwise."""
_DESCRIPTION = "MLmodel"
_OF_THE_MAKING = (
    "artifact_path:",
    "model_id:",
    "model_size_bytes:",
    "model_uuid:",
    "run_id:",
    "utc_time_created:",
)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: list[str] | None = None) -> int:
    """Train the model beside this file and return 0; 1 if it fails or, with `--check`, comes out otherwise."""
    parser = argparse.ArgumentParser(description="Train a registered model again, and compare it.")
    parser.add_argument("--check", action="store_true", help="fail if the model is not the registered one")
    given = parser.parse_args(arguments)
    here = Path(__file__).resolve().parent
    recipe = json.loads((here / "recipe.json").read_text(encoding="utf-8"))
    try:
        same, words = reproduce(here, recipe, wheels=here / "wheels")
    except ReproductionError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{words}\n")
    return 0 if same or not given.check else 1


class ReproductionError(Exception):
    """Something that stands in the way, with the next step."""


def reproduce(here: Path, recipe: Mapping[str, Any], *, wheels: Path) -> tuple[bool, str]:
    """Train from `code` and `data` in a folder, leave `model` and `metrics.json` there, and compare them.

    Args:
        here: The folder.
        recipe: What `recipe.json` says.
        wheels: Folder to install from; where it is missing, the index that pip or uv knows.

    Returns:
        Whether the result is the registered one, and the verdict in words.
    """
    take_python(recipe["python"])
    python = environment(here / ".venv", here / "requirements.txt", wheels)
    with tempfile.TemporaryDirectory(dir=here, prefix=".run-") as scratch:
        run(Path(scratch), here, recipe, python)
    return compare(here, recipe["expected"])


def take_python(wanted: str) -> None:
    """Go on in a Python of the minor version that the lock was made for: this one, or one that is found by its name."""
    found = f"{sys.version_info.major}.{sys.version_info.minor}"
    if found == wanted:
        return
    other = shutil.which(f"python{wanted}")
    if other is None:
        raise ReproductionError(
            f"the model was trained with Python {wanted}, this is {found}, and there is no python{wanted}; install it"
        )
    sys.stdout.flush()
    os.execv(other, [other, *sys.argv])


def environment(folder: Path, requirements: Path, wheels: Path) -> Path:
    """Return the Python of a virtual environment with exactly these requirements, made if it is not there."""
    python = folder / "bin" / "python"
    name = hashlib.sha256(requirements.read_bytes()).hexdigest()
    marker = folder / ".complete"
    if marker.exists() and marker.read_text() == name:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    source = ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
    uv = shutil.which("uv")
    if uv:
        _call([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    else:
        _call([sys.executable, "-m", "venv", str(folder)])
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if requirements.read_text().strip():
        # Wheels that travel with the files are named relative to them.
        _call([*install, "--no-deps", *source, "-r", requirements.name], cwd=requirements.parent)
    marker.write_text(name)
    return python


def run(scratch: Path, here: Path, recipe: Mapping[str, Any], python: Path) -> None:
    """Run the training command on a copy of the code, and bring what it left to the folder."""
    code, output = scratch / "code", scratch / "output"
    shutil.copytree(here / "code", code, ignore=shutil.ignore_patterns("__pycache__"))
    for name in recipe["executables"]:
        (code / name).chmod(0o755)
    output.mkdir()
    sources = _source_models(scratch, here, recipe["source_models"])
    variables = _variables(here, recipe, output, sources) | {"PATH": f"{python.parent}{os.pathsep}{_path()}"}
    words = [word.format_map(_Given(recipe["params"])) for word in shlex.split(recipe["command"])]
    if words[0] in ("python", "python3"):
        words[0] = str(python)
    _call(words, cwd=code, environment={**_inherited(), **variables})
    for name in ("model", "metrics.json"):
        if not (output / name).exists():
            raise ReproductionError(f"`{recipe['command']}` left no {name}")
        _remove(here / name)
        shutil.move(output / name, here / name)


def compare(here: Path, expected: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether model and metrics are the registered ones, and the verdict in words."""
    got = content_hash(here / "model")
    if got == expected["model_hash"] and is_described(here / "model", expected):
        return True, f"the registered model, byte for byte ({got[:12]})"
    if not expected["metrics"]:
        return False, f"other bytes ({got[:12]}), and no registered metric to compare them by"
    measured = dict(_numbers(json.loads((here / "metrics.json").read_text(encoding="utf-8"))))
    apart = [
        f"{name} {measured.get(name, math.nan):.6g} instead of {value:.6g}"
        for name, value in expected["metrics"].items()
        if not math.isclose(measured.get(name, math.nan), value, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    ]
    if apart:
        return False, f"another model: {'; '.join(apart)}"
    return True, f"the registered metrics within {TOLERANCE:g}, from other bytes ({got[:12]})"


def content_hash(folder: Path) -> str:
    """Return the hash by which a model is registered: of its files' paths, executable bits and bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [(path.relative_to(folder).as_posix(), path) for path in files]
    rows = [
        [name, 0o755 if path.stat().st_mode & 0o100 else 0o644, hashlib.sha256(path.read_bytes()).hexdigest()]
        for name, path in sorted(found)
        if name != _DESCRIPTION and "__pycache__" not in Path(name).parts
    ]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def is_described(folder: Path, expected: Mapping[str, Any]) -> bool:
    """Tell whether the training described its model for MLflow as the registered one is; one that did not is."""
    path = folder / _DESCRIPTION
    if not path.exists() or not expected.get("mlmodel"):
        return True
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    said = json.dumps([line for line in lines if not line.startswith(_OF_THE_MAKING)], separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest() == str(expected["mlmodel"])


class _Given(dict[str, Any]):
    """Parameters for a command; what it does not name stays as it is written."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def _variables(here: Path, recipe: Mapping[str, Any], output: Path, sources: Path | None) -> dict[str, str]:
    seed = recipe["seed"]
    found = {
        "TAXIWAY_HANDLE": recipe["handle"],
        "TAXIWAY_DATA_DIR": str(here / "data"),
        "TAXIWAY_OUTPUT_DIR": str(output),
        "TAXIWAY_PARAMS": json.dumps(recipe["params"], sort_keys=True),
        "TAXIWAY_SEED": str(seed),
        "PYTHONHASHSEED": str(seed % 2**32),
        "PYTHONUNBUFFERED": "1",
        # Code that logs to MLflow logs to a file that is thrown away.
        "MLFLOW_TRACKING_URI": f"sqlite:///{output.parent}/mlflow.db",
    }
    found |= dict.fromkeys(_THREADS, str(recipe["threads"]))
    return found | ({"TAXIWAY_SOURCE_MODELS_DIR": str(sources)} if sources else {})


def _source_models(scratch: Path, here: Path, models: Mapping[str, str]) -> Path | None:
    if not models:
        return None
    folder = scratch / "source_models"
    for name, place in models.items():
        if not (here / place).is_dir():
            raise ReproductionError(f"the source model {name} is missing: {place}; reproduce it first")
        shutil.copytree(here / place, folder / name)
    return folder


def _inherited() -> dict[str, str]:
    kept = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _path() -> str:
    return os.environ.get("PATH", os.defpath)


def _call(
    command: list[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    done = subprocess.run(command, cwd=cwd, env=dict(environment) if environment else None, check=False)
    if done.returncode != 0:
        raise ReproductionError(f"`{shlex.join(command)[:300]}` ended with {done.returncode}; see above")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _numbers(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)


if __name__ == "__main__":
    sys.exit(main())
