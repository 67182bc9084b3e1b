"""A table of a handle's runs and versions, ordered by a metric: read from MLflow, nothing is run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from taxiway.arguments import typed
from taxiway.errors import InvalidSpecError
from taxiway.registry import measured, tracking
from taxiway.registry.tracking import Run
from taxiway.research.cells import here
from taxiway.settings import Settings

KINDS = ("training", "trial")
BEST = ("highest", "lowest")
_CODE_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A table; in a notebook it shows itself.

    Attributes:
        handle: Whose runs they are.
        metric: What they are ordered by.
        rows: One for each run, the best first: rank, the metric, version, run, params, data, code, url.
    """

    handle: str
    metric: str
    rows: tuple[Mapping[str, Any], ...]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Go through the rows, the best first."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.rows)

    def __str__(self) -> str:
        """Return it as text, a line for each row."""
        lines = [self.columns, *([_shown(row.get(name)) for name in self.columns] for row in self.rows)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(f"<tr>{_cells(row, self.columns)}</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @property
    def columns(self) -> list[str]:
        """Names of the columns: those that are the same in every row but for their parameters."""
        params = dict.fromkeys(name for row in self.rows for name in row["params"])
        return ["rank", self.metric, "version", *(f"params.{name}" for name in params), "data", "code", "run"]


@typed
def compare(
    handle: str,
    metric: str,
    *,
    best: str = "highest",
    kinds: Sequence[str] = KINDS,
    settings: Settings | None = None,
) -> Comparison:
    """Return a table of the finished runs of a handle that measured a metric, the best first.

    What a run's component left in `metrics.json` counts, as everywhere; what else it logged to MLflow does not.

    Args:
        handle: The handle.
        metric: Of training, of trials, or of the evaluation of a version.
        best: `highest` or `lowest`.
        kinds: Which runs: `training`, `trial`.
        settings: Where everything is; None reads the environment.

    Raises:
        InvalidSpecError: If `best` is neither, or no run measured the metric; those that were measured are named.
    """
    where = here(settings)
    if best not in BEST:
        raise InvalidSpecError((f"best must be highest or lowest, got {best!r}",), "comparison")
    runs = _runs(handle, kinds, where)
    numbers = _versions(handle, where)
    evaluated = _evaluated(handle, where)
    found = [(_metrics(run, numbers, evaluated), run) for run in runs]
    fit = [(metrics[metric], run) for metrics, run in found if metric in metrics]
    if not fit:
        known = sorted({name for metrics, _ in found for name in metrics})
        said = f"no run of {handle} measured {metric}; measured are {', '.join(known) or 'none, train first'}"
        raise InvalidSpecError((said,), "comparison")
    fit.sort(key=lambda pair: (pair[0] if best == "lowest" else -pair[0], pair[1].started_at_s))
    rows = tuple(
        _row(rank, metric, value, run, numbers, where) for rank, (value, run) in enumerate(fit, start=1)
    )
    return Comparison(handle=handle, metric=metric, rows=rows)


def _runs(handle: str, kinds: Sequence[str], settings: Settings) -> list[Run]:
    experiment = tracking.find_experiment(handle, settings)
    if experiment is None:
        return []
    found = [
        run for kind in kinds for run in tracking.find_runs(experiment, {"taxiway.kind": kind}, settings)
    ]
    return [run for run in found if run.status == "FINISHED"]


def _versions(handle: str, settings: Settings) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for version in tracking.find_versions(handle, {}, settings):
        numbers.setdefault(version.run_id, []).append(version.number)
    return numbers


def _evaluated(handle: str, settings: Settings) -> dict[int, Mapping[str, float]]:
    """Return what the newest evaluation of each version measured."""
    runs = _runs(handle, ("evaluation",), settings)
    return {int(run.tags["taxiway.model_version"]): measured.of(run) for run in reversed(runs)}


def _metrics(
    run: Run, numbers: Mapping[str, list[int]], evaluated: Mapping[int, Mapping[str, float]]
) -> Mapping[str, float]:
    later = [evaluated[number] for number in numbers.get(run.run_id, ()) if number in evaluated]
    return {**(later[-1] if later else {}), **measured.of(run)}


def _row(
    rank: int,
    metric: str,
    value: float,
    run: Run,
    numbers: Mapping[str, list[int]],
    settings: Settings,
) -> Mapping[str, Any]:
    params = dict(run.params)
    return {
        "rank": rank,
        metric: value,
        "version": ", ".join(map(str, sorted(numbers.get(run.run_id, [])))),
        "params": params,
        **{f"params.{name}": param for name, param in params.items()},
        "data": run.tags.get("taxiway.dataset", ""),
        "code": run.tags.get("taxiway.training.digest", "")[:_CODE_DIGITS],
        "run": run.run_id[:8],
        "run_id": run.run_id,
        "kind": run.tags.get("taxiway.kind", ""),
        "url": tracking.run_url(run, settings),
    }


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    cells = [escape(_shown(row.get(name))) for name in columns]
    link = f'<a href="{escape(row["url"])}">{cells[-1]}</a>'
    return "".join(f"<td>{cell}</td>" for cell in (*cells[:-1], link))


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
