"""What the trial shows, as text: the line of live traffic, the chart of the split over time, the closing screen.

Pure: values in, lines out. Nothing here prints, reads a clock or knows the terminal; widths are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Shares = Mapping[int, float]
"""Version to share of the traffic in per cent."""

_LEVELS = " ▁▂▃▄▅▆▇█"
_PLAIN_LEVELS = " .:-=+*#@"
_BAR_FULL, _BAR_EMPTY = "█", "░"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model version on the closing screen."""

    version: int
    accuracy: float | None
    story: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What the closing screen says.

    Attributes:
        seconds_total: Of the whole story.
        seconds_to_first_answer: None when there was no answer.
        rows: The versions in their order.
        splits: (seconds since the start, shares) as read back from Envoy, in time order.
        requests: Sent by the trial's clients.
        failed: Of these, as the client saw it.
        rate_rps: At which they were sent.
        rollback_s: None when nothing was rolled back.
        peak_memory_mb: Of all processes together.
        curl: A command that asks the endpoint.
        links: Name to address.
        next_step: What to try now.
    """

    seconds_total: float
    seconds_to_first_answer: float | None
    rows: Sequence[Row]
    splits: Sequence[tuple[float, Shares]]
    requests: int
    failed: int
    rate_rps: float
    rollback_s: float | None
    peak_memory_mb: float
    curl: str
    links: Mapping[str, str]
    next_step: str


def event_line(elapsed_s: float, chapter: str, what: str) -> str:
    """Return one line of progress."""
    return f"{elapsed_s:6.1f} s  {chapter:<9}  {what}"


def split_words(shares: Shares) -> str:
    """Return a split in words, the newest version first."""
    return ", ".join(
        f"{shares[version]:g} % on version {version}" for version in sorted(shares, reverse=True)
    )


def live_line(elapsed_s: float, shares: Shares, *, rate_rps: float, requests: int, failed: int) -> str:
    """Return the line that is drawn over and over while traffic flows."""
    counted = f"{rate_rps:.0f} requests/s, {requests:,} sent, {failed:,} failed"
    return f"{elapsed_s:6.1f} s  {split_bar(shares, width=20)}  {counted}"


def split_bar(shares: Shares, *, width: int) -> str:
    """Return a bar of the split, the newest version last, with its share.

    A version with any share at all gets at least one cell.
    """
    if not shares:
        return "no traffic yet"
    newest = max(shares)
    cells = min(width, max(1, round(shares[newest] * width / 100)))
    older = [f"v{version}" for version in sorted(shares) if version != newest]
    label = f"{'+'.join(older)} " if older else ""
    return f"{label}{_BAR_EMPTY * (width - cells)}{_BAR_FULL * cells} v{newest} {shares[newest]:g} %"


def chart(
    splits: Sequence[tuple[float, Shares]], *, width: int = 60, is_plain: bool = False
) -> tuple[str, ...]:
    """Return the traffic split over time, one row per version, a time axis last.

    Args:
        splits: (seconds, shares) in time order; a split holds until the next one.
        width: Columns, above 0; the time between the first and the last split is spread over them.
        is_plain: Draw with ASCII only.
    """
    if not splits:
        return ("no traffic was seen",)
    begin_s, end_s = splits[0][0], splits[-1][0]
    versions = sorted({version for _, shares in splits for version in shares})
    levels = _PLAIN_LEVELS if is_plain else _LEVELS
    columns = _columns(splits, width)
    rows = (
        f"  version {version:<3} |{''.join(levels[_level(shares.get(version, 0))] for shares in columns)}|"
        for version in versions
    )
    ends = f"{begin_s:.0f} s", f"{end_s:.0f} s"
    axis = " " * 15 + ends[0] + ends[1].rjust(max(width - len(ends[0]), len(ends[1]) + 1))
    return (*rows, axis.rstrip())


def _columns(splits: Sequence[tuple[float, Shares]], width: int) -> list[dict[int, float]]:
    """Return the highest share of each version within each column, so that a short canary is seen."""
    begin_s, end_s = splits[0][0], splits[-1][0]
    step_s = max(end_s - begin_s, 1e-9) / width
    columns: list[dict[int, float]] = [{} for _ in range(width)]
    ends = [at_s for at_s, _ in splits[1:]] + [end_s]
    for (at_s, shares), until_s in zip(splits, ends, strict=True):
        first = min(int((at_s - begin_s) / step_s), width - 1)
        last = min(max(first, int((until_s - begin_s) / step_s - 1e-9)), width - 1)
        for column in columns[first : last + 1]:
            for version, share in shares.items():
                column[version] = max(column.get(version, 0.0), share)
    return columns


def _level(share_pct: float) -> int:
    """Return 0 for nothing and 8 for everything; anything between is seen as such."""
    if share_pct <= 0:
        return 0
    return 8 if share_pct >= 99.5 else max(1, min(7, round(share_pct * 8 / 100)))


def closing(end: Closing, *, width: int = 60, is_plain: bool = False) -> tuple[str, ...]:
    """Return the closing screen, line by line."""
    return (
        "",
        _headline(end),
        "",
        "  version  accuracy  what happened",
        *(_row(row) for row in end.rows),
        "",
        "  Traffic over time, as read back from Envoy",
        *chart(end.splits, width=width, is_plain=is_plain),
        "",
        *_figures(end),
        "",
        f"  {'Ask it':<8} {end.curl}",
        *(f"  {name:<8} {address}" for name, address in end.links.items()),
        f"  {'Next':<8} {end.next_step}",
    )


def _headline(end: Closing) -> str:
    first = end.seconds_to_first_answer
    answer = "no answer" if first is None else f"first answer after {first:.0f} s"
    return f"The whole path in {end.seconds_total:.0f} s, {answer}"


def _row(row: Row) -> str:
    accuracy = "-" if row.accuracy is None else f"{row.accuracy:.3f}"
    return f"  {row.version:<7}  {accuracy:<8}  {row.story}"


def _figures(end: Closing) -> tuple[str, ...]:
    rollback = "nothing was rolled back" if end.rollback_s is None else f"{end.rollback_s:.1f} s"
    return (
        f"  Failed requests   {end.failed:,} of {end.requests:,}, at {end.rate_rps:.0f} requests/s",
        f"  Rollback          {rollback}"
        + ("" if end.rollback_s is None else ", from the first bad answer to 0 % read back"),
        f"  Memory            {end.peak_memory_mb:,.0f} MB at the most, all processes together",
    )
