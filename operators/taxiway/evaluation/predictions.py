"""What an evaluation component may leave beside its metrics: one row for each held-out item. Nothing is judged."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from taxiway.errors import OutputFaultsError

NAMES = ("predictions.csv", "predictions.jsonl", "predictions.parquet")
REQUIRED = ("id", "label", "prediction")
ACCURACY = "accuracy"
SCORE, PROBABILITY = "score", "probability_"
NOTHING = "(none)"
_SHOWN_FAULTS = 5
_ROUNDED = 0.0015


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Rows of held-out items, column by column.

    Attributes:
        ids: What names an item; the same for every version that is measured on the same data.
        labels: The truth, as text.
        predictions: The model's answer, as text.
        confidences: Probability that the model gave its answer, in [0, 1], or None where it left none.
        columns: Every other column: slices as text, values that may be compared as text, too.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    predictions: tuple[str, ...]
    confidences: tuple[float, ...] | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def correct(self) -> tuple[bool, ...]:
        """Whether each answer is the truth."""
        return tuple(one == other for one, other in zip(self.labels, self.predictions, strict=True))

    def __len__(self) -> int:
        """Return how many items there are."""
        return len(self.ids)


def read(folder: Path) -> Predictions | None:
    """Return the predictions that a component left in a folder, or None where it left none.

    Raises:
        OutputFaultsError: If there are several files, or one that breaks the contract; every fault is named.
    """
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if not found:
        return None
    if len(found) > 1:
        raise OutputFaultsError((f"leave one of {', '.join(path.name for path in found)}",), "predictions")
    try:
        rows = list(_rows(found[0]))
    except (ValueError, OSError, csv.Error) as exc:
        raise OutputFaultsError((f"{found[0].name} cannot be read: {exc}",), "predictions") from exc
    return from_rows(rows, found[0].name)


def check_against(found: Predictions, metrics: Mapping[str, float]) -> None:
    """Refuse predictions that are not what the metrics were measured on: the two must give one accuracy.

    Raises:
        OutputFaultsError: If they differ by more than half an item, and by more than a rounded number does.
    """
    said = metrics.get(ACCURACY)
    own = sum(found.correct) / len(found)
    if said is None or abs(own - said) <= max(0.5 / len(found), _ROUNDED):
        return
    pairs = zip(found.labels, found.predictions, strict=True)
    wrong = next(((label, answer) for label, answer in pairs if label != answer), None)
    example = f"; {wrong[1]!r} is not {wrong[0]!r}" if wrong else ""
    fault = (
        f"metrics.json says {ACCURACY} {said:.4g}, the {len(found):,} predictions give {own:.4g}: leave a row for each "
        f"item that was measured, whose answer is right where it is the text of its label{example}"
    )
    raise OutputFaultsError((fault,), "predictions")


def from_rows(rows: Iterable[Mapping[str, Any]], where: str = "predictions") -> Predictions:
    """Return rows as predictions.

    Raises:
        OutputFaultsError: If a column is missing, an id comes twice, or a probability is none; all faults are named.
    """
    taken = list(rows)
    faults = _faults(taken)
    if faults:
        raise OutputFaultsError(tuple(f"{where}: {fault}" for fault in faults), "predictions")
    names = [name for name in taken[0] if name not in REQUIRED]
    return Predictions(
        ids=tuple(_text(row["id"]) for row in taken),
        labels=tuple(_text(row["label"]) for row in taken),
        predictions=tuple(_text(row["prediction"]) for row in taken),
        confidences=tuple(_confidence(row) for row in taken) if _has_confidence(taken[0]) else None,
        columns={name: tuple(_text(row.get(name)) for row in taken) for name in names},
    )


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        from pyarrow import parquet  # type: ignore[import-untyped]

        rows: list[Mapping[str, Any]] = parquet.read_table(path).to_pylist()
        return rows
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        return [_object(json.loads(line)) for line in file if line.strip()]


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"a line must be an object, got {value!r:.80}")  # noqa: TRY004 - the file's fault, as any other
    return value


def _faults(rows: list[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["it holds no items"]
    missing = [name for name in REQUIRED if name not in rows[0]]
    if missing:
        return [f"the column {name} is missing" for name in missing]
    seen: set[str] = set()
    faults = []
    for number, row in enumerate(rows, 1):
        faults += [f"row {number}: {fault}" for fault in _row_faults(row, seen)]
        seen.add(_text(row["id"]))
    more = len(faults) - _SHOWN_FAULTS
    return faults[:_SHOWN_FAULTS] + ([f"and {more} more faults"] if more > 0 else [])


def _row_faults(row: Mapping[str, Any], seen: set[str]) -> list[str]:
    faults = [f"{name} is empty" for name in REQUIRED if _text(row.get(name)) == NOTHING]
    if _text(row["id"]) in seen:
        faults.append(f"id {row['id']!r} comes a second time")
    for name, value in row.items():
        if _is_probability(name) and not _is_share(value):
            faults.append(f"{name} must be in [0, 1], got {value!r}")
    own = f"{PROBABILITY}{_text(row['prediction'])}"
    if SCORE not in row and own not in row and any(_is_probability(name) for name in row):
        faults.append(f"the prediction {row['prediction']!r} has no column {own}")
    return faults


def _is_probability(name: str | None) -> bool:
    return name is not None and (name == SCORE or name.startswith(PROBABILITY))


def _is_share(value: Any) -> bool:
    try:
        return isfinite(float(value)) and 0 <= float(value) <= 1
    except (TypeError, ValueError):
        return False


def _has_confidence(row: Mapping[str, Any]) -> bool:
    return any(_is_probability(name) for name in row)


def _confidence(row: Mapping[str, Any]) -> float:
    own = f"{PROBABILITY}{_text(row['prediction'])}"
    return float(row[SCORE] if SCORE in row else row[own])


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return NOTHING if value is None or value == "" else str(value)
