"""Split and metrics in one table, and the files that it is exported to: JSON, CSV, Parquet.

A row says how one version did in one bucket of time. Its shares are means over the bucket, so that they can be held
against what was counted in it. Reading is `reading.py`'s.
"""

import csv
import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, get_args

from taxiway.arguments import typed
from taxiway.errors import InvalidSpecError, NotFoundError
from taxiway.history.chain import body_of
from taxiway.history.reading import PAGE, History, Point, Shares, client_of, pages, read, told_of
from taxiway.settings import Settings

Row = dict[str, Any]
Table = Literal["timeline", "ledger"]

METRICS = ("requests", "bad", "client_errors", "p50_ms", "p99_ms")
LINEAGE = ("dataset", "dataset_hash")
_TEXTS = frozenset(("handle", "verdict", "reason", "kind", "actor", "body", "previous", "digest", *LINEAGE))
_WHOLE = frozenset(("version", "requests", "bad", "client_errors", "seq"))


@typed
def export(
    handle: str,
    path: Path | str,
    settings: Settings,
    *,
    table: Table = "timeline",
    since_s: float | None = None,
    until_s: float | None = None,
    step_s: int | None = None,
) -> Path:
    """Write an endpoint's history to a file, whole or not at all.

    Args:
        handle: The endpoint; its rollouts may have ended or be under way.
        path: File whose name ends in `.json`, `.csv` or `.parquet`; one that is there is replaced.
        settings: Where the controller is.
        table: `timeline` is split and metrics, a row for each version and bucket; `ledger` is every entry as it
            stands, the looks that decided to wait and the hashes too, always the whole of it.
        since_s: As of `read`; not for the ledger.
        until_s: As of `read`; not for the ledger.
        step_s: As of `read`; not for the ledger.

    Returns:
        The path.

    Raises:
        InvalidSpecError: If the name ends otherwise, or there is no such table; every fault is named.
        NotFoundError: If the controller knows nothing of the endpoint.
        TransportError: If the controller does not answer.
    """
    path = Path(path)
    _check(path, table)
    found: Iterator[Row]
    if table == "ledger":
        found = (ledger_row(entry) for entry in pages(client_of(settings), handle))
    else:
        found = iter(rows(read(handle, settings, since_s=since_s, until_s=until_s, step_s=step_s)))
    first = next(found, None)
    if first is None:
        raise NotFoundError("history of endpoint", handle, "deploy a model version under this handle first")
    writers = {".json": _write_json, ".csv": _write_csv, ".parquet": _write_parquet}
    with _replaced(path) as draft:
        writers[path.suffix](draft, chain([first], found))
    return path


def rows(history: History) -> list[Row]:
    """Join split and metrics: a row for each bucket and version with a share of it, a request or a verdict in it.

    `wanted_pct` and `observed_pct` are means over the bucket, or over its part within the span; what nobody measured
    is None. A verdict stands in its own bucket, beside its version; the last one counts. `dataset` and `dataset_hash`
    are those that the version was trained on.
    """
    step_s, measured, queried = history.step_s, _measured(history), _queried(history)
    verdicts = {
        (_start(history, each.at_s), each.version): each
        for each in told_of(history.events)
        if each.verdict and each.version is not None
    }
    metrics = sorted({name for row in history.timeline for name in row.get("rewards") or {}})
    queries = sorted({each.metric for each in history.measured})
    found = []
    for start_s in _starts(history):
        end_s = min(start_s + step_s, history.until_s)
        wanted = mean_shares(history.points, start_s, end_s, "wanted")
        observed = mean_shares(history.points, start_s, end_s, "observed")
        shares = {*wanted, *observed}
        for version in sorted(shares | {v for at_s, v in (*measured, *verdicts) if at_s == start_s}):
            counted = measured.get((start_s, version), {})
            made_of = history.lineage.get(version, {})
            verdict = verdicts.get((start_s, version))
            found.append(
                {
                    "at": _iso(start_s),
                    "at_s": start_s,
                    "handle": history.handle,
                    "version": version,
                    **{name: made_of.get(name) for name in LINEAGE},
                    "wanted_pct": wanted.get(version, 0.0) if wanted else None,
                    "observed_pct": observed.get(version, 0.0) if observed else None,
                    **{name: counted.get(name) for name in METRICS},
                    **_rewards(counted, metrics),
                    **{f"{name}_value": queried.get((start_s, version, name)) for name in queries},
                    "verdict": verdict.verdict if verdict else None,
                    "reason": verdict.reason if verdict else None,
                }
            )
    return found


def ledger_row(entry: Mapping[str, Any]) -> Row:
    """Return a ledger entry with its body as one JSON text, so that every entry has the same columns."""
    head = {name: entry[name] for name in ("seq", "at_s", "handle", "kind", "actor", "reason")}
    body = json.dumps(body_of(entry), sort_keys=True)
    return {"at": _iso(entry["at_s"]), **head, "body": body, **{n: entry[n] for n in ("previous", "digest")}}


def mean_shares(
    points: tuple[Point, ...], start_s: float, end_s: float, which: Literal["wanted", "observed"]
) -> Shares:
    """Return the mean share of each version over a time, by the seconds that each split held; empty when none did.

    Time for which no split is known is left out, so the shares of what is known add up to 100.
    """
    first = max(0, bisect_right(points, start_s, key=lambda point: point.at_s) - 1)
    sums: dict[int, float] = {}
    known_s = 0.0
    for place in range(first, len(points)):
        point = points[place]
        if point.at_s > end_s:
            break
        shares: Shares | None = getattr(point, which)
        until_s = points[place + 1].at_s if place + 1 < len(points) else end_s
        # A span of no length has no mean: the split at its moment stands for it.
        held_s = min(until_s, end_s) - max(point.at_s, start_s) if end_s > start_s else 1.0
        if shares is None or held_s <= 0:
            continue
        known_s += held_s
        for version, share in shares.items():
            sums[version] = sums.get(version, 0.0) + share * held_s
    return {version: round(total / known_s, 4) for version, total in sums.items()} if known_s else {}


def _starts(history: History) -> Iterator[float]:
    count = max(1, -int((history.since_s - history.until_s) // history.step_s))
    return (history.since_s + place * history.step_s for place in range(count))


def _start(history: History, at_s: float) -> float:
    return history.since_s + (at_s - history.since_s) // history.step_s * history.step_s


def _measured(history: History) -> dict[tuple[float, int], Mapping[str, Any]]:
    busy = (row for row in history.timeline if row["requests"] or row.get("rewards"))
    return {(_start(history, row["at_s"]), int(row["version"])): row for row in busy}


def _queried(history: History) -> dict[tuple[float, int, str], float]:
    """Return the mean of what a query gave in a bucket, by its start, version and metric."""
    found: dict[tuple[float, int, str], list[float]] = {}
    for each in history.measured:
        key = (_start(history, each.at_s), each.version, each.metric)
        found.setdefault(key, []).append(each.value)
    return {key: sum(values) / len(values) for key, values in found.items()}


def _rewards(row: Mapping[str, Any], metrics: list[str]) -> Row:
    rewards = row.get("rewards") or {}
    return {
        f"{metric}_{part}": rewards.get(metric, {}).get(part) for metric in metrics for part in ("n", "sum")
    }


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")


def _check(path: Path, table: str) -> None:
    faults = []
    if path.suffix not in {".json", ".csv", ".parquet"}:
        faults.append(f"path: {path.name} ends in {path.suffix!r}; it must end in .json, .csv or .parquet")
    if table not in get_args(Table):
        faults.append(f"table: got {table!r}; it is timeline or ledger")
    if faults:
        raise InvalidSpecError(tuple(faults), "export")


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Give a file beside the path to write to; it takes the path's place when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _write_json(draft: Path, found: Iterator[Row]) -> None:
    with draft.open("w", encoding="utf-8") as file:
        for place, row in enumerate(found):
            file.write(("[\n" if place == 0 else ",\n") + json.dumps(row))
        file.write("\n]\n")


def _write_csv(draft: Path, found: Iterator[Row]) -> None:
    with draft.open("w", encoding="utf-8", newline="") as file:
        first = next(found)
        writer = csv.DictWriter(file, fieldnames=list(first))
        writer.writeheader()
        writer.writerows(chain([first], found))


def _write_parquet(draft: Path, found: Iterator[Row]) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]

    def kind(name: str) -> Any:
        if name == "at":
            return pa.timestamp("ms", tz="UTC")
        return pa.string() if name in _TEXTS else pa.int64() if name in _WHOLE else pa.float64()

    first = next(found)
    schema = pa.schema([(name, kind(name)) for name in first])
    remaining = chain([first], found)
    with ParquetWriter(draft, schema) as writer:
        while page := [row | {"at": datetime.fromisoformat(row["at"])} for row in islice(remaining, PAGE)]:
            writer.write_table(pa.Table.from_pylist(page, schema=schema))
