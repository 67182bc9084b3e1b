"""Users' own comparisons, installed as packages install them: by an entry point."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.evidence.matching import Response
from taxiway_serving.shadow import functions

CODE = """
def boxes_overlap(stable, candidate):
    return stable.json()["boxes"] == candidate.json()["boxes"]

limit = 7
"""
BROKEN = "raise RuntimeError('no GPU')"
ENTRY_POINTS = """
[taxiway.comparisons]
boxes = their_comparisons:boxes_overlap
limit = their_comparisons:limit
gone = their_comparisons:removed
broken = their_broken_comparisons:anything
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "their_comparisons.py").write_text(CODE)
    (tmp_path / "their_broken_comparisons.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_comparisons", raising=False)


def boxes(*numbers: int) -> Response:
    return Response(status=200, content_type="application/json", body=b'{"boxes": %a}' % list(numbers))


def test_installed_comparison_is_found_and_used() -> None:
    assert {"boxes", "limit"} <= set(functions.installed())
    assert functions.check_installed("boxes") == "boxes"
    agree = functions.load("boxes")
    assert agree(boxes(1), boxes(1))
    assert not agree(boxes(1), boxes(2))


def test_looking_for_a_comparison_imports_nothing() -> None:
    functions.installed()
    functions.check_installed("broken")
    assert "their_comparisons" not in sys.modules


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nobody", "no installed package .* there are: .*boxes"),
        ("limit", "must be a function, got 7"),
        ("gone", "cannot be imported: AttributeError"),
        ("broken", "cannot be imported: RuntimeError: no GPU"),
    ],
)
def test_comparison_that_is_none_is_refused(name: str, why: str) -> None:
    with pytest.raises(InvalidSpecError, match=why):
        functions.load(name)


@pytest.mark.parametrize("check", [functions.check_installed, functions.load])
def test_comparison_that_is_not_installed_is_refused_before_it_is_needed(
    check: Callable[[str], object],
) -> None:
    with pytest.raises(InvalidSpecError, match=r"taxiway\.comparisons"):
        check("nobody")
