"""The picture of an endpoint's history: who had which share of the traffic, what was decided, how each version did.

Drawn by matplotlib, from what `reading.py` read; nothing is measured here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.arguments import typed
from taxiway.errors import InvalidSpecError
from taxiway.history.reading import History, marks_of, read
from taxiway.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart with any colour vision, also beside each other: Okabe and Ito (2008), "Color universal design".
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A6F00", "#5A5A5A")
SUFFIXES = (".png", ".svg", ".pdf")
MARKS = {
    "promote": ("▲", "promoted"),
    "roll back": ("▼", "rolled back"),
    "inconclusive": ("■", "inconclusive"),
    "complete": ("◆", "completed"),
    "abort": ("✕", "aborted"),
    "superseded": ("✕", "superseded"),
}
BUILT_IN = {
    "errors": "failed requests, %",
    "client_errors": "4xx answers, %",
    "p50": "median latency, ms",
    "p99": "p99 latency, ms",
    "requests": "requests per second",
}
VALUES: Mapping[str, Callable[[Mapping[str, Any], float], float | None]] = {
    "p50": lambda row, _: row["p50_ms"],
    "p99": lambda row, _: row["p99_ms"],
    "requests": lambda row, step_s: row["requests"] / step_s,
}
ENOUGH = 30
MOST_MARKS = 40


@typed
def plot(
    handle: str,
    path: Path | str,
    settings: Settings,
    *,
    metric: str | None = None,
    since_s: float | None = None,
    until_s: float | None = None,
    step_s: int | None = None,
) -> Path:
    """Draw an endpoint's split over time as stacked areas, with its verdicts, and one metric of each version below.

    Args:
        handle: The endpoint; its rollouts may have ended or be under way.
        path: File whose name ends in `.png`, `.svg` or `.pdf`; one that is there is replaced.
        settings: Where the controller is.
        metric: `errors`, `client_errors`, `p50`, `p99`, `requests`, or a reward's name; None takes the first reward
            there is, else `errors`.
        since_s: As of `read`.
        until_s: As of `read`.
        step_s: As of `read`.

    Returns:
        The path.

    Raises:
        InvalidSpecError: If the name ends otherwise, or nothing has a metric of that name.
        NotFoundError: If the controller knows nothing of the endpoint.
        TransportError: If the controller does not answer.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        fault = f"path: {path.name} ends in {path.suffix!r}; it must end in {', '.join(SUFFIXES)}"
        raise InvalidSpecError((fault,), "plot")
    history = read(handle, settings, since_s=since_s, until_s=until_s, step_s=step_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(history, metric=metric).savefig(path, dpi=144)
    return path


def draw(history: History, *, metric: str | None = None) -> "Figure":
    """Return the picture as a matplotlib figure, for a notebook.

    Raises:
        InvalidSpecError: If nothing has a metric of that name.
    """
    from matplotlib.figure import Figure

    chosen = _chosen(history, metric)
    figure = Figure(figsize=(10, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_split(upper, history)
    _draw_marks(upper, history)
    _draw_metric(lower, history, chosen)
    figure.suptitle(f"{history.handle}: live traffic over time", x=0.01, ha="left")
    return figure


def colour_of(version: int) -> str:
    """Return a version's colour: by its number, so that it is the same in every picture and on the page."""
    return COLOURS[(version - 1) % len(COLOURS)]


def versions_of(history: History) -> list[int]:
    """Return every version that had a share of the traffic, or a request."""
    splits = (split or {} for point in history.points for split in (point.wanted, point.observed))
    served = {version for split in splits for version in split}
    return sorted(served | {int(row["version"]) for row in history.timeline})


def series(history: History, metric: str, version: int) -> list[tuple[float, float]]:
    """Return one metric of one version over time, as pairs of seconds since the epoch and value.

    A mean over a handful of requests is noise, so neighbouring buckets are joined until they hold `ENOUGH` requests,
    and what is left at the end is left out; a version that never had as many gets one point.
    """
    rows = [row for row in history.timeline if int(row["version"]) == version]
    step_s = history.step_s
    if metric in VALUES:
        values = ((row["at_s"] + step_s / 2, VALUES[metric](row, step_s)) for row in rows)
        return [(at_s, value) for at_s, value in values if value is not None]
    return list(_means(rows, metric, step_s))


def _means(rows: Sequence[Mapping[str, Any]], metric: str, step_s: float) -> Iterator[tuple[float, float]]:
    requests, total, since_s, is_first = 0, 0.0, None, True
    for place, row in enumerate(rows):
        since_s = row["at_s"] if since_s is None else since_s
        requests += row["requests"]
        total += _counted(row, metric)
        is_all = is_first and place == len(rows) - 1
        if requests >= ENOUGH or (requests and is_all):
            yield (since_s + row["at_s"] + step_s) / 2, total / requests
            requests, total, since_s, is_first = 0, 0.0, None, False


def _counted(row: Mapping[str, Any], metric: str) -> float:
    if metric in BUILT_IN:
        return 100.0 * float(row["bad" if metric == "errors" else metric])
    reward = (row.get("rewards") or {}).get(metric) or {}
    return float(reward.get("sum", 0.0))


def _chosen(history: History, metric: str | None) -> str:
    rewards = sorted({name for row in history.timeline for name in row.get("rewards") or {}})
    if metric is None:
        return rewards[0] if rewards else "errors"
    if metric not in BUILT_IN and metric not in rewards:
        known = ", ".join((*BUILT_IN, *rewards))
        raise InvalidSpecError((f"metric: got {metric!r}; {history.handle} has {known}",), "plot")
    return metric


def _draw_split(axes: "Axes", history: History) -> None:
    """Stack what was read back, and draw what was wanted over it as a line: where both agree, one hides the other."""
    seen, asked = list(_corners(history, "observed")), list(_corners(history, "wanted"))
    versions = versions_of(history)
    if seen:
        stacks = [[shares.get(version, 0.0) for _, shares in seen] for version in versions]
        axes.stackplot(
            _times([at_s for at_s, _ in seen]),  # type: ignore[arg-type]
            stacks,
            colors=[colour_of(version) for version in versions],
            labels=[f"version {version}" for version in versions],
        )
    for place in range(1, len(versions)):
        edge = [sum(shares.get(version, 0.0) for version in versions[:place]) for _, shares in asked]
        style: dict[str, Any] = {
            "color": "black",
            "lw": 1,
            "ls": ":",
            "label": "wanted" if place == 1 else None,
        }
        axes.plot(_times([at_s for at_s, _ in asked]), edge, **style)  # type: ignore[arg-type]
    axes.set(ylim=(0, 100), ylabel="share of live traffic, %")
    if seen:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _draw_marks(axes: "Axes", history: History) -> None:
    for event in marks_of(history.events)[-MOST_MARKS:]:
        sign, word = MARKS[str(event.verdict)]
        moment = _times([event.at_s])[0]
        axes.axvline(moment, color="black", lw=0.8)  # type: ignore[arg-type]
        text = f"{sign} {word}" + (f" {event.version}" if event.version else "")
        where = {"xy": (moment, 100), "xytext": (2, 4), "textcoords": "offset points"}
        axes.annotate(text, **where, fontsize=8, annotation_clip=False)  # type: ignore[arg-type]


def _draw_metric(axes: "Axes", history: History, metric: str) -> None:
    lowest = 0.0
    for version in versions_of(history):
        pairs = series(history, metric, version)
        style: dict[str, Any] = {"marker": "." if len(pairs) < 3 else "", "lw": 1.4}
        if pairs:
            times, values = _times([at_s for at_s, _ in pairs]), [value for _, value in pairs]
            axes.plot(times, values, color=colour_of(version), **style)  # type: ignore[arg-type]
            lowest = min(lowest, *values)
    axes.set(ylabel=BUILT_IN.get(metric, f"{metric} per request"), xlabel="time, UTC")
    axes.set_ylim(bottom=lowest * 1.05)
    _mark_times(axes, history)


def _mark_times(axes: "Axes", history: History) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    begin, end = _times([history.since_s, max(history.until_s, history.since_s + 1)])
    axes.set_xlim(begin, end)  # type: ignore[arg-type]


def _corners(history: History, which: str) -> Iterator[tuple[float, Mapping[int, float]]]:
    """Yield the corners of a split that changes in steps, up to the end of the span."""
    before: Mapping[int, float] | None = None
    for point in history.points:
        if point.at_s > history.until_s:
            break
        shares = getattr(point, which)
        if shares is None:
            continue
        if before is not None:
            yield point.at_s, before
        yield point.at_s, shares
        before = shares
    if before is not None:
        yield history.until_s, before


def _times(seconds: Sequence[float]) -> list[datetime]:
    return [datetime.fromtimestamp(at_s, UTC) for at_s in seconds]
