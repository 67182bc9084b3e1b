"""The example's pieces, each run alone from its inputs in its own environment."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.example.conftest import Run

pytestmark = pytest.mark.slow


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def metrics(output: Path) -> dict[str, float]:
    read: dict[str, float] = json.loads((output / "metrics.json").read_text())
    return read


def test_transform_writes_digits_by_split_and_label(digits: Path) -> None:
    for split, count in (("train", 400), ("test", 100)):
        found = {folder.name: len(list(folder.glob("*.png"))) for folder in (digits / split).iterdir()}
        assert found == {str(label): count for label in range(10)}


def test_transform_gives_the_same_bytes_again(run: Run) -> None:
    assert contents(run("transform.py", {"count": 300})) == contents(run("transform.py", {"count": 300}))


def test_transform_writes_a_balanced_subset(run: Run, digits: Path) -> None:
    some, all_of_them = contents(run("transform.py", {"count": 500})), contents(digits)
    assert len(some) == 500
    assert some.items() <= all_of_them.items()
    assert {name.rsplit("/", 1)[0] for name in some} == {name.rsplit("/", 1)[0] for name in all_of_them}


def test_transform_refuses_an_impossible_count(run: Run) -> None:
    with pytest.raises(RuntimeError, match="count is 9; it must be 100 to 5000"):
        run("transform.py", {"count": 9})


def test_training_gives_the_same_model_again(run: Run, digits: Path, modest: Path) -> None:
    assert contents(run("train.py", data=digits)) == contents(modest)


def test_training_differs_by_its_seed(run: Run, digits: Path, modest: Path) -> None:
    other = run("train.py", seed=1, data=digits)
    assert (other / "model" / "model.onnx").read_bytes() != (modest / "model" / "model.onnx").read_bytes()


def test_training_leaves_room_for_tuning(modest: Path, tuned: Path) -> None:
    assert 0.8 <= metrics(modest)["val_accuracy"] <= 0.9
    assert metrics(tuned)["val_accuracy"] >= 0.93


def test_training_keeps_the_history_of_its_epochs(tuned: Path) -> None:
    about = json.loads((tuned / "model" / "model.json").read_text())
    assert about["params"] == {"hidden": 128, "learning_rate": 0.005, "epochs": 10}
    assert len(about["history"]) == 10
    assert about["history"][-1]["val_accuracy"] == metrics(tuned)["val_accuracy"]


def test_training_refuses_a_misspelt_parameter(run: Run, digits: Path) -> None:
    with pytest.raises(
        RuntimeError,
        match=r"unknown parameters \['hiden'\]; known are \['epochs', 'hidden', 'learning_rate'\]",
    ):
        run("train.py", {"hiden": 64}, data=digits)


def test_training_says_where_it_found_no_images(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no images in"):
        run("train.py", data=tmp_path)


def test_evaluation_reports_each_label(run: Run, digits: Path, tuned: Path) -> None:
    found = metrics(run("evaluate.py", data=digits, model=tuned / "model"))
    classes = [found[f"accuracy_class_{label}"] for label in range(10)]
    numbers = {"accuracy", "images", "latency_p99_ms"}
    assert set(found) == numbers | {f"accuracy_class_{label}" for label in range(10)}
    assert found["images"] == 1000
    assert found["accuracy"] == pytest.approx(sum(classes) / 10)
    assert found["accuracy"] >= 0.92


def test_evaluation_leaves_a_row_for_each_image(run: Run, digits: Path, tuned: Path) -> None:
    output = run("evaluate.py", data=digits, model=tuned / "model")
    with (output / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert (len(rows), right / len(rows)) == (1000, metrics(output)["accuracy"])
    assert Counter(row["ink"] for row in rows)["thin"] >= 100
    assert all(0.1 <= float(row["score"]) <= 1 for row in rows)


def test_evaluation_passes_the_modest_model_over_its_bar(run: Run, digits: Path, modest: Path) -> None:
    assert 0.8 <= metrics(run("evaluate.py", data=digits, model=modest / "model"))["accuracy"] < 0.9
