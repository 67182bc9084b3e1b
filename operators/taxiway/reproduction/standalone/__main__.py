"""What a bundle does when it is run: `python <bundle> verify`, `train` or `serve`. Python's standard library alone.

The bundle is unpacked into a folder beside it and checked file by file before anything of it is used.
"""

import argparse
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Both lie in the bundle, and in no package.
import reproduce  # type: ignore[import-not-found,unused-ignore]


def main() -> int:
    """Run the command that is asked for; 1 where it fails, with the reason on stderr."""
    given = _parser().parse_args()
    archive = Path(sys.argv[0]).resolve()
    folder = given.into or archive.with_suffix("")
    try:
        manifest = unpack(archive, folder)
        if given.command == "train":
            return train(folder)
        if given.command == "serve":
            serve(folder, manifest, given.port)
    except reproduce.ReproductionError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{folder}: {len(manifest['files'])} files, each as it was bundled\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A model with all that it was made of.")
    parser.add_argument(
        "command", choices=("verify", "train", "serve"), help="check it, train it again, serve it"
    )
    parser.add_argument("--into", type=Path, help="folder to unpack into (default: beside the bundle)")
    parser.add_argument("--port", type=int, default=3000, help="of `serve` (default: 3000)")
    return parser


def unpack(archive: Path, folder: Path) -> dict[str, Any]:
    """Unpack what is not there yet, check every file, and return the manifest."""
    with zipfile.ZipFile(archive) as bundle:
        manifest: dict[str, Any] = json.loads(bundle.read("bundle.json"))
        for name, digest in manifest["files"].items():
            target = folder / name
            if not target.exists() or _sha256(target) != digest:
                bundle.extract(name, folder)
            if _sha256(target) != digest:
                raise reproduce.ReproductionError(f"{name} is not what was bundled; get the bundle again")
    return manifest


def train(folder: Path) -> int:
    """Train the source models' descendant again from what is in the bundle, and say whether it is the same."""
    stage = folder / "training"
    recipe = json.loads((stage / "recipe.json").read_text(encoding="utf-8"))
    same, words = reproduce.reproduce(stage, recipe, wheels=folder / "wheels")
    sys.stdout.write(f"{words}\n")
    return 0 if same else 1


def serve(folder: Path, manifest: Mapping[str, Any], port: int) -> None:
    """Become the server of the bundled model, on loopback."""
    reproduce.take_python(manifest["inference"]["python"])
    code = folder / "inference" / "code"
    python = reproduce.environment(
        folder / "inference" / ".venv", folder / "inference" / "requirements.txt", folder / "wheels"
    )
    variables = {
        "TAXIWAY_HANDLE": manifest["handle"],
        "TAXIWAY_MODEL_DIR": str(folder / "model"),
        "TAXIWAY_MODEL_VERSION": str(manifest["version"]),
        "BENTOML_HOME": str(folder / "inference" / ".bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join((str(Path(python).parent), os.environ.get("PATH", os.defpath))),
    }
    (folder / "inference" / ".bentoml").mkdir(exist_ok=True)
    command = [str(python), "-m", "bentoml", "serve", manifest["inference"]["service"]]
    if manifest["inference"]["server"] == "mlflow":
        command = [str(python), "-m", "mlflow", "models", "serve", "-m", str(folder / "model")]
        command += ["--env-manager", "local"]
    os.chdir(code)
    os.execve(python, [*command, "--host", "127.0.0.1", "--port", str(port)], dict(os.environ) | variables)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
