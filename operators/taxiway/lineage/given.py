"""Looks again, when a run has ended, at what it was given: what is another by then makes the lineage a guess.

The bytes were checked before the run, by whoever delivered them; here they are checked after it. What has changed is
part of the run's trace.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from taxiway.datasets import fetching
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import ArtifactChangedError, DataChangedError
from taxiway.lineage.sources import is_intact
from taxiway.registry import models
from taxiway.registry.models import ModelVersion
from taxiway.runners import JobResult
from taxiway.settings import Settings


def checked(
    result: JobResult,
    settings: Settings,
    *,
    dataset: DatasetVersion | None = None,
    model: ModelVersion | None = None,
    sources: Mapping[Path, ModelVersion] | None = None,
) -> JobResult:
    """Return a run's result, with what it was given and was another when the run had ended in its trace.

    Args:
        result: Of the run; one that nobody watched is returned as it is.
        settings: Where the bytes are.
        dataset: The data that it was given.
        model: The model that it evaluated.
        sources: Each source model by the folder that holds its copy.

    Raises:
        ToolFailedError: If the data were taken away and cannot be brought again.
    """
    if result.trace is None:
        return result
    found = [*_data(dataset, settings), *_model(model, settings), *_sources(sources or {})]
    return replace(result, trace=replace(result.trace, altered=(*result.trace.altered, *found)))


def _data(dataset: DatasetVersion | None, settings: Settings) -> Iterator[str]:
    if dataset is None:
        return
    try:
        found = fetching.bring(dataset, settings)
    except DataChangedError as changed:
        yield f"the data {dataset.tag} changed while it ran: {changed.folder} has the hash {changed.got}"
    else:
        if found.source != "host":
            yield f"the data {dataset.tag} were taken away while it ran"


def _model(model: ModelVersion | None, settings: Settings) -> Iterator[str]:
    if model is None:
        return
    try:
        models.download(model, settings)
    except ArtifactChangedError:
        yield f"the model {model.handle}/{model.version} changed while it ran"


def _sources(sources: Mapping[Path, ModelVersion]) -> Iterator[str]:
    for folder, model in sources.items():
        if not is_intact(folder, model):
            yield f"the source model {model.handle}/{model.version} changed while it ran"
