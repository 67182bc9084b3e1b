"""Which models of a search are kept: those of the trials that no other beats, as results of their recipes in MLflow.

While a search runs they lie on the host that trained them; a worker that ends, after a kill as well, publishes what is
still worth it, and removes the rest.
"""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from taxiway import training
from taxiway.registry import tracking
from taxiway.tools import exclusive, remove
from taxiway.tuning import study
from taxiway.tuning.bench import Bench
from taxiway.tuning.choice import front_of

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.trial import FrozenTrial


def tidy(bench: Bench, trials: "Iterable[FrozenTrial]") -> None:
    """Remove from this host what finished trials left that others beat."""
    with exclusive(bench.settings.home / "studies" / f"{bench.plan.study}.keeping"):
        _tidy(bench, trials)


def _tidy(bench: Bench, trials: "Iterable[FrozenTrial]") -> None:
    done = [each for each in trials if each.state.is_finished()]
    worth = {each.number for each in front_of(study.outcomes(done, bench.goal))}
    for each in done:
        if each.number not in worth and study.RUN in each.user_attrs:
            remove(_folder(bench, each))


def publish(bench: Bench, trials: "Iterable[FrozenTrial]") -> None:
    """Put the models that are worth it and lie on this host into MLflow, and leave nothing of any trial here.

    A training with the parameters of one of them then finds it done, on any host.
    """
    done = [each for each in trials if each.state.is_finished() and study.RUN in each.user_attrs]
    with exclusive(bench.settings.home / "studies" / f"{bench.plan.study}.keeping"):
        _tidy(bench, done)
        for each in done:
            output = _folder(bench, each) / "output"
            if output.exists():
                run = tracking.get_run(each.user_attrs[study.RUN], bench.settings)
                recipe = dataclasses.replace(bench.base, params={**bench.base.params, **each.params})
                training.publish(recipe, run, output, bench.settings)
                remove(output.parent)


def _folder(bench: Bench, each: "FrozenTrial") -> "Path":
    return bench.settings.home / "runs" / str(each.user_attrs[study.RUN])
