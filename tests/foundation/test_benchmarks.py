"""How a benchmark ends: figures beside bars, one line of JSON, and an exit code."""

import json

import pytest

from benchmarks.imports import operator_imports
from benchmarks.report import Figure, report


@pytest.mark.parametrize(
    ("value", "done", "code"),
    [(4.9, 21.0, 0), (5.0, 20.0, 0), (5.1, 21.0, 1), (4.9, 19.9, 1), (4.9, None, 1)],
    ids=["below", "at", "above", "too little", "never"],
)
def test_report_fails_where_a_bar_is_missed(
    value: float, done: float | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = [
        Figure(name="cost, %", value=value, bar=5.0),
        Figure(name="done a second", value=done, least=20.0),
        Figure(name="base, s", value=1.0),
    ]
    assert report("imports", figures) == code
    *table, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == {
        "name": "imports",
        "figures": {"cost, %": value, "done a second": done, "base, s": 1.0},
        "bars": {"cost, %": 5.0},
        "least": {"done a second": 20.0},
        "held": code == 0,
    }
    assert ("MISSED" in "\n".join(table)) is (code == 1)


def test_imports_measures_every_operator() -> None:
    statements = operator_imports().split("; ")
    assert "import taxiway.operators.train" in statements
    assert len(statements) >= 12
