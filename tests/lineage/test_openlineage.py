"""What a task read and made is told to OpenLineage, from its arguments and its result alone."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from taxiway.operators.evaluate import EvaluateOperator
from taxiway.operators.lineage import RESULT, Thing, inputs_of, outputs_of
from taxiway.operators.snapshot import SnapshotOperator
from taxiway.operators.train import TrainOperator

DATA = {"name": "digits", "version": 3, "tag": "digits@v3", "hash": "h.dir", "repository": "git@host:data"}
URL = "http://127.0.0.1:5000/#/models/digits/versions/7"
MODEL: Mapping[str, Any] = {
    "handle": "visual",
    "version": 7,
    "model_hash": "m" * 64,
    "training_digest": "a" * 64,
    "run_id": "r" * 32,
    "source_models": {"other": 2},
    "untraceable": ["training code has no Git commit"],
    "url": URL,
    "dataset": DATA,
}
MLFLOW = "http://127.0.0.1:5000"


def train() -> TrainOperator:
    return TrainOperator(task_id="train", handle="visual", dataset=DATA)


def test_training_reads_data_and_source_models_and_makes_a_version() -> None:
    data = Thing(namespace="git@host:data", name="digits", version="digits@v3", facts={"hash": "h.dir"})
    assert inputs_of(train(), MODEL) == (data, Thing(namespace=MLFLOW, name="other", version="2"))
    (made,) = outputs_of(MODEL)
    assert (made.namespace, made.name, made.version) == (MLFLOW, "visual", "7")
    assert made.facts["untraceable"] == "training code has no Git commit"


def test_snapshot_makes_data_and_an_evaluation_reads_a_model() -> None:
    assert [thing.version for thing in outputs_of(DATA)] == ["digits@v3"]
    assert inputs_of(SnapshotOperator(task_id="snapshot", name="digits", folder="/x"), DATA) == ()
    evaluate = EvaluateOperator(task_id="evaluate", handle="visual", version=7, dataset=DATA)
    read = inputs_of(evaluate, {"handle": "visual", "version": 7, "metrics": {}, "url": URL})
    assert [thing.name for thing in read] == ["digits", "visual"]
    assert outputs_of({"handle": "visual", "version": 7, "metrics": {}}) == ()


def test_task_without_a_result_tells_what_it_was_given() -> None:
    assert [thing.name for thing in inputs_of(train(), {})] == ["digits"]
    assert outputs_of({}) == ()


def test_provider_takes_what_an_operator_gives_it() -> None:
    serde = pytest.importorskip("openlineage.client.serde", reason="the OpenLineage provider is optional")
    task = train()
    setattr(task, RESULT, MODEL)
    found = task.get_openlineage_facets_on_complete(None)
    told = json.loads(serde.Serde.to_json(found.outputs[0]))
    assert (told["namespace"], told["name"]) == (MLFLOW, "visual")
    assert told["facets"]["version"]["datasetVersion"] == "7"
    assert [each.name for each in found.inputs] == ["digits", "other"]
    assert {tag.key for tag in found.run_facets["tags"].tags} >= {"taxiway.model_hash", "taxiway.untraceable"}


def test_result_of_a_task_that_ran_is_remembered() -> None:
    task = train()
    hook = task._post_execute_hook
    assert hook is not None

    context: Any = {"ti": SimpleNamespace(task=task)}
    hook(context, MODEL)
    assert getattr(task, RESULT) == MODEL
