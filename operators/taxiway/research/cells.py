"""Make data, train, tune and evaluate from a cell: the operators' functions, with what a cell leaves out filled in.

A cell names a handle or a project's folder. A folder is packaged and registered first, as it lies there: code that is
not committed is marked, and its model versions can never be promoted where Git knows nothing of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from taxiway import datasets, evaluation, training, tuning
from taxiway import transform as transforming
from taxiway.arguments import typed
from taxiway.datasets import DatasetVersion
from taxiway.datasets.search import Found
from taxiway.errors import GateFailedError, InvalidSpecError
from taxiway.evaluation import Evaluation
from taxiway.packaging.package import CodePackage, package
from taxiway.registry import libraries, packages
from taxiway.registry.models import ModelVersion
from taxiway.settings import Settings
from taxiway.transform import TransformResult
from taxiway.tuning import TuneResult

Log = Callable[[str], None]


@typed
def register(
    project: str | Path, *, settings: Settings | None = None, log: Log = print
) -> tuple[CodePackage, ...]:
    """Package and register every component of a project's folder, as it lies there.

    They become what the handle means from then on, as those of the last DAG run did.

    Args:
        project: Folder with a `pyproject.toml`.
        settings: Where everything is; None reads the environment.
        log: Called with a line of progress.

    Raises:
        ProjectFaultsError: If it breaks the contract; `readiness` shows the same and more.
    """
    where = here(settings)
    libraries.bring(where)
    return packages.register(package(str(Path(project).resolve()), where, log=log), where)


@typed
def transform(
    what: str | Path, *, settings: Settings | None = None, log: Log = print, **options: Any
) -> TransformResult:
    """Run the transform: `taxiway.transform.transform`; `put` its result to make a dataset version of it.

    Args:
        what: A project's folder, which is packaged and registered first, or a handle.
        settings: Where everything is; None reads the environment.
        log: Called with each line that the component prints.
        options: As `taxiway.transform.transform` takes them: `params`, `raw`, `runner`.

    Raises:
        TaxiwayError: As `taxiway.transform.transform` does.
    """
    where = here(settings)
    return transforming.transform(handle_of(what, where, log), where, log=log, **options)


@typed
def put(
    data: TransformResult | str | Path | Sequence[str | Path],
    name: str,
    *,
    settings: Settings | None = None,
    **card: Any,
) -> DatasetVersion:
    """Return the dataset version that holds data: `taxiway.datasets.put`.

    What a transform left keeps its origin, whether its result is put or the folder that it names.

    Args:
        data: What `transform` returned, a folder, a file, or a list of files.
        name: Name of the dataset.
        settings: Where everything is; None reads the environment.
        card: What is said of the data, such as `licence="cc-by-4.0"`.

    Raises:
        TaxiwayError: As `taxiway.datasets.snapshot` does.
    """
    where = here(settings)
    if isinstance(data, TransformResult):
        return datasets.snapshot(data.path, name, where, card=card, origin=data.origin)
    if isinstance(data, str | Path) and (origin := transforming.origin_of(Path(data))):
        return datasets.snapshot(Path(data), name, where, card=card, origin=origin)
    return datasets.put(data, name, settings=where, **card)


@typed
def search(text: str = "", *, settings: Settings | None = None, **asked: str) -> tuple[Found, ...]:
    """Return the datasets that hold every word of a text: `taxiway.datasets.search`; without a question, all of them.

    Args:
        text: Words of its name, description, keywords, purpose or owner.
        settings: Where everything is; None reads the environment.
        asked: As `taxiway.datasets.search` takes it: `name`, `keyword`, `column`, `licence`.
    """
    return datasets.search(here(settings), text=text, **asked)


@typed
def train(
    what: str | Path,
    data: DatasetVersion | str,
    *,
    params: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    log: Log = print,
    **options: Any,
) -> ModelVersion:
    """Train and register a model version: `taxiway.training.train`.

    Args:
        what: A project's folder, which is packaged and registered first, or a handle.
        data: A dataset version, or its name as `digits@v3`; `digits` is its newest.
        params: Over the package's defaults.
        settings: Where everything is; None reads the environment.
        log: Called with each line that the component prints.
        options: As `taxiway.training.train` takes them: `seed`, `source_models`, `runner`.

    Raises:
        TaxiwayError: As `taxiway.training.train` does.
    """
    where = here(settings)
    handle = handle_of(what, where, log)
    return training.train(handle, dataset(data, where), where, params=params, log=log, **options)


@typed
def tune(
    what: str | Path,
    data: DatasetVersion | str,
    *,
    trials: int,
    settings: Settings | None = None,
    log: Log = print,
    **options: Any,
) -> TuneResult:
    """Search parameters: `taxiway.tuning.tune`.

    Args:
        what: A project's folder, which is packaged and registered first, or a handle.
        data: A dataset version, or its name.
        trials: Finished trials to reach.
        settings: Where everything is; None reads the environment.
        log: Called with each line of progress.
        options: As `taxiway.tuning.tune` takes them: `goal`, `params`, `parallel`, `runner`.

    Raises:
        TaxiwayError: As `taxiway.tuning.tune` does.
    """
    where = here(settings)
    handle = handle_of(what, where, log)
    return tuning.tune(handle, dataset(data, where), where, trials=trials, log=log, **options)


@typed
def evaluate(
    model: ModelVersion,
    data: DatasetVersion | str | None = None,
    *,
    settings: Settings | None = None,
    log: Log = print,
    **options: Any,
) -> Evaluation:
    """Hold a model version to its bars: `taxiway.evaluation.evaluate`, which a closed gate ends with its reasons.

    What nobody can tell, such as which version is live where there is no controller, is noted and passes: a cell
    promotes nothing.

    Args:
        model: As `train` returned it.
        data: What to measure on; None is what it was trained on.
        settings: Where everything is; None reads the environment.
        log: Called with each line that the component prints.
        options: As `taxiway.evaluation.evaluate` takes them: `minimum`, `compare`, `tolerance`,
            `inconclusive`.

    Raises:
        GateFailedError: If a bar is not reached; its reasons are logged one by one, and `.report` is its page.
    """
    where = here(settings)
    on = model.dataset if data is None else dataset(data, where)
    try:
        options = {"inconclusive": "pass", **options}
        return evaluation.evaluate(model.handle, model.version, on, where, log=log, **options)
    except GateFailedError as closed:
        for reason in closed.reasons:
            log(f"closed: {reason}")
        raise


def here(settings: Settings | None) -> Settings:
    """Return the settings that cells work with: code that nobody committed is let in, marked."""
    return replace(settings or Settings.from_environment(), allow_untraceable=True)


def handle_of(what: str | Path, settings: Settings, log: Log) -> str:
    """Return the handle that a cell means: that of a folder, registered as it lies there, or the text itself.

    Raises:
        InvalidSpecError: If it looks like a path and is no folder.
    """
    folder = Path(what)
    if (folder / "pyproject.toml").is_file():
        return register(folder, settings=settings, log=log)[0].handle
    if isinstance(what, Path) or "/" in what or folder.is_dir():
        raise InvalidSpecError((f"no pyproject.toml in {folder.resolve()}",), "model project")
    return what


def dataset(data: DatasetVersion | str, settings: Settings) -> DatasetVersion:
    """Return the dataset version that a cell names.

    Raises:
        DatasetNotFoundError: If there is none.
    """
    if isinstance(data, DatasetVersion):
        return data
    name, _, revision = data.partition("@")
    return datasets.get(name, revision or "latest", settings)
