"""The command `taxiway`: questions that a person asks at a shell. Arguments become values here; no work is done."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from taxiway import lineage, reproduction
from taxiway.bisection import bisect
from taxiway.errors import TaxiwayError
from taxiway.lineage import text
from taxiway.settings import Settings

FORMATS = ("text", "json", "svg", "png")
WHAT = """\
what to explain:
  digits@v3                          a dataset version
  visual_recognition/7               a model version
  visual_recognition                 an endpoint
  visual_recognition.training@1f2e3d a code package, with the beginning of its digest
  0f9d…                              an MLflow run, or the x-request-id of an answer
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 1 where Taxiway refused, with the reason on stderr."""
    given = _parser().parse_args(arguments)
    try:
        answer = given.answer(given, Settings.from_environment())
    except TaxiwayError as error:
        sys.stderr.write(f"taxiway: {error}\n")
        return 1
    sys.stdout.write(f"{answer}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taxiway", description="Ask Taxiway about models, data and endpoints."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_explain(commands)
    _add_bundle(commands)
    _add_bisect(commands)
    return parser


def _add_explain(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    explain = commands.add_parser(
        "explain",
        help="where something comes from, and what became of it",
        epilog=WHAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("what", help="a name; see below")
    explain.add_argument("--format", choices=FORMATS, default="text", help="how to show it (default: text)")
    explain.add_argument(
        "--output", type=Path, help="file of a picture (default: lineage.svg or lineage.png)"
    )
    explain.add_argument(
        "--serving", action="store_true", help="only the endpoints that serve what it went into"
    )
    explain.add_argument(
        "--diff", action="store_true", help="how the dirty tree of a model's code differed from its commit"
    )
    explain.add_argument("--rebuild", action="store_true", help="make the index anew first")
    explain.set_defaults(answer=_explain)


def _add_bundle(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    made = commands.add_parser("bundle", help="one file with a model and all that it was made of")
    made.add_argument("model", help="a model version or alias, such as visual_recognition/7")
    made.add_argument("--into", type=Path, default=Path(), help="folder to write it to (default: this one)")
    made.add_argument("--workflow", type=Path, help="DAG file to take along")
    made.set_defaults(answer=_bundle)


def _add_bisect(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    found = commands.add_parser("bisect", help="what made a version worse than another: code, data, …")
    found.add_argument("handle", help="the handle, such as visual_recognition")
    found.add_argument("good", help="a version or alias")
    found.add_argument("bad", help="a version or alias")
    found.add_argument("--metric", required=True, help="a number that training leaves in metrics.json")
    found.add_argument("--format", choices=("text", "json"), default="text", help="how to show it")
    found.set_defaults(answer=_bisect)


def _explain(given: argparse.Namespace, settings: Settings) -> str:
    if given.rebuild:
        lineage.rebuild(settings)
    if given.diff:
        handle, _, version = given.what.partition("/")
        return "\n".join(lineage.differences(handle, version, settings).values())
    if given.serving:
        found = lineage.serving(given.what, settings)
        as_json = json.dumps([one.to_json() for one in found], indent=2)
        return as_json if given.format == "json" else text.render_serving(given.what, found)
    explanation = lineage.explain(given.what, settings)
    if given.format == "json":
        return json.dumps(explanation.to_json(), indent=2)
    if given.format == "text":
        return text.render(explanation)
    return str(lineage.plot(explanation, given.output or Path(f"lineage.{given.format}")))


def _bundle(given: argparse.Namespace, settings: Settings) -> str:
    handle, _, version = given.model.partition("/")
    made = reproduction.bundle(handle, version, settings, into=given.into, workflow=given.workflow, log=_tell)
    return str(made)


def _bisect(given: argparse.Namespace, settings: Settings) -> str:
    found = bisect(given.handle, given.good, given.bad, settings, metric=given.metric, log=_tell)
    return json.dumps(found.to_json(), indent=2) if given.format == "json" else str(found)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
