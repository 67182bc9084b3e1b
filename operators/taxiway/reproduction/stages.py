"""Leaves a stage in the data repository for each registered model: `dvc repro` trains it with what Git and DVC hold.

`models/<handle>/v<N>/` holds the code, the lock and the recipe as files that people can read and compare; the data are
brought by their commit. A source model is the output of its own stage, so that DVC reproduces it first. Nothing is
trained here.
"""

from pathlib import Path

from taxiway.datasets import repository
from taxiway.packaging.package import CodePackage
from taxiway.registry import packages
from taxiway.registry.models import ModelVersion
from taxiway.reproduction import recipe_files
from taxiway.reproduction.recipe_files import SCRIPT, Code
from taxiway.settings import Settings

WHEELS = "libraries"
_IGNORED = "/data\n/model\n/metrics.json\n/.venv\n/.run-*\n/*.dvc.lock\n"


def leave(version: ModelVersion, settings: Settings) -> str:
    """Commit the stage of a registered model, tagged `models/<handle>@v<N>`, unless it is there, and return the tag.

    Where that tag is another model's, because its handle was deleted and made again, the stage takes the place of the
    other's at the branch, of which no file is left, and its tag has the beginning of the model's hash at its end.

    Args:
        version: The model.
        settings: Which data repository; the commit is pushed to its origin, if it has one.

    Raises:
        ToolFailedError: If git fails; trying again is safe.
    """
    name, label = folder_of(version.handle, version.version), tag_of(version.handle, version.version)
    package = packages.lookup(version.handle, "training", settings, version.training_digest)
    files = _files(version, package, recipe_files.code_of(package, settings))
    texts = {f"{name}/{path}": _text(content) for path, content in files.items()}

    def attempt(root: Path) -> str | None:
        known = repository.tagged(root, f"models/{version.handle}").get(version.version)
        wanted = label if known is None or known.subject == version.model_hash else _again(label, version)
        if repository.git(root, "for-each-ref", f"refs/tags/{wanted}"):
            return wanted
        message = f"Train {version.handle}/{version.version} again with dvc repro {name}/dvc.yaml"
        superseded = dict.fromkeys(_committed(root, name) - texts.keys())
        made = repository.record(root, {**superseded, **texts}, message, tag=(wanted, version.model_hash))
        return wanted if made else None

    return repository.in_turn(settings, attempt)


def _committed(root: Path, folder: str) -> set[str]:
    """Return the files below a folder at the branch."""
    if repository.head(root) is None:
        return set()
    found = repository.git(root, "ls-tree", "-r", "-z", "--name-only", "HEAD", "--", f"{folder}/")
    return set(filter(None, found.split("\0")))


def _again(label: str, version: ModelVersion) -> str:
    """Return the tag of a model whose number another one had before it: MLflow forgot that one, and counts anew."""
    return f"{label}-{version.model_hash[:8]}"


def folder_of(handle: str, version: int) -> str:
    """Return where the stage of a model is, relative to the data repository."""
    return f"models/{handle}/v{version}"


def tag_of(handle: str, version: int) -> str:
    """Return the Git tag of a model's stage."""
    return f"models/{handle}@v{version}"


def _files(version: ModelVersion, package: CodePackage, code: Code) -> dict[str, bytes]:
    sources = {handle: f"../../{handle}/v{number}/model" for handle, number in version.source_models.items()}
    recipe = recipe_files.recipe_of(version, package, code, sources)
    texts = {
        ".gitignore": _IGNORED,
        "dvc.yaml": stage_text(version, list(sources.values()), [WHEELS] if code.wheels else []),
        "recipe.json": recipe_files.as_text(recipe),
        "requirements.txt": _requirements(code),
        SCRIPT: recipe_files.script(SCRIPT),
    }
    wheels = {f"{WHEELS}/{wheel.name}": wheel.read_bytes() for wheel in code.wheels.values()}
    return {
        **{name: text.encode() for name, text in texts.items()},
        **{f"code/{name}": content for name, content in code.files.items()},
        **wheels,
    }


def _requirements(code: Code) -> str:
    """Return the lock, with the wheels beside it in the place of the libraries that no index has."""
    lines = code.lock.splitlines()
    places = {name: f"./{WHEELS}/{wheel.name}" for name, wheel in code.wheels.items()}
    return "".join(f"{places.get(line.partition(' ')[0], line)}\n" for line in lines)


def stage_text(version: ModelVersion, sources: list[str], libraries: list[str]) -> str:
    """Return the `dvc.yaml` of a model.

    Its outputs are not kept in DVC's cache: MLflow keeps the model, and `dvc pull` brings data alone.

    Args:
        version: The model.
        sources: Folders of its source models.
        libraries: Folder of its wheels, if it has some.
    """
    import yaml

    data = version.dataset
    bring = f"dvc get --quiet --force --rev {data.commit} ../../.. {data.name} --out data"
    document = {
        "stages": {
            "data": {"cmd": bring, "outs": [{"data": {"cache": False}}]},
            "train": {
                "cmd": f"python3 {SCRIPT}",
                "deps": ["code", "data", "requirements.txt", *libraries, SCRIPT, *sources],
                "params": [{"recipe.json": ["command", "params", "seed", "threads", "source_models"]}],
                "outs": [{"model": {"cache": False}}],
                "metrics": [{"metrics.json": {"cache": False}}],
            },
        }
    }
    return yaml.safe_dump(document, sort_keys=False, width=1000)


def _text(content: bytes) -> str:
    # Git is given text; what is none survives this way and back.
    return content.decode("utf-8", "surrogateescape")
