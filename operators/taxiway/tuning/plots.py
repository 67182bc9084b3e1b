"""Pictures and the table of a study, as artifacts of its MLflow run. The pictures hold all that they show."""

import csv
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.registry import tracking
from taxiway.settings import Settings
from taxiway.tuning import study
from taxiway.tuning.goal import Goal
from taxiway.tuning.plan import StudyPlan

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

ARTIFACTS = "study"
DOTS_PER_INCH = 120
FEWEST_TRIALS = 2


def upload(
    found: "optuna.Study", plan: StudyPlan, goal: Goal, settings: Settings, log: Callable[[str], None]
) -> None:
    """Draw a study and put pictures and table into its MLflow run, in place of earlier ones."""
    with tempfile.TemporaryDirectory(prefix="taxiway-study-") as name:
        folder = Path(name)
        write_table(found.get_trials(deepcopy=False), goal, folder)
        draw(found, goal, folder, log)
        tracking.upload(plan.run_id or "", folder, ARTIFACTS, settings)


def write_table(trials: "list[FrozenTrial]", goal: Goal, folder: Path) -> None:
    """Write every trial as a row of `trials.csv` and an object of `trials.json`."""
    rows = [_row(each, goal) for each in trials]
    (folder / "trials.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    with (folder / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def draw(found: "optuna.Study", goal: Goal, folder: Path, log: Callable[[str], None]) -> None:
    """Write `history.png`, `importance.png` and `parallel.png`, a set for each objective where there are several."""
    ended = [each for each in found.get_trials(deepcopy=False) if each.state.name == "COMPLETE"]
    if len(ended) < FEWEST_TRIALS:
        log(f"a study of {len(ended)} trial(s) has no pictures yet")
        return
    for at, objective in enumerate(goal.objectives):
        several = len(goal.objectives) > 1
        options: dict[str, Any] = {"target_name": objective.metric}
        if several:
            options["target"] = lambda each, at=at: each.values[at]
        for name, picture in _pictures(found, options, is_varied=len(_values(ended, at)) > 1).items():
            file = folder / (f"{name}-{objective.metric}.png" if several else f"{name}.png")
            _save(picture, file)


def _pictures(
    found: "optuna.Study", options: dict[str, Any], *, is_varied: bool
) -> dict[str, Callable[[], Any]]:
    from optuna.visualization import matplotlib as visual

    drawn: dict[str, Callable[[], Any]] = {
        "history": lambda: visual.plot_optimization_history(found, **options),
        "parallel": lambda: visual.plot_parallel_coordinate(found, **options),
    }
    # Where all trials measured the same nothing was important.
    if is_varied:
        drawn["importance"] = lambda: visual.plot_param_importances(found, **options)
    return drawn


def _values(ended: "list[FrozenTrial]", at: int) -> set[float]:
    return {each.values[at] for each in ended}


def _save(picture: Callable[[], Any], file: Path) -> None:
    with _headless() as plt:
        axes = picture()
        axes.figure.savefig(file, dpi=DOTS_PER_INCH, bbox_inches="tight")
        plt.close("all")


@contextmanager
def _headless() -> Iterator[Any]:
    """Give pyplot without a display; Optuna warns that its pictures are experimental, and the style is not kept."""
    import matplotlib
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)
        pyplot.switch_backend("agg")
        yield pyplot


def _row(each: "FrozenTrial", goal: Goal) -> dict[str, Any]:
    names = [objective.metric for objective in goal.objectives]
    row: dict[str, Any] = {"number": each.number, "state": each.state.name.lower()}
    row |= dict(zip(names, each.values or [None] * len(names), strict=False))
    row |= {f"params.{name}": value for name, value in each.params.items()}
    row |= {f"breaks {name} by": max(0.0, value) for name, value in each.constraints.items()}
    seconds = each.duration.total_seconds() if each.duration else None
    return row | {"seconds": seconds, "run_id": each.user_attrs.get(study.RUN)}
