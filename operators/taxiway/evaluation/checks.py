"""The team's own checks: how their command is made, and how what they left is read. They run in `inside.py`."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taxiway.errors import OutputFaultsError
from taxiway.evaluation import inside
from taxiway.evaluation.values import Check
from taxiway.project.plain import is_number

FILE = "checks.json"


def command(own: str, checks: Sequence[str]) -> str:
    """Return the command that runs an evaluation and then its checks; the evaluation's own where there is none."""
    if not checks:
        return own
    text = Path(inside.__file__).read_text(encoding="utf-8")
    return shlex.join(["python", "-c", text, str(len(checks)), *checks, *shlex.split(own)])


def read(folder: Path) -> tuple[Check, ...]:
    """Return what the checks said; none where there were none.

    Raises:
        OutputFaultsError: If a check answers with something else than `{passed, reason, value}`.
    """
    path = folder / FILE
    if not path.is_file():
        return ()
    found = json.loads(path.read_text(encoding="utf-8"))
    faults = [fault for entry in found for fault in _faults(entry)]
    if faults:
        raise OutputFaultsError(tuple(faults), "checks")
    return tuple(_check(entry) for entry in found)


def _faults(entry: Any) -> list[str]:
    name = entry.get("name", "?")
    faults = []
    if not isinstance(entry.get("passed"), bool):
        faults.append(f"check {name} must say passed = true or false, got {entry.get('passed')!r}")
    if not isinstance(entry.get("reason", ""), str):
        faults.append(f"check {name} must say its reason as a text, got {entry['reason']!r}")
    if entry.get("value") is not None and not is_number(entry["value"]):
        faults.append(f"check {name} must give a finite number as its value, got {entry['value']!r}")
    return faults


def _check(entry: Any) -> Check:
    value = entry.get("value")
    return Check(
        name=re.sub(r"\s+", " ", entry["name"]),
        passed=entry["passed"],
        reason=entry.get("reason", ""),
        value=None if value is None else float(value),
    )
