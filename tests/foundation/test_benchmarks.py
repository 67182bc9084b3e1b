"""How a benchmark ends: figures beside bars, one line of JSON, and an exit code."""

import json

import pytest

from benchmarks.imports import operator_imports
from benchmarks.report import Figure, report


@pytest.mark.parametrize(("value", "code"), [(4.9, 0), (5.0, 0), (5.1, 1)], ids=["below", "at", "above"])
def test_report_fails_where_a_bar_is_missed(
    value: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = [Figure(name="cost, %", value=value, bar=5.0), Figure(name="base, s", value=1.0)]
    assert report("imports", figures) == code
    *table, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == {
        "name": "imports",
        "figures": {"cost, %": value, "base, s": 1.0},
        "bars": {"cost, %": 5.0},
        "held": code == 0,
    }
    assert ("MISSED" in "\n".join(table)) is (code == 1)


def test_imports_measures_every_operator() -> None:
    statements = operator_imports().split("; ")
    assert "import taxiway.operators.train" in statements
    assert len(statements) >= 12
