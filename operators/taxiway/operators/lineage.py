"""What Taxiway's tasks tell OpenLineage, where Airflow's provider for it is installed: versions of data and models.

Only the provider calls this, after a task has ended well; what is imported from it is imported inside. The values are
made of an operator's arguments and of its result, so nothing is asked of any service.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import BaseOperator, Context

RESULT = "lineage_result"
DATA_ARGUMENTS = ("dataset", "raw")
FACTS = ("training_digest", "inference_digest", "model_hash", "run_id", "key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A dataset version or a model version, as OpenLineage names it.

    Attributes:
        namespace: The data repository, or the address of MLflow.
        name: The dataset's, or the handle.
        version: The dataset's tag, or the model version's number.
        facts: What else identifies it, as text.
    """

    namespace: str
    name: str
    version: str
    facts: Mapping[str, str] = field(default_factory=dict)


def remember(context: "Context", result: Any) -> None:
    """Keep a task's result for `facets`: Airflow hands it to no other method. An operator's `post_execute`."""
    setattr(context["ti"].task, RESULT, result)


def inputs_of(task: "BaseOperator", result: Mapping[str, Any]) -> tuple[Thing, ...]:
    """Return what a task read: the datasets among its arguments, what its data was made of, source models, a model."""
    return tuple(
        {(thing.namespace, thing.name, thing.version): thing for thing in _inputs(task, result)}.values()
    )


def _inputs(task: "BaseOperator", result: Mapping[str, Any]) -> Iterator[Thing]:
    for name in DATA_ARGUMENTS:
        given: Any = getattr(task, name, None)
        if _is_data(given):
            yield _data(given)
    if _is_model(result):
        for handle, version in (result.get("source_models") or {}).items():
            yield Thing(namespace=_address(result), name=handle, version=str(version))
    elif "handle" in result and result.get("version") is not None:
        yield Thing(namespace=_address(result), name=result["handle"], version=str(result["version"]))


def outputs_of(result: Mapping[str, Any]) -> tuple[Thing, ...]:
    """Return what a task made: a dataset version or a model version."""
    if _is_data(result):
        return (_data(result),)
    if not _is_model(result):
        return ()
    facts = {name: str(result[name]) for name in FACTS if result.get(name)}
    if result.get("untraceable"):
        facts["untraceable"] = "; ".join(result["untraceable"])
    version = str(result["version"])
    return (Thing(namespace=_address(result), name=result["handle"], version=version, facts=facts),)


def facets(task: "BaseOperator") -> "OperatorLineage[Any, Any]":
    """Return what a task read and made in OpenLineage's own classes; the provider must be installed."""
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset
    from openlineage.client.facet_v2 import dataset_version_dataset, tags_run

    result = getattr(task, RESULT, None)
    left = result if isinstance(result, Mapping) else {}
    made = outputs_of(left)

    def dataset(thing: Thing) -> Dataset:
        version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=thing.version)
        return Dataset(namespace=thing.namespace, name=thing.name, facets={"version": version})

    tags = [
        tags_run.TagsRunFacetFields(key=f"taxiway.{name}", value=value, source="taxiway")
        for thing in made
        for name, value in thing.facts.items()
    ]
    return OperatorLineage(
        inputs=[dataset(thing) for thing in inputs_of(task, left)],
        outputs=[dataset(thing) for thing in made],
        run_facets={"tags": tags_run.TagsRunFacet(tags=tags)} if tags else {},
    )


def _is_data(value: Any) -> bool:
    return isinstance(value, Mapping) and {"tag", "hash", "repository"} <= value.keys()


def _is_model(value: Mapping[str, Any]) -> bool:
    return {"model_hash", "handle", "version"} <= value.keys()


def _data(value: Mapping[str, Any]) -> Thing:
    return Thing(
        namespace=value["repository"], name=value["name"], version=value["tag"], facts={"hash": value["hash"]}
    )


def _address(result: Mapping[str, Any]) -> str:
    """Return MLflow's address, which every page of it begins with."""
    return str(result.get("url", "")).partition("/#/")[0] or "mlflow"
