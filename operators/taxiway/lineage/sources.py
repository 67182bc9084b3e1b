"""Source models: which versions a training starts from, and their files, read-only, where its code finds them.

A source is named by handle, and a version or an alias after `@`; without one it is the live version.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from taxiway import champion
from taxiway.errors import ModelNotFoundError
from taxiway.registry import models
from taxiway.registry.models import ModelVersion
from taxiway.registry.recipe import Recipe
from taxiway.settings import Settings
from taxiway.tools import exclusive, fresh_folder, protect, remove


def choose(
    declared: Iterable[str],
    given: Mapping[str, int | str],
    settings: Settings,
    log: Callable[[str], None],
) -> dict[str, int]:
    """Return the version of each source model, by handle.

    Args:
        declared: The package's own, such as `visual_recognition@7`, `other@champion` or `other`.
        given: Version or alias by handle; it wins over the package's own, and may name others.
        settings: Which MLflow and which controller.
        log: Called with a line where the live version is not known for certain.

    Raises:
        ModelNotFoundError: If a version or an alias is not there, or none is live.
    """
    own = {name: which for name, _, which in (text.partition("@") for text in declared)}
    wanted = {**own, **given}
    return {name: _version(name, which, settings, log) for name, which in sorted(wanted.items())}


def _version(handle: str, which: int | str, settings: Settings, log: Callable[[str], None]) -> int:
    if which not in ("", models.CHAMPION):
        return models.get(handle, which, settings).version
    found = champion.find(handle, settings, log)
    if found is None:
        raise ModelNotFoundError(handle, models.CHAMPION)
    return found.version


def deliver(recipe: Recipe, settings: Settings) -> Path | None:
    """Return a read-only folder with a subfolder for each source model, checked on every call; None without any.

    A copy, so that no component can reach what a variant serves from.

    Raises:
        ModelNotFoundError: If a version was deleted.
        ArtifactChangedError: If its files are not what was registered.
    """
    if not recipe.source_models:
        return None
    wanted = [models.get(name, number, settings) for name, number in recipe.source_models.items()]
    folder = settings.home / "source_models" / recipe.key[:32]
    # Several workers of one search want the same folder: none may take it away from another that reads it by now.
    with exclusive(folder.with_suffix(".lock")):
        if not all(is_intact(folder / model.handle, model) for model in wanted):
            remove(folder)
            with fresh_folder(folder) as draft:
                for model in wanted:
                    _copy(model, draft / model.handle, settings)
                protect(draft)
    return folder


def hash_of(folder: Path) -> str:
    """Return the content hash of the copy of a source model; one that nobody wrote to is not read again."""
    return models.hash_of(folder, memory=folder.parent.with_name(f"{folder.parent.name}.{folder.name}.json"))


def is_intact(folder: Path, model: ModelVersion) -> bool:
    """Tell whether the copy of a source model is what was registered."""
    return folder.is_dir() and hash_of(folder) == model.model_hash and models.is_described(model, folder)


def copies(recipe: Recipe, folder: Path | None, settings: Settings) -> dict[Path, ModelVersion]:
    """Return each source model by the folder that holds its copy, below the one that `deliver` returned.

    Raises:
        ModelNotFoundError: If a version was deleted.
    """
    if folder is None:
        return {}
    numbers = recipe.source_models.items()
    return {folder / name: models.get(name, number, settings) for name, number in numbers}


def _copy(model: ModelVersion, target: Path, settings: Settings) -> None:
    folder = models.download(model, settings)
    for name in models.files_of(model, settings):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)
