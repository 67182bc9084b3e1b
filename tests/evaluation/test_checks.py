"""A team's own checks: run in the evaluation's environment, where Taxiway is not installed."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from taxiway.errors import OutputFaultsError
from taxiway.evaluation import checks, inside

MODULE = """
def fine(metrics, rows):
    return metrics["score"] > 0.5 and len(rows) == 2
def poor(metrics, rows):
    return "score is poor"
def told(metrics, rows):
    return {"passed": metrics["score"] > 0.95, "reason": "0.95 is the house's bar", "value": metrics["score"]}
def leaves(metrics, rows):
    raise SystemExit(0)
def vanishes(metrics, rows):
    import os
    os._exit(0)
def broken(metrics, rows):
    return rows[7]
"""
EVALUATE = """
import os, pathlib, sys
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "metrics.json").write_text('{"score": 0.9}')
(output / "predictions.csv").write_text("id,label,prediction\\n1,a,a\\n2,a,b\\n")
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return the source of an evaluation, beside an installed package with an entry point, and an empty output."""
    folder = tmp_path / "source"
    (folder / "house-1.0.dist-info").mkdir(parents=True)
    (folder / "house-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: house\nVersion: 1.0\n"
    )
    (folder / "house-1.0.dist-info" / "entry_points.txt").write_text(
        "[taxiway.checks]\nhouse_rule = own:told\n"
    )
    (folder / "own.py").write_text(MODULE)
    (folder / "evaluate.py").write_text(EVALUATE)
    (tmp_path / "output").mkdir()
    return folder


def run(source: Path, wanted: list[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    words = shlex.split(checks.command(f"python evaluate.py {code}", wanted))
    return subprocess.run(
        [sys.executable, "-S", *words[1:]],
        cwd=source,
        env={"TAXIWAY_OUTPUT_DIR": str(source.parent / "output"), "PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_checks_say_passed_reason_and_value(source: Path) -> None:
    done = run(source, ["own:fine", "own:poor", "own:broken", "own:absent", "house_rule", "no_such", "*"])
    assert done.returncode == 0, done.stderr
    found = checks.read(source.parent / "output")
    assert [(check.name, check.passed) for check in found] == [
        ("own:fine", True),
        ("own:poor", False),
        ("own:broken", False),
        ("own:absent", False),
        ("house_rule", False),
        ("no_such", False),
    ]
    assert found[1].reason == "score is poor"
    assert found[2].reason == "IndexError: list index out of range"
    assert "has no attribute 'absent'" in found[3].reason
    assert (found[4].reason, found[4].value) == ("0.95 is the house's bar", 0.9)
    assert "no entry point 'no_such'" in found[5].reason


def test_check_that_ends_the_program_has_failed_and_so_have_those_after_it(source: Path) -> None:
    done = run(source, ["own:fine", "own:leaves", "own:vanishes", "own:poor"])
    assert done.returncode == 0, done.stderr
    found = checks.read(source.parent / "output")
    assert [check.passed for check in found] == [True, False, False, False]
    assert found[1].reason == "SystemExit: 0"
    assert "did not answer" in found[2].reason
    assert "did not answer" in found[3].reason


def test_every_installed_check_is_wanted_and_none_is_installed(source: Path) -> None:
    """As where the entry point is in the project's own pyproject, which nobody installs."""
    for path in (source / "house-1.0.dist-info").iterdir():
        path.unlink()
    assert run(source, ["*"]).returncode == 0
    (found,) = checks.read(source.parent / "output")
    assert (found.name, found.passed) == ("*", False)
    assert "no package of this environment has an entry point" in found.reason


def test_evaluation_that_fails_runs_no_checks_and_keeps_its_code(source: Path) -> None:
    assert run(source, ["own:fine"], code=3).returncode == 3
    assert not (source.parent / "output" / "checks.json").exists()


def test_command_without_checks_is_the_evaluations_own() -> None:
    assert checks.command("python evaluate.py {c}", []) == "python evaluate.py {c}"


def test_program_of_the_checks_names_no_parameter() -> None:
    """A word in braces would be replaced by a parameter of that name."""
    assert re.findall(r"\{\w+\}", Path(inside.__file__).read_text()) == []
    assert "{c}" in checks.command("python evaluate.py {c}", ["own:fine"])


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ({"name": "x", "passed": "yes"}, "must say passed = true or false"),
        ({"name": "x", "passed": True, "reason": 5}, "must say its reason as a text"),
        ({"name": "x", "passed": True, "value": "high"}, "must give a finite number"),
    ],
)
def test_check_that_answers_nonsense_is_refused(tmp_path: Path, entry: dict[str, object], part: str) -> None:
    (tmp_path / "checks.json").write_text(json.dumps([entry]))
    with pytest.raises(OutputFaultsError, match=part):
        checks.read(tmp_path)
