"""Who asked for a piece of work: the Airflow task, or a person in a notebook. Values only; nothing is stored here."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The Airflow task instance behind a call; a call without one came from a notebook or a shell.

    Attributes:
        try_number: Starts at 1. It is recorded, and is no part of the identity: a retry continues the same work.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 1

    def identity(self) -> dict[str, str]:
        """Return the tags that a retry of the same task shares."""
        return {
            "taxiway.airflow.dag_id": self.dag_id,
            "taxiway.airflow.run_id": self.run_id,
            "taxiway.airflow.task_id": self.task_id,
            "taxiway.airflow.map_index": str(self.map_index),
        }

    def tags(self) -> dict[str, str]:
        """Return the MLflow tags of this try."""
        return self.identity() | {"taxiway.airflow.try_number": str(self.try_number)}


def identity(provenance: Provenance | None) -> Mapping[str, str]:
    """Return the identity tags, or none for a notebook."""
    return provenance.identity() if provenance else {}


def tags(provenance: Provenance | None) -> Mapping[str, str]:
    """Return the MLflow tags of whoever asked, as MLflow's own source tags and Taxiway's."""
    if provenance is None:
        return {"mlflow.source.type": "LOCAL", "mlflow.source.name": "notebook"}
    source = {"mlflow.source.type": "JOB", "mlflow.source.name": f"airflow:{provenance.dag_id}"}
    return source | provenance.tags()
