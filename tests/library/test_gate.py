"""The whole gate on registered versions, with a real MLflow: predictions, checks, the champion, the report."""

import dataclasses
import json
import urllib.request
from pathlib import Path

import pytest

from taxiway import lineage
from taxiway.datasets import DatasetVersion
from taxiway.errors import ComponentFailedError, GateFailedError
from taxiway.evaluation import criteria, evaluate
from taxiway.packaging import package
from taxiway.provenance import Provenance
from taxiway.registry import models, packages, tracking, verdicts
from taxiway.settings import Settings
from taxiway.training import train

pytestmark = pytest.mark.slow

# The weight decides how many of 200 items are right; every second item is of the night.
EVALUATE = """
import csv, json, os, pathlib
weights = json.loads((pathlib.Path(os.environ["TAXIWAY_MODEL_DIR"]) / "weights.json").read_text())
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
right = round(200 * weights["c"])
with (output / "predictions.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["id", "label", "prediction", "score", "camera"])
    for n in range(200):
        writer.writerow([n, n % 2, n % 2 if n < right else 1 - n % 2, 0.9, "<night>" if n % 2 else "day"])
(output / "metrics.json").write_text(json.dumps({"accuracy": right / 200, "latency_p99_ms": 3.0}))
"""
CHECKS = """
def enough_items(metrics, rows):
    return {"passed": metrics["accuracy"] != 0.97, "reason": "0.97 is suspicious", "value": len(rows)}
"""
BARS = """files = ["evaluate.py", "own.py"]
minimum = { accuracy = 0.5 }
compare = "accuracy"
tolerance = 0.05
slices = ["camera"]
slice_minimum = { camera = 0.5 }
class_minimum = 0.5
calibration_at_most = 0.3
checks = ["own:enough_items"]
"""


@pytest.fixture
def judged(handled: Path, live: Settings) -> Path:
    """Return the tiny project, registered, with an evaluation that leaves predictions and has a check."""
    (handled / "evaluate.py").write_text(EVALUATE)
    (handled / "own.py").write_text(CHECKS)
    path = handled / "pyproject.toml"
    before, rest = path.read_text().split('files = ["evaluate.py"]\n')
    path.write_text(before + BARS + "[tool.taxiway.inference]" + rest.split("[tool.taxiway.inference]")[1])
    packages.register(package(str(handled), live), live)
    return handled


def test_gate_compares_item_by_item_runs_checks_and_leaves_a_report(
    judged: Path, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    live_one = train(handle, dataset, live, params={"c": 0.9})
    first = evaluate(handle, live_one.version, dataset, live)
    kinds = [finding.kind for finding in first.findings]
    assert kinds == ["minimum", "slice", "slice", "class", "class", "calibration", "sla", "check"]
    assert json.loads(json.dumps(first.to_json()))["findings"][0]["answer"] == "yes"
    models.set_alias(handle, models.CHAMPION, live_one.version, live)

    close = train(handle, dataset, live, params={"c": 0.895})
    passed = evaluate(handle, close.version, dataset, live)
    difference = next(finding for finding in passed.findings if finding.kind == "champion")
    assert difference.items == 200
    assert difference.value == pytest.approx(-0.005)
    assert difference.low is not None
    assert -0.05 <= difference.low < -0.005

    page = report_at(passed.report_url, handle, close.version, live, tmp_path / "report")
    for part in ("Passed: all 9 bars", "Confusion", "calibration curve", "&lt;night&gt;", "own:enough_items"):
        assert part in page, part
    assert "<night>" not in page
    assert "http://" not in page.replace(live.tracking_uri, "")
    assert "<script" not in page
    assert urllib.request.urlopen(passed.report_url.split("#")[0], timeout=120).status == 200


def test_inconclusive_comparison_and_failed_check_close_the_gate(
    judged: Path, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    champion = train(handle, dataset, live, params={"c": 1.0})
    models.set_alias(handle, models.CHAMPION, champion.version, live)
    doubtful = train(handle, dataset, live, params={"c": 0.97})
    with pytest.raises(GateFailedError) as caught:
        evaluate(handle, doubtful.version, dataset, live)
    doubt, failed = caught.value.reasons
    assert "the items cannot tell" in doubt
    assert failed == "check own:enough_items failed: 0.97 is suspicious"
    assert caught.value.report in str(caught.value)
    page = report_at(caught.value.report, handle, doubtful.version, live, tmp_path / "report")
    assert "Did not pass: 2 reason(s)" in page
    assert "inconclusive" in page


def test_failed_evaluation_names_its_own_command(
    judged: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    (judged / "evaluate.py").write_text("raise SystemExit(4)")
    packages.register(package(str(judged), live), live)
    model = train(handle, dataset, live)
    with pytest.raises(ComponentFailedError) as caught:
        evaluate(handle, model.version, dataset, live)
    assert (caught.value.command, caught.value.exit_code) == ("python evaluate.py", 4)


def test_acceptance_criteria_are_stored_with_the_handle(judged: Path, handle: str, live: Settings) -> None:
    found = criteria(handle, live)
    assert found.bars.class_minimum == {"*": 0.5}
    assert found.sla == {"p99_ms": 250, "availability": 0.99, "rate_rps": 20}


def test_verdict_of_another_who_asks_leaves_the_earlier_one_and_says_whose_it_is(
    judged: Path, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    model = train(handle, dataset, live, params={"c": 0.9})
    task = Provenance(dag_id="release", run_id="r1", task_id="evaluate")
    refused = []
    for try_number in (1, 2):
        again = dataclasses.replace(task, try_number=try_number)
        with pytest.raises(GateFailedError) as caught:
            evaluate(handle, model.version, dataset, live, minimum={"accuracy": 0.95}, provenance=again)
        refused.append(caught.value.report)
    passed = evaluate(handle, model.version, dataset, live, minimum={})
    assert len({*refused, passed.report_url}) == 2, "a retry says what the try before it said"

    run = run_of(handle, model.version, live)
    closed, opened = verdicts.of(run)
    assert (opened.said, opened.by) == ("passed", verdicts.NOTEBOOK)
    assert (closed.by, run.tags[verdicts.GATE]) == ("airflow release.evaluate r1", "passed")
    assert "Did not pass" in report_at(refused[0], handle, model.version, live, tmp_path / "closed")
    assert "Passed" in report_at(passed.report_url, handle, model.version, live, tmp_path / "opened")
    (kept,) = (tmp_path / "closed").rglob("verdict.json")
    assert json.loads(kept.read_text())["bars"]["minimum"] == {"accuracy": 0.95}

    facts = lineage.explain(run.run_id, live).nodes[run.run_id].facts
    assert facts["verdict"] == "passed"
    assert facts["said_by"].startswith("a notebook, ")
    (earlier,) = facts["earlier_verdicts"]
    assert "0.95" in earlier
    assert "airflow release.evaluate r1" in earlier
    shown = lineage.render(lineage.explain(f"{handle}/{model.version}", live))
    assert ": passed, said by a notebook, " in shown


def run_of(handle: str, version: int, live: Settings) -> tracking.Run:
    experiment = tracking.ensure_experiment(handle, live)
    wanted = {"taxiway.kind": "evaluation", "taxiway.model_version": str(version)}
    (run,) = tracking.find_runs(experiment, wanted, live)
    return run


def report_at(url: str, handle: str, version: int, live: Settings, folder: Path) -> str:
    """Return the page of an evaluation that a URL of MLflow's UI leads to."""
    path, _, name = url.partition("/artifacts/")[2].rpartition("/")
    folder.mkdir()
    return (tracking.download(run_of(handle, version, live).run_id, path, folder, live) / name).read_text()
