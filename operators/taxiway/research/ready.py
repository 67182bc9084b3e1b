"""What blocks packaging: read from a project's folder, the data repository and MLflow.

Requirements are resolved, and what came of it is kept for packaging; nothing else is changed, and nothing is run.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import takewhile
from pathlib import Path
from typing import Any

from taxiway import checkout as checkouts
from taxiway import project as projects
from taxiway.arguments import typed
from taxiway.checkout import Checkout
from taxiway.datasets import facts, get
from taxiway.datasets.profile import schema_of
from taxiway.errors import ArtifactChangedError, ProjectFaultsError, TaxiwayError, ToolFailedError
from taxiway.packaging.package import CodePackage, preview
from taxiway.project import Project
from taxiway.registry import libraries, tracking
from taxiway.registry.tracking import Run
from taxiway.research.cells import here
from taxiway.settings import Settings

STABLE_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What stands between a project and its deployment; in a notebook it shows itself.

    Attributes:
        project: Its folder.
        handle: Its handle, or an empty text where it has none.
        blockers: What blocks it, each with the next step; none means that it is ready.
        stable_runs: How many of the newest trainings had the same code and the same columns of data.
        wanted_runs: How many make it stable.
    """

    project: str
    handle: str
    blockers: tuple[str, ...]
    stable_runs: int
    wanted_runs: int

    @property
    def is_ready(self) -> bool:
        """Whether nothing blocks it."""
        return not self.blockers

    def __str__(self) -> str:
        """Return it as text."""
        return "\n".join([self._said, *(f"  - {blocker}" for blocker in self.blockers)])

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(blocker)}</li>" for blocker in self.blockers)
        return f"<p><strong>{escape(self._said)}</strong></p><ul>{items}</ul>"

    @property
    def _said(self) -> str:
        if self.is_ready:
            return f"{self.handle} is ready: code and schema are the same for {self.stable_runs} runs"
        return f"{self.handle or self.project} is not ready, {len(self.blockers)} thing(s) block it:"


@typed
def readiness(project: str | Path, *, runs: int = STABLE_RUNS, settings: Settings | None = None) -> Readiness:
    """Return what blocks a project from being packaged and deployed, all at once.

    Args:
        project: Its folder.
        runs: Trainings in a row with the same code and the same columns of data that count as stable.
        settings: Where everything is; None reads the environment.

    Raises:
        InvalidSpecError: If there is no such folder.
        TransportError: If MLflow does not answer.
    """
    where = here(settings)
    found = checkouts.locate(str(Path(project).resolve()), where)
    project_read, faults = _read(found)
    previews, unpackable = _previews(project_read, where)
    table = _table(found.root)
    handle = table.get("handle", "") if isinstance(table.get("handle", ""), str) else ""
    trained = _trainings(handle, where) if handle else ()
    same = _stable(trained, where)
    blockers = [
        *faults,
        *unpackable,
        *_uncommitted(found),
        *_bars(table),
        *_data(trained, previews.get("training")),
        *([_unstable(same, runs)] if trained and same < runs else []),
    ]
    return Readiness(
        project=str(found.root), handle=handle, blockers=tuple(blockers), stable_runs=same, wanted_runs=runs
    )


def _table(root: Path) -> Mapping[str, Any]:
    """Return `[tool.taxiway]` as far as it can be read; what is wrong with it is said by the contract."""
    try:
        document = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        table = document["tool"]["taxiway"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return table if isinstance(table, dict) else {}


def _read(found: Checkout) -> tuple[Project | None, tuple[str, ...]]:
    """Return the project if it keeps the contract, or else every fault."""
    try:
        return projects.read(found), ()
    except ProjectFaultsError as error:
        return None, error.faults


def _previews(project: Project | None, settings: Settings) -> tuple[dict[str, CodePackage], list[str]]:
    """Return what each component would be packaged as, and why the others cannot be."""
    if project is None:
        return {}, []
    libraries.bring(settings)
    made: dict[str, CodePackage] = {}
    faults: dict[str, list[str]] = {}
    for kind, component in project.components.items():
        try:
            made[kind] = preview(project, component, settings)
        except (ToolFailedError, ArtifactChangedError) as error:
            faults.setdefault(str(error), []).append(kind)
    return made, [f"{', '.join(kinds)} cannot be packaged: {why}" for why, kinds in faults.items()]


def _uncommitted(found: Checkout) -> list[str]:
    if found.commit is None:
        return ["the code is in no Git commit; commit it, or no model of it is ever promoted"]
    return ["the code differs from its commit; commit it"] if found.is_dirty else []


def _bars(table: Mapping[str, Any]) -> list[str]:
    held = table.get("evaluation")
    if not isinstance(held, dict):
        return ["there is no evaluation; add [tool.taxiway.evaluation] with a command and bars"]
    names = (
        "minimum",
        "maximum",
        "compare",
        "slice_minimum",
        "class_minimum",
        "calibration_at_most",
        "checks",
    )
    if any(held.get(name) for name in names):
        return []
    return ["the evaluation has no bars; set minimum or compare in [tool.taxiway.evaluation]"]


def _data(trained: Sequence[Run], training: CodePackage | None) -> list[str]:
    if not trained:
        return ["nothing was trained on a dataset version; put the data, and train on it"]
    if training and _code(trained[0]) != training.digest:
        return ["the newest training ran other code than lies here; train this"]
    return []


def _unstable(same: int, runs: int) -> str:
    return f"code or schema changed within the last {runs} trainings, the newest {same} agree; train until {runs} do"


def _trainings(handle: str, settings: Settings) -> tuple[Run, ...]:
    """Return the finished trainings of a handle on dataset versions, the newest first; a search is one of them."""
    experiment = tracking.find_experiment(handle, settings)
    if experiment is None:
        return ()
    found = tracking.find_runs(experiment, {"taxiway.kind": "training"}, settings)
    done = (run for run in found if run.status == "FINISHED" and run.tags.get("taxiway.dataset"))
    return tuple({run.tags.get("taxiway.study", run.run_id): run for run in reversed(tuple(done))}.values())[
        ::-1
    ]


def _stable(trained: Sequence[Run], settings: Settings) -> int:
    """Return how many of the newest runs share code and schema with the newest one."""
    shapes: dict[str, Any] = {}

    def made_of(run: Run) -> tuple[str, Any]:
        tag = run.tags["taxiway.dataset"]
        if tag not in shapes:
            shapes[tag] = _schema(tag, settings)
        return _code(run), shapes[tag]

    return len(list(takewhile(lambda run: made_of(run) == made_of(trained[0]), trained)))


def _code(run: Run) -> str:
    return run.tags.get("taxiway.training.digest", "")


def _schema(tag: str, settings: Settings) -> Any:
    """Return the schema of a dataset version; one of which nobody knows any is only like itself."""
    name, _, revision = tag.partition("@")
    try:
        profile = facts(get(name, revision, settings), settings).profile
    except TaxiwayError:
        return tag
    return schema_of(profile) or tag
