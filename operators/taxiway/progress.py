"""What a rollout's view says to a reader of a task's log. Pure: views in, lines out; nobody is asked here."""

from collections.abc import Iterator, Mapping
from typing import Any

QUIET_S = 10.0
"""How often evidence that only grows is said; a move is said at once."""


class Progress:
    """Turns looks at one rollout into lines: each move at once, growing evidence now and then, nothing twice."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._moved: tuple[Any, ...] = ()
        self._told: tuple[str, ...] = ()
        self._told_at_s = float("-inf")

    def lines(self, seen: Mapping[str, Any], now_s: float) -> tuple[str, ...]:
        """Return what is worth saying about this look.

        Args:
            seen: The rollout as the controller shows it.
            now_s: Seconds on any clock that only goes forward.
        """
        moved, told = _moves(seen), tuple(describe(seen))
        is_due = moved != self._moved or now_s - self._told_at_s >= QUIET_S
        if told == self._told or not is_due:
            return ()
        self._moved, self._told, self._told_at_s = moved, told, now_s
        return tuple(self._prefix + line for line in told)


def describe(seen: Mapping[str, Any]) -> Iterator[str]:
    """Return a rollout in words: where it stands and why in the first line, then a line for each arm of a bandit."""
    parts = [part for part in (_shares(seen), _units(seen), _nearest_guard(seen)) if part]
    yield f"{_standing(seen)}: {'; '.join([*parts, str(seen['reason'])])}"
    for version, arm in (seen.get("arms") or {}).items():
        yield f"  version {version}: {_arm(arm, _weights(seen).get(version))}"
    for version, found in (seen.get("comparison") or {}).items():
        facts = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in found.items())
        yield f"  answers of version {version}: {facts}"


def _moves(seen: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what changes when a rollout moves. A bandit's weights drift with its evidence, and are no move."""
    weights = () if seen.get("arms") else tuple(sorted(_weights(seen).items()))
    names = ("phase", "status", "outcome", "step", "winner")
    return (*(seen.get(name) for name in names), tuple(seen.get("dropped") or ()), weights)


def _standing(seen: Mapping[str, Any]) -> str:
    phase, steps = seen["outcome"] or seen["phase"], seen.get("steps") or ()
    if not steps or seen["status"] == "ended":
        return str(phase)
    number = min(seen["step"], len(steps) - 1)
    return f"{phase}, step {number + 1} of {len(steps)} ({next(iter(steps[number]))})"


def _weights(seen: Mapping[str, Any]) -> Mapping[str, float]:
    if seen.get("weights") is not None:
        return {str(version): float(share) for version, share in seen["weights"].items()}
    return {str(seen["version"]): seen["weight_pct"]} if "weight_pct" in seen and "version" in seen else {}


def _shares(seen: Mapping[str, Any]) -> str:
    return ", ".join(f"{share:g} % on version {version}" for version, share in _weights(seen).items())


def _units(seen: Mapping[str, Any]) -> str:
    units = seen.get("units") or {}
    return f"{units['canary']} units, {units['bad']} bad" if {"canary", "bad"} <= set(units) else ""


def _nearest_guard(seen: Mapping[str, Any]) -> str:
    """Return the guard that is nearest to a rollback. Certificates only promote, and say so in the reason."""
    guards = [
        reading
        for reading in seen.get("evidence") or ()
        if reading["answer"] != "unknown"
        and not reading["guard"].endswith(("_certificate", "_gain"))
        and reading.get("acts", True)
    ]
    if not guards:
        return ""
    nearest = max(guards, key=lambda reading: reading["log_e"] - reading["threshold"])
    log_e = round(nearest["log_e"], 1) + 0.0
    return f"nearest guard {nearest['guard']}: log_e {log_e:g} of {nearest['threshold']:.1f}"


def _arm(arm: Mapping[str, Any], share: float | None) -> str:
    share = arm.get("weight_pct", share)
    parts = [f"{share:g} %"] if share is not None else []
    if arm.get("mean") is not None:
        parts.append(f"mean {arm['mean']:.4g}")
    if arm.get("p_best") is not None:
        parts.append(f"best with {100 * arm['p_best']:.0f} %")
    parts += [f"{arm[name]:.0f} {name}" for name in ("credited", "pending") if arm.get(name) is not None]
    return ", ".join(parts) or "nothing seen yet"
