"""The file of predictions: read in each of its forms, refused with every fault."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from taxiway.errors import OutputFaultsError
from taxiway.evaluation import predictions

ROWS: list[dict[str, Any]] = [
    {"id": "a", "label": 7, "prediction": 7, "score": 0.9, "camera": "night"},
    {"id": "b", "label": 1, "prediction": 7, "score": 0.4, "camera": None},
]


def write(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> None:
    path = folder / f"predictions.{suffix}"
    if suffix == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_form_reads_the_same(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, suffix, ROWS)
    found = predictions.read(tmp_path)
    assert found is not None
    assert (found.ids, found.labels, found.predictions) == (("a", "b"), ("7", "1"), ("7", "7"))
    assert found.confidences == (0.9, 0.4)
    assert found.correct == (True, False)
    assert found.columns["camera"] == ("night", "(none)")


def test_whole_numbers_of_both_kinds_are_one_label() -> None:
    found = predictions.from_rows([{"id": 1, "label": 3.0, "prediction": 3}])
    assert found.correct == (True,)
    assert found.confidences is None


def test_confidence_is_the_probability_of_the_answer() -> None:
    row = {"id": 1, "label": "cat", "prediction": "dog", "probability_cat": 0.3, "probability_dog": 0.7}
    assert predictions.from_rows([row]).confidences == (0.7,)


def test_no_file_is_no_predictions(tmp_path: Path) -> None:
    assert predictions.read(tmp_path) is None


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([], ["holds no items"]),
        ([{"id": 1, "label": 2}], ["column prediction is missing"]),
        ([ROWS[0], ROWS[0]], ["row 2: id 'a' comes a second time"]),
        ([ROWS[0] | {"score": 1.2, "label": ""}], ["score must be in [0, 1], got 1.2", "label is empty"]),
        (
            [{"id": 1, "label": "a", "prediction": "c", "probability_a": 0.5}],
            ["prediction 'c' has no column probability_c"],
        ),
        ([ROWS[0] | {"id": str(n), "score": 9} for n in range(9)], ["and 4 more faults"]),
    ],
    ids=["empty", "column", "twice", "both", "probability", "many"],
)
def test_broken_predictions_are_refused_with_every_fault(
    rows: list[dict[str, Any]], parts: list[str]
) -> None:
    with pytest.raises(OutputFaultsError) as caught:
        predictions.from_rows(rows)
    for part in parts:
        assert part in str(caught.value)


def test_two_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "csv", ROWS)
    write(tmp_path, "jsonl", ROWS)
    with pytest.raises(OutputFaultsError, match=r"leave one of predictions.csv, predictions.jsonl"):
        predictions.read(tmp_path)


def test_broken_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text("[1]\n")
    with pytest.raises(OutputFaultsError, match="a line must be an object"):
        predictions.read(tmp_path)


@pytest.mark.parametrize(
    ("answers", "said", "is_refused"),
    [(["1", "1", "0"], 2 / 3, False), (["1", "1", "0"], 0.667, False), (["1.0", "1.0", "0.0"], 2 / 3, True)],
    ids=["exact", "rounded", "other text"],
)
def test_predictions_must_be_what_the_metrics_were_measured_on(
    answers: list[str], said: float, is_refused: bool
) -> None:
    rows = [{"id": at, "label": "1", "prediction": answer} for at, answer in enumerate(answers)]
    found = predictions.from_rows(rows)
    predictions.check_against(found, {})
    if not is_refused:
        predictions.check_against(found, {"accuracy": said})
        return
    with pytest.raises(OutputFaultsError, match=r"give 0.*'1\.0' is not '1'"):
        predictions.check_against(found, {"accuracy": said})
