"""What every worker of a study must agree on, as JSON between tasks. Values only."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import InvalidSpecError
from taxiway.registry import packages
from taxiway.registry.recipe import Recipe
from taxiway.settings import Settings
from taxiway.tools import digest
from taxiway.tuning.goal import Goal


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a search gives up.

    Attributes:
        retries: How often a trial that failed is tried again, with the same parameters.
        patience: Finished trials without improvement after which the search ends, or None.
        timeout_s: Seconds after which no trial is begun, or None.
    """

    retries: int = 1
    patience: int | None = None
    timeout_s: float | None = None

    def faults(self) -> tuple[str, ...]:
        """Return what is wrong with them."""
        holds = {
            f"retries must be 0 or more, got {self.retries}": self.retries >= 0,
            f"patience must be 1 or more, got {self.patience}": self.patience is None or self.patience >= 1,
            f"timeout_s must be above 0, got {self.timeout_s}": self.timeout_s is None or self.timeout_s > 0,
        }
        return tuple(fault for fault, is_fit in holds.items() if not is_fit)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Limits":
        """Read a mapping; numbers may be texts, as templates make them.

        Raises:
            InvalidSpecError: If it has an unknown key, or something that is no number.
        """
        kinds: dict[str, Callable[[Any], float]] = {"retries": int, "patience": int, "timeout_s": float}
        unknown = tuple(f"limits has an unknown key {key!r}" for key in sorted(set(data) - set(kinds)))
        if unknown:
            raise InvalidSpecError(unknown, "tuning")
        given = {key: value for key, value in data.items() if value not in (None, "")}
        try:
            read: dict[str, Any] = {key: kinds[key](value) for key, value in given.items()}
        except (TypeError, ValueError) as exc:
            raise InvalidSpecError((f"limits must be numbers: {exc}",), "tuning") from exc
        return cls(**read)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """A study that is open.

    Attributes:
        study: Name of the study; "" where nothing is searched.
        session: Name of this opening: trials that failed for good count in it alone.
        opened_at_s: When that was, seconds since the epoch; earlier by what the tries of the same task before it took.
        handle: The model's handle.
        training: Digest of the training package that every trial runs.
        dataset: What every trial trains on.
        goal: What is searched, and for what.
        params: What is not searched: the package's defaults and what was laid over them.
        seed: Of every trial, and of the sampler.
        source_models: Version of each source model, by handle.
        trials: Finished trials to reach, over all sessions.
        limits: When the search gives up; its time runs from the opening.
        pruner: `median` or `none`.
        experiment_id: MLflow experiment of the handle.
        run_id: MLflow run that the trials are nested in.
        url: Its page.
    """

    study: str
    session: str
    opened_at_s: float
    handle: str
    training: str
    dataset: DatasetVersion
    goal: Goal | None
    params: Mapping[str, Any]
    seed: int = 0
    source_models: Mapping[str, int]
    trials: int
    limits: Limits = Limits()
    pruner: str = "none"
    experiment_id: str = ""
    run_id: str | None = None
    url: str = ""

    def recipe(self, settings: Settings) -> Recipe:
        """Return what a trial is made of, but for what is searched."""
        return Recipe(
            training=packages.lookup(self.handle, "training", settings, self.training),
            dataset=self.dataset,
            params=self.params,
            seed=self.seed,
            source_models=self.source_models,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        goal = self.goal.to_json() if self.goal else None
        return dataclasses.asdict(self) | {"dataset": self.dataset.to_json(), "goal": goal}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "StudyPlan":
        """Read what `to_json` wrote."""
        goal = Goal.from_json(data["goal"]) if data["goal"] else None
        read = {
            "dataset": DatasetVersion.from_json(data["dataset"]),
            "limits": Limits.from_json(data["limits"]),
        }
        return cls(**{**data, **read, "goal": goal})


def study_name(base: Recipe, goal: Goal) -> str:
    """Return the name of the study of a recipe and a goal: what cannot be compared has another one.

    It covers handle, package, dataset version, fixed parameters, seed and source models, space, objectives and
    constraints.
    """
    return digest([base.training.handle, base.key, goal.to_json()])[:32]
