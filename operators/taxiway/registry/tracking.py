"""The one place that imports mlflow, inside functions: runs, artifacts and registered models as plain values.

What the tags mean is decided in `packages.py` and `models.py`; plain look-ups are in `reading.py`. Writing an alias or
a tag of a version costs time that grows with the versions, so tags are given when a version is created.
"""

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from taxiway.errors import TransportError
from taxiway.registry import reading
from taxiway.registry.reading import PAGE, Page, Version
from taxiway.settings import Settings
from taxiway.tools import redact

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
_QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
_RETRYABLE = frozenset(
    {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One MLflow run, as it was when it was read; `ended_at_s` is 0 for one that has not ended."""

    run_id: str
    experiment_id: str
    status: str
    started_at_s: float
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    ended_at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInput:
    """A dataset as MLflow shows it beside a run; `digest` has at most 36 characters, as DVC's `<md5>.dir`."""

    name: str
    digest: str
    source_type: str
    source: str
    profile: str


def ensure_experiment(name: str, settings: Settings) -> str:
    """Return the id of an experiment, made if it is not there."""
    found = find_experiment(name, settings)
    with _answers(settings) as client:
        return found or _create_experiment(client, name)


def find_experiment(name: str, settings: Settings) -> str | None:
    """Return the id of an experiment, or None if nobody made it."""
    with _answers(settings) as client:
        found = client.get_experiment_by_name(name)
        return str(found.experiment_id) if found else None


def create_run(experiment_id: str, name: str, tags: Mapping[str, str], settings: Settings) -> Run:
    """Open a run; `mlflow.parentRunId` among the tags nests it."""
    with _answers(settings) as client:
        return _run(client.create_run(experiment_id, run_name=name, tags=dict(tags)))


def find_runs(experiment_id: str, tags: Mapping[str, str], settings: Settings) -> tuple[Run, ...]:
    """Return the runs that carry all the tags, the newest first, up to `PAGE`."""
    query = " and ".join(reading.tag_terms(tags))
    with _answers(settings) as client:
        found = client.search_runs(
            [experiment_id], query, max_results=PAGE, order_by=["attributes.start_time DESC"]
        )
        return tuple(_run(item) for item in found)


def all_runs(terms: Sequence[str], settings: Settings) -> tuple[Run, ...]:
    """Return the runs of every experiment that all terms of MLflow's filter hold for, the newest first.

    Args:
        terms: Such as `reading.tag_terms` makes them, and `attributes.status = 'FINISHED'`.
        settings: Which MLflow.
    """
    if not settings.tracking_needs_client:
        return tuple(map(_read_run, reading.all_runs(terms, settings)))
    with _answers(settings) as client:
        experiments = [each.experiment_id for each in _paged(client.search_experiments)]
        search = functools.partial(client.search_runs, experiments, " and ".join(terms))
        return tuple(_run(item) for item in _paged(search)) if experiments else ()


def _paged(search: Callable[..., Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def get_run(run_id: str, settings: Settings) -> Run:
    """Return a run by its id."""
    with _answers(settings) as client:
        return _run(client.get_run(run_id))


def reopen(run_id: str, tags: Mapping[str, str], settings: Settings) -> None:
    """Set a run that ended back to running, with tags of the new try."""
    with _answers(settings) as client:
        client.update_run(run_id, status="RUNNING")
        for key, value in tags.items():
            client.set_tag(run_id, key, value)


def finish(run_id: str, status: Status, settings: Settings) -> None:
    """Close a run."""
    with _answers(settings) as client:
        client.set_terminated(run_id, status=status)


def log(
    run_id: str,
    settings: Settings,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Record parameters, metrics and tags of a run in one request; the same parameters again are welcome.

    These metrics are what the run says from now on, whatever a component logged itself under the same names.
    """
    with _answers(settings) as client:
        from mlflow.entities import Metric, Param, RunTag

        now_ms = int(time.time() * 1000)
        steps = _steps_after(client, run_id, metrics or {})
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, now_ms, steps[name]) for name, value in (metrics or {}).items()],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )


def _steps_after(client: "MlflowClient", run_id: str, names: Iterable[str]) -> dict[str, int]:
    """Return a step for each metric that no value of it has yet: the highest one is the metric's value in MLflow."""
    wanted = set(names)
    known = wanted & set(client.get_run(run_id).data.metrics) if wanted else set()
    highest = {name: max(each.step for each in client.get_metric_history(run_id, name)) for name in known}
    return {name: highest.get(name, -1) + 1 for name in wanted}


def metric_history(run_id: str, name: str, settings: Settings) -> tuple[tuple[int, float], ...]:
    """Return every value that a run logged of a metric, `(step, value)`, in the order of the steps."""
    with _answers(settings) as client:
        found = client.get_metric_history(run_id, name)
        return tuple(sorted((each.step, each.value) for each in found))


def log_dataset(run_id: str, dataset: DatasetInput, context: str, settings: Settings) -> None:
    """Record a dataset as an input of a run."""
    with _answers(settings) as client:
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as Entity
        from mlflow.exceptions import MlflowException

        value = Dataset(
            dataset.name, dataset.digest, dataset.source_type, dataset.source, profile=dataset.profile
        )
        inputs = [Entity(value, [InputTag("mlflow.data.context", context)])]
        try:
            client.log_inputs(run_id, inputs)
        except MlflowException as exc:
            # Two runs that log a new dataset at the same moment: the server inserts it twice and refuses the second.
            if exc.error_code != "BAD_REQUEST":
                raise
            client.log_inputs(run_id, inputs)


def upload(run_id: str, source: Path, path: str, settings: Settings) -> None:
    """Make the artifacts below `path` of a run equal to a folder, or to one file: what was there is deleted first."""
    with _answers(settings) as client:
        if client.list_artifacts(run_id, path):
            _delete_artifacts(client.get_run(run_id).info.artifact_uri, path, settings)
        if source.is_dir():
            client.log_artifacts(run_id, str(source), path)
        else:
            client.log_artifact(run_id, str(source), path)


def _delete_artifacts(base: str, path: str, settings: Settings) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository: Any = get_artifact_repository(base, tracking_uri=settings.tracking_uri)
    repository.delete_artifacts(path)


def download(run_id: str, path: str, into: Path, settings: Settings) -> Path:
    """Copy the artifacts below `path` of a run into a folder, and return where they are."""
    with _answers(settings) as client:
        return Path(client.download_artifacts(run_id, path, str(into)))


def load_pyfunc(folder: Path) -> Any:
    """Return the model in a folder as MLflow loads it, with `predict`."""
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(folder))


def ensure_registered_model(name: str, tags: Mapping[str, str], settings: Settings) -> None:
    """Make a registered model unless it is there."""
    with _answers(settings, "RESOURCE_ALREADY_EXISTS") as client:
        client.create_registered_model(name, tags=dict(tags))


def create_version(
    name: str, run_id: str, path: str, tags: Mapping[str, str], description: str, settings: Settings
) -> Version:
    """Register the artifacts below `path` of a run as the next version of a registered model."""
    with _answers(settings) as client:
        source = f"runs:/{run_id}/{path}"
        made = client.create_model_version(
            name, source, run_id, tags=dict(tags), description=description, await_creation_for=0
        )
        return _version(made)


def find_versions(name: str, tags: Mapping[str, str], settings: Settings) -> tuple[Version, ...]:
    """Return the versions that carry all the tags, the newest first, up to `PAGE`; none for an unknown name."""
    if not settings.tracking_needs_client:
        return reading.find_versions(name, tags, settings)
    with _answers(settings) as client:
        query = reading.query(name, tags)
        found = client.search_model_versions(query, max_results=PAGE, order_by=["version_number DESC"])
        return tuple(_version(item) for item in found)


def find_tagged(tags: Mapping[str, str], settings: Settings) -> tuple[Version, ...]:
    """Return the versions of any name that carry all the tags, the newest first, up to `PAGE`."""
    if not settings.tracking_needs_client:
        return reading.find_tagged(tags, settings)
    with _answers(settings) as client:
        found = client.search_model_versions(
            " and ".join(reading.tag_terms(tags)), max_results=PAGE, order_by=[reading.NEWEST_FIRST]
        )
        return tuple(_version(item) for item in found)


def newest_versions(settings: Settings, *, token: str = "", limit: int = PAGE) -> Page:
    """Return a page of the versions of all names, the newest first."""
    if not settings.tracking_needs_client:
        return reading.newest(settings, token=token, limit=limit)
    with _answers(settings) as client:
        found = client.search_model_versions(
            max_results=limit, order_by=[reading.NEWEST_FIRST], page_token=token or None
        )
        return Page(versions=tuple(_version(item) for item in found), token=found.token or "")


def version(name: str, which: int | str, settings: Settings) -> Version | None:
    """Return a version by number or alias, or None."""
    if not settings.tracking_needs_client:
        return reading.version(name, which, settings)
    found: Any = None
    with _answers(settings, *reading.ABSENT) as client:
        if isinstance(which, int):
            found = client.get_model_version(name, str(which))
        else:
            found = client.get_model_version_by_alias(name, which)
    return _version(found) if found else None


def set_alias(name: str, alias: str, number: int, settings: Settings) -> None:
    """Point an alias at a version."""
    with _answers(settings) as client:
        client.set_registered_model_alias(name, alias, str(number))


def tag_version(name: str, number: int, tags: Mapping[str, str], settings: Settings) -> None:
    """Write tags of a version that is there already."""
    with _answers(settings) as client:
        for key, value in tags.items():
            client.set_model_version_tag(name, str(number), key, value)


def run_url(run: Run, settings: Settings) -> str:
    """Return the page of a run in MLflow's UI."""
    return f"{_base(settings)}/#/experiments/{run.experiment_id}/runs/{run.run_id}"


def version_url(name: str, number: int, settings: Settings) -> str:
    """Return the page of a version in MLflow's UI."""
    return f"{_base(settings)}/#/models/{quote(name, safe='')}/versions/{number}"


def _base(settings: Settings) -> str:
    return redact(settings.tracking_uri).rstrip("/")


def _create_experiment(client: "MlflowClient", name: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name))
    except MlflowException as exc:
        found = client.get_experiment_by_name(name)
        if exc.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
            raise
        return str(found.experiment_id)


@contextmanager
def _answers(settings: Settings, *welcome: str) -> "Iterator[MlflowClient]":
    """Give a client, and turn a server that does not answer into an error that may be retried.

    Args:
        settings: Which server.
        welcome: Codes of refusals that end the block, and nothing more.
    """
    client = _client(settings.tracking_uri)
    from mlflow.exceptions import MlflowException

    try:
        yield client
    except MlflowException as exc:
        if exc.error_code in _RETRYABLE:
            raise TransportError(_base(settings), redact(str(exc))) from exc
        if exc.error_code not in welcome:
            raise


@functools.lru_cache(maxsize=8)
def _client(uri: str) -> "MlflowClient":
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _run(found: Any) -> Run:
    return Run(
        run_id=found.info.run_id,
        experiment_id=found.info.experiment_id,
        status=found.info.status,
        started_at_s=found.info.start_time / 1000,
        ended_at_s=(found.info.end_time or 0) / 1000,
        params=dict(found.data.params),
        metrics=dict(found.data.metrics),
        tags=dict(found.data.tags),
    )


def _read_run(found: Mapping[str, Any]) -> Run:
    """Return a run as MLflow's REST interface has it."""
    info, data = found["info"], found.get("data", {})
    return Run(
        run_id=info["run_id"],
        experiment_id=info["experiment_id"],
        status=info["status"],
        started_at_s=float(info.get("start_time") or 0) / 1000,
        ended_at_s=float(info.get("end_time") or 0) / 1000,
        params={each["key"]: each["value"] for each in data.get("params", ())},
        metrics={each["key"]: float(each["value"]) for each in data.get("metrics", ())},
        tags={each["key"]: each["value"] for each in data.get("tags", ())},
    )


def _version(found: Any) -> Version:
    return Version(
        name=found.name,
        number=int(found.version),
        run_id=found.run_id,
        source=found.source,
        tags=dict(found.tags),
        created_at_s=found.creation_timestamp / 1000,
    )
