"""The tags by which MLflow's UI shows what a model version was made of; `models.py` writes them.

They are for people and for look-ups: the lineage itself is one tag more, in one piece.
"""

from collections.abc import Iterable

from taxiway.packaging.package import DIFF, FILES, CodePackage
from taxiway.registry import tracking
from taxiway.registry.recipe import Recipe
from taxiway.settings import Settings


def of_inputs(recipe: Recipe, inference: CodePackage, key: str) -> dict[str, str]:
    """Return the code, the data and the models that a version was made of; `key` is their hash."""
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
    }
    sources = ", ".join(f"{name}@{at}" for name, at in recipe.source_models.items())
    used = {"taxiway.source_models": sources} if sources else {}
    return tags | used | of_commits(training, inference)


def of_commits(training: CodePackage, inference: CodePackage) -> dict[str, str]:
    """Return from which commits the code of a version is known to be."""
    tags = {
        "mlflow.source.git.dirty": str(training.is_dirty or inference.is_dirty).lower(),
        "mlflow.source.git.commit": training.commit,
        "mlflow.source.git.repoURL": training.url,
        "taxiway.training.commit": training.commit,
        "taxiway.inference.commit": inference.commit,
    }
    return {name: value for name, value in tags.items() if value}


def of_differences(packages: Iterable[CodePackage], settings: Settings) -> dict[str, str]:
    """Return where the difference between a dirty tree and its commit is kept, for each package made from one."""
    tags = {}
    for made in packages:
        name = f"{made.handle}.{made.kind}"
        for found in (
            tracking.find_versions(name, {"taxiway.digest": made.digest}, settings) if made.is_dirty else ()
        ):
            tags[f"taxiway.{made.kind}.diff"] = f"runs:/{found.run_id}/{FILES}/{DIFF}"
    return tags
