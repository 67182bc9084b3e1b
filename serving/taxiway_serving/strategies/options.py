"""Reading the options of a strategy: what is missing takes its default, what is wrong is named, all at once. Pure."""

from collections.abc import Mapping
from typing import Any

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.metrics import metric_name_faults
from taxiway_serving.rollout.plans import read_step
from taxiway_serving.rollout.typed import is_number


class Options:
    """The options of one strategy, and what is wrong with them. Each reader gives a default for what it faults."""

    def __init__(self, kind: str, given: Mapping[str, Any], versions: tuple[int, ...]) -> None:
        """Take options to be read.

        Args:
            kind: The strategy, for the messages.
            given: As the caller wrote them.
            versions: The candidates.
        """
        self.kind, self.versions, self.faults = kind, versions, list[str]()
        self._given, self._known = given, list[str]()

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """Return a number in [least, most]."""
        value = self.any(key, default)
        if is_number(value) and least <= value <= most:
            return float(value)
        self.faults.append(
            f"strategy.{key}: got {value!r}; {self.kind} takes a number from {least:g} to {most:g}"
        )
        return default

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """Return a whole number in [least, most]."""
        value = self.any(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.faults.append(
            f"strategy.{key}: got {value!r}; {self.kind} takes a whole number from {least} to {most}"
        )
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a yes or no."""
        value = self.any(key, default)
        if isinstance(value, bool):
            return value
        self.faults.append(f"strategy.{key}: got {value!r}; {self.kind} takes true or false")
        return default

    def any(self, key: str, default: Any = None) -> Any:
        """Return a value of whatever type."""
        self._known.append(key)
        return self._given.get(key, default)

    def has(self, key: str) -> bool:
        """Return whether the caller gave an option."""
        return key in self._given

    def step(
        self, name: str, fallback: Any, *, given: Mapping[str, Any] | None = None, where: str = "strategy"
    ) -> Any:
        """Return a step whose fields are options of the strategy: all that nobody else has asked for.

        Args:
            name: The step.
            fallback: What stands in for one with faults.
            given: Other fields than those options.
            where: What a fault calls the place that they come from.
        """
        rest = {key: value for key, value in self._given.items() if key not in self._known}
        if given is None:
            self._known += rest
        try:
            return read_step(name, rest if given is None else given, where=where)
        except InvalidSpecError as error:
            self.faults += error.faults
            return fallback

    def metric(self, key: str, name: str) -> None:
        """Check the name of a metric that an option gave."""
        self.faults += metric_name_faults(name, f"strategy.{key}")

    def refuse_rest(self) -> None:
        """Name the options that nobody has asked for; a misspelt one that is ignored is found out in production."""
        told = ", ".join(sorted(self._known)) or "none"
        rest = sorted(set(self._given) - set(self._known))
        self.faults += [f"strategy.{key}: unknown; {self.kind} takes {told}" for key in rest]
