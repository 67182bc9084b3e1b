"""Which trial of a study is taken, and whether it still improves: pure decisions over what trials measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from taxiway.tuning.goal import Goal


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one finished trial measured.

    Attributes:
        number: Its number in the study.
        losses: One for each objective, to be made small; empty for a trial that was ended early.
        violation: Sum of what it breaks of its constraints; 0 keeps them all.
    """

    number: int
    losses: tuple[float, ...]
    violation: float = 0.0

    @property
    def is_feasible(self) -> bool:
        """Whether it ended and keeps every constraint."""
        return bool(self.losses) and self.violation <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The trial that is taken.

    Attributes:
        number: Its number.
        reason: Why this one.
        front: Numbers of the trials that no other beats in every objective, in order; the one alone for one objective.
    """

    number: int
    reason: str
    front: tuple[int, ...]


def choose(outcomes: Sequence[Outcome], goal: Goal) -> Choice | None:
    """Return the trial to take, or None where none ended or none keeps the constraints.

    With one objective that is the best one. With several it is the one of the front that is closest to the best value
    of each objective, all measured in parts of the front's own range: no objective is given up for a little of another.
    """
    front = front_of(outcomes)
    if not front:
        return None
    numbers = tuple(sorted(each.number for each in front))
    kept = f" among those that keep {', '.join(map(str, goal.constraints))}" if goal.constraints else ""
    if len(goal.objectives) == 1:
        best = min(front, key=lambda each: each.number)
        only = goal.objectives[0]
        word = "highest" if only.direction == "maximize" else "lowest"
        return Choice(number=best.number, reason=f"{word} {only.metric}{kept}", front=(best.number,))
    distances = {each.number: distance for each, distance in zip(front, _distances(front), strict=True)}
    best = min(front, key=lambda each: (distances[each.number], each.number))
    names = " and ".join(each.metric for each in goal.objectives)
    return Choice(
        number=best.number,
        reason=f"closest to the best {names} at once, of {len(front)} that no other trial beats{kept}",
        front=numbers,
    )


def front_of(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the feasible trials that no other one beats, as good in every objective and better in one.

    Of several that measured the same the one with the lowest number is taken.
    """
    front: list[Outcome] = []
    for each in sorted(outcomes, key=lambda outcome: outcome.number):
        front = _joined(front, each)
    return front


def is_stuck(outcomes: Sequence[Outcome], patience: int) -> bool:
    """Tell whether the last `patience` finished trials, one after the other, improved nothing.

    As long as none keeps the constraints, one that comes nearer to them than all before is an improvement.

    Args:
        outcomes: In the order of their numbers; those that were ended early improve nothing.
        patience: Trials without improvement, from 1.
    """
    front: list[Outcome] = []
    since, nearest = 0, math.inf
    for each in outcomes:
        joined = _joined(front, each)
        is_nearer = not front and bool(each.losses) and each.violation < nearest
        nearest = each.violation if is_nearer else nearest
        since, front = (0 if is_nearer or joined is not front else since + 1), joined
    return since >= patience


def _joined(front: list[Outcome], new: Outcome) -> list[Outcome]:
    """Return the front with a new trial in it, or the same one if the trial does not belong to it."""
    if not new.is_feasible or any(_beats(each, new) or each.losses == new.losses for each in front):
        return front
    return [each for each in front if not _beats(new, each)] + [new]


def _beats(one: Outcome, other: Outcome) -> bool:
    pairs = list(zip(one.losses, other.losses, strict=True))
    return all(mine <= its for mine, its in pairs) and any(mine < its for mine, its in pairs)


def _distances(front: Sequence[Outcome]) -> list[float]:
    columns = list(zip(*(each.losses for each in front), strict=True))
    ranges = [(min(column), (max(column) - min(column)) or 1.0) for column in columns]
    return [
        math.hypot(*((loss - low) / width for loss, (low, width) in zip(each.losses, ranges, strict=True)))
        for each in front
    ]
