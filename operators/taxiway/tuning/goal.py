"""What a study searches, and for what: space, objectives, constraints. Values and their rules, nothing is run here."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taxiway.errors import InvalidSpecError, OutputFaultsError
from taxiway.project import tuning as rules

_SHORT = {"metric", "direction"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A metric of `metrics.json`, and whether more of it is better."""

    metric: str
    direction: str

    def loss(self, value: float) -> float:
        """Return the value as something to be made small."""
        return -value if self.direction == "maximize" else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A metric of `metrics.json` that must keep a limit; `bound` is `at_most` or `at_least`."""

    metric: str
    bound: str
    limit: float

    def violation(self, value: float) -> float:
        """Return by how much a value breaks the limit; 0 or less keeps it."""
        return value - self.limit if self.bound == "at_most" else self.limit - value

    def __str__(self) -> str:
        return f"{self.metric} {self.bound.replace('_', ' ')} {self.limit:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a study searches, and for what.

    Attributes:
        space: `{name: {type, low, high, log, step} | {type, choices}}`.
        objectives: What is compared; the first is the one that a verdict is about.
        constraints: What every acceptable trial keeps.
    """

    space: Mapping[str, Mapping[str, Any]]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    def measured(self, metrics: Mapping[str, float]) -> tuple[list[float], dict[str, float]]:
        """Return the value of each objective, and by how much each constraint is broken.

        Raises:
            OutputFaultsError: If a metric is missing.
        """
        wanted = [each.metric for each in self.objectives] + [each.metric for each in self.constraints]
        known = ", ".join(sorted(metrics)) or "nothing"
        missing = [name for name in dict.fromkeys(wanted) if name not in metrics]
        if missing:
            raise OutputFaultsError(
                tuple(f"metrics.json has no {name!r}; it has {known}" for name in missing), "results"
            )
        violations = {str(each): each.violation(metrics[each.metric]) for each in self.constraints}
        return [metrics[each.metric] for each in self.objectives], violations

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        found = dataclasses.asdict(self)
        return found | {name: list(found[name]) for name in ("objectives", "constraints")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Goal":
        """Read what `to_json` wrote."""
        return cls(
            space=data["space"],
            objectives=tuple(Objective(**each) for each in data["objectives"]),
            constraints=tuple(Constraint(**each) for each in data["constraints"]),
        )


def goal_of(given: Mapping[str, Any], laid_over: Mapping[str, Any]) -> tuple[Goal, str]:
    """Return the goal of a project's table with what a caller lays over it, and the name of the pruner.

    Args:
        given: The table `[tool.taxiway.tuning]`; it may be empty.
        laid_over: Keys of that table; either form of the objectives takes the place of both.

    Raises:
        InvalidSpecError: With everything that is wrong.
    """
    table = dict(given)
    if "objectives" in laid_over or ("objectives" in given and laid_over.keys() & _SHORT):
        table = {key: value for key, value in given.items() if key not in {"objectives", *_SHORT}}
    table |= laid_over
    unknown = [f"{key!r} is no key of [tool.taxiway.tuning]" for key in sorted(table.keys() - rules.KEYS)]
    faults = unknown + rules.faults(table)
    if faults:
        raise InvalidSpecError(tuple(faults), "tuning")
    objectives = tuple(Objective(**each) for each in rules.objectives(table))
    goal = Goal(
        space=table["space"],
        objectives=objectives,
        constraints=tuple(_constraint(each) for each in table.get("constraints", ())),
    )
    # With several objectives no trial is worse than another before both have ended.
    return goal, table.get("pruner", rules.PRUNERS[0] if len(objectives) == 1 else "none")


def _constraint(item: Mapping[str, Any]) -> Constraint:
    bound = next(bound for bound in rules.BOUNDS if bound in item)
    return Constraint(metric=item["metric"], bound=bound, limit=float(item[bound]))
