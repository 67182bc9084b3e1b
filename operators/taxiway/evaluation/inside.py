"""Runs an evaluation and then the team's own checks, inside the evaluation's environment.

Its text is handed to that environment's Python, where Taxiway is not installed: the standard library is all it has, and
no word in braces may stand in it, for that is how a command names a parameter. Arguments: the number of checks, the
checks, then the evaluation's command.
"""

import csv
import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any

GROUP = "taxiway.checks"
Check = Callable[[dict[str, Any], list[dict[str, Any]]], Any]


def main() -> None:
    """Run the command, then each check; leave `checks.json` beside what the command left."""
    count = int(sys.argv[1])
    wanted, command = sys.argv[2 : 2 + count], sys.argv[2 + count :]
    if command[0] in ("python", "python3"):
        command[0] = sys.executable
    ended = subprocess.run(command, check=False).returncode
    if ended:
        sys.exit(ended if ended > 0 else 128 - ended)
    output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    rows = read_rows(output)
    found = dict(find(wanted))
    answers = {name: unanswered(name) for name in found}
    for name, load in found.items():
        # A check may end this program: what is written before is what it then said.
        leave(output, answers)
        answers[name] = run(name, load, metrics, rows)
    leave(output, answers)


def leave(output: pathlib.Path, answers: dict[str, dict[str, Any]]) -> None:
    """Write what the checks have said so far."""
    text = json.dumps(list(answers.values()), default=float)
    (output / "checks.json").write_text(text, encoding="utf-8")


def read_rows(output: pathlib.Path) -> list[dict[str, Any]]:
    """Return the rows of the predictions as plain tables; none where there is no file."""
    if (output / "predictions.csv").is_file():
        with (output / "predictions.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    if (output / "predictions.jsonl").is_file():
        lines = (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    if (output / "predictions.parquet").is_file():
        parquet: Any = importlib.import_module("pyarrow.parquet")
        return list(parquet.read_table(output / "predictions.parquet").to_pylist())
    return []


def find(wanted: list[str]) -> Iterator[tuple[str, Callable[[], Check]]]:
    """Give name and loader of each check: `module:function`, the name of an entry point, or `*` for all of them."""
    installed = {point.name: point.load for point in sorted(entry_points(group=GROUP))}
    for name in wanted:
        if name == "*":
            yield from installed.items() or [("*", none_installed)]
        else:
            yield name, installed.get(name) or functools.partial(named, name)


def none_installed() -> Check:
    """Refuse: who asks for every check that is installed expects one."""
    raise LookupError("no package of this environment has an entry point in the group " + GROUP)


def unanswered(name: str) -> dict[str, Any]:
    """Return what is said of a check that ends the program before it answers."""
    return {"name": name, "passed": False, "reason": "it did not answer: the program ended while it ran"}


def named(name: str) -> Check:
    """Import the function that `module:function` names."""
    module, colon, function = name.partition(":")
    if not colon:
        raise LookupError("no entry point " + repr(name) + " in the group " + GROUP)
    found: Check = getattr(importlib.import_module(module), function)
    return found


def run(
    name: str, load: Callable[[], Check], metrics: dict[str, Any], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what a check said; one that raises has failed."""
    try:
        said = load()(metrics, rows)
    except BaseException as exc:  # noqa: BLE001 - whatever a team's code raises, an exit too, is that check's answer
        traceback.print_exc()
        return {"name": name, "passed": False, "reason": type(exc).__name__ + ": " + str(exc)}
    if isinstance(said, dict):
        return dict(said, name=name, passed=bool(said.get("passed")))
    if isinstance(said, str):
        return {"name": name, "passed": not said, "reason": said}
    return {"name": name, "passed": said is None or bool(said)}


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path.cwd()))
    main()
