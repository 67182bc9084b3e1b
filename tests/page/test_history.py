"""An endpoint's history as it is read from a controller, joined, exported and drawn."""

import csv
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway.errors import InvalidSpecError, NotFoundError, TransportError
from taxiway.history import History, export, plot, read, verify
from taxiway.history.picture import MARKS, draw, series
from taxiway.history.reading import (
    GIVEN_UP,
    MARKED,
    Measurement,
    Point,
    _folded,
    lineage_of,
    marks_of,
    measured_of,
    step_of,
)
from taxiway.history.table import mean_shares, rows
from taxiway.settings import Settings
from taxiway_serving.rollout.state import Outcome, Status
from tests.page.world import CLINIC, NASTY, SHOP, TOKEN, Served
from tests.serving.operating import GATED, until
from tests.serving.plane import HANDLE, Plane
from tests.serving.stories import with_candidate

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

LOADED = """
import sys, taxiway.history

print(*(name for name in ("matplotlib", "mlflow", "numpy", "pandas", "pyarrow") if name in sys.modules))
"""


@pytest.fixture
def settings(served: Served, tmp_path: Path) -> Settings:
    found = Settings.from_environment({"TAXIWAY_HOME": str(tmp_path), "TAXIWAY_CONTROLLER_URL": served.url})
    return replace(found, controller_token=TOKEN)


@pytest.fixture
def history(settings: Settings) -> History:
    return read(HANDLE, settings)


def point(at_s: float, wanted: dict[int, float] | None, observed: dict[int, float] | None) -> Point:
    return Point(at_s=at_s, wanted=wanted, observed=observed)


def test_history_loads_nothing_heavy_before_it_must() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_history_holds_every_split_that_was_read_back(history: History) -> None:
    seen: list[Any] = [each.observed for each in history.points]
    changes = [now for before, now in zip([None, *seen], seen, strict=False) if now != before]
    assert changes[:4] == [{1: 100.0}, {2: 5.0, 1: 95.0}, {2: 25.0, 1: 75.0}, {2: 100.0}]
    assert changes[-1] == {4: 5.0, 2: 95.0}


def test_history_wants_a_split_before_it_is_read_back(history: History) -> None:
    first_wanted = next(each.at_s for each in history.points if (each.wanted or {}).get(4))
    first_seen = next(each.at_s for each in history.points if (each.observed or {}).get(4))
    assert first_wanted < first_seen


def test_history_tells_who_decided_what_and_why(history: History) -> None:
    (rolled_back, *_) = [event for event in history.events if event.verdict == "roll back"]
    assert (rolled_back.version, rolled_back.actor) == (3, "controller")
    assert "more errors than the control" in rolled_back.reason
    assert any(reading["answer"] == "yes" for reading in rolled_back.evidence)
    assert any(event.kind == "rollout" and event.actor == "dag digits, run 7" for event in history.events)


def test_history_leaves_out_looks_that_waited(history: History) -> None:
    assert not [event for event in history.events if event.title in ("hold", "split")]


def test_history_of_a_span_begins_with_the_split_that_held_then(settings: Settings, history: History) -> None:
    (promoted,) = [event for event in history.events if event.verdict == "promote" and event.version == 2]
    part = read(HANDLE, settings, since_s=promoted.at_s + 30, until_s=promoted.at_s + 60)
    assert [each.observed for each in part.points] == [{2: 100.0}]
    assert part.points[0].at_s == part.since_s
    assert all(part.since_s <= event.at_s <= part.until_s for event in part.events)


def test_history_of_an_endpoint_without_rollouts_is_its_deployment(settings: Settings) -> None:
    newcomer = read("newcomer", settings)
    assert [(event.kind, event.actor) for event in newcomer.events] == [("deployed", NASTY)]
    assert rows(newcomer) == []


def test_history_of_nothing_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="deploy a model version"):
        read("nothing", settings)


def test_history_without_a_controller_may_be_asked_for_again(settings: Settings) -> None:
    with pytest.raises(TransportError, match="trying again is safe"):
        read(HANDLE, replace(settings, controller_url="http://127.0.0.1:9"))


def test_long_ledger_is_read_page_by_page(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(HANDLE, settings, until_s=time.time())
    monkeypatch.setattr("taxiway.history.reading.pages.__kwdefaults__", {"size": 7})
    assert read(HANDLE, settings, until_s=whole.until_s) == whole


@pytest.mark.parametrize(
    ("span_s", "step_s"), [(60, 10), (10_000, 10), (10_001, 60), (86_400, 300), (1e9, 86_400)]
)
def test_buckets_grow_with_the_span(span_s: float, step_s: int) -> None:
    assert step_of(span_s) == step_s


def test_mean_share_is_by_the_time_that_each_split_held() -> None:
    points = (point(0, None, None), point(5, None, {1: 100.0}), point(8, None, {2: 50.0, 1: 50.0}))
    assert mean_shares(points, 0, 10, "observed") == {1: 80.0, 2: 20.0}
    assert mean_shares(points, 20, 30, "observed") == {1: 50.0, 2: 50.0}
    assert mean_shares(points, 0, 4, "observed") == {}
    assert mean_shares(points, 0, 10, "wanted") == {}


def test_rows_join_split_and_metrics_by_time(history: History) -> None:
    found = rows(history)
    during = [row for row in found if row["version"] == 2 and row["observed_pct"] == 25.0]
    assert during
    requests = sum(row["requests"] for row in during)
    beside = {row["at_s"] for row in during}
    total = sum(row["requests"] for row in found if row["at_s"] in beside)
    assert requests / total == pytest.approx(0.25, abs=0.02)
    assert all(row["p99_ms"] >= row["p50_ms"] > 0 for row in during)


def test_rows_carry_rewards_and_verdicts(history: History) -> None:
    found = rows(history)
    clicks = {
        version: sum(row["click_sum"] or 0 for row in found if row["version"] == version)
        / sum(row["requests"] or 0 for row in found if row["version"] == version)
        for version in (1, 2)
    }
    assert clicks == {1: pytest.approx(0.05, abs=0.01), 2: pytest.approx(0.1, abs=0.01)}
    assert {row["verdict"] for row in found if row["version"] == 3} >= {"roll back"}


def test_rows_tell_a_verdict_of_a_version_that_had_no_traffic_in_its_bucket(settings: Settings) -> None:
    """An abort at the very beginning of a bucket leaves the version nothing of it, and is told all the same."""
    clinic = read(CLINIC, settings)
    start_s = (clinic.until_s - 0.001) // clinic.step_s * clinic.step_s
    (aborted,) = (event for event in clinic.events if event.verdict == "abort")
    late = replace(clinic, events=(replace(aborted, at_s=start_s),))
    assert [(row["at_s"], row["version"]) for row in rows(late) if row["verdict"]] == [(start_s, 2)]


def test_rows_of_a_bandit_show_its_weights_move(settings: Settings) -> None:
    found = [row for row in rows(read(SHOP, settings)) if row["version"] == 3]
    assert found[-1]["observed_pct"] > 70 > found[1]["observed_pct"] > 0
    assert "shift" in {row["verdict"] for row in rows(read(SHOP, settings))}


def test_history_tells_an_abort_as_a_persons_and_not_as_a_verdict(settings: Settings) -> None:
    clinic = read(CLINIC, settings)
    assert [(mark.verdict, mark.version) for mark in marks_of(clinic.events)] == [
        ("promote", 1),
        ("abort", 2),
    ]
    assert {row["verdict"] for row in rows(clinic) if row["version"] == 2} >= {"abort"}
    assert "roll back" not in {row["verdict"] for row in rows(clinic)}
    texts = {text.get_text() for text in draw(clinic).axes[0].texts}
    assert texts == {"▲ promoted 1", "✕ aborted 2"}


def test_picture_has_a_sign_for_everything_that_is_marked() -> None:
    """The page has the same signs: whoever knows one can read the other."""
    chart = (ROOT / "plugins" / "taxiway_ui" / "static" / "chart.js").read_text(encoding="utf-8")
    line = next(line for line in chart.splitlines() if line.startswith("const MARKS = "))
    shown = re.findall(r'([a-z][a-z ]*)"?: "(.)"', line)
    assert dict(shown) == {verdict: sign for verdict, (sign, _) in MARKS.items()}
    assert set(MARKS) == {*MARKED, *GIVEN_UP}


def test_history_wants_what_an_abort_asked_for_before_it_is_read_back(tmp_path: Path) -> None:
    """The gateway takes a while: from the abort on stable has all that is wanted, whatever is still read back."""
    plane = with_candidate(Plane(tmp_path))
    try:
        plane.begin(2, name="slow", strategy=GATED)
        until(plane, "slow", Status.PAUSED)
        plane.router._applies_at_once = False
        aborted = plane.act("slow", "abort")
        plane.tick(2)
        points = _folded(told(plane), plane.now_s).points
    finally:
        plane.close()
    assert aborted.state.outcome is Outcome.ABORTED
    assert (points[-1].wanted, points[-1].observed) == ({1: 100.0}, {2: 50.0, 1: 50.0})


def told(plane: Plane) -> list[dict[str, Any]]:
    """Return the ledger as the controller's JSON gives it."""
    return [entry.to_json() for entry in plane.store.entries(HANDLE, after=0, limit=10_000)]


def test_history_says_what_each_version_was_trained_on(settings: Settings, history: History) -> None:
    made = {version: {"dataset": f"digits@v{version}", "dataset_hash": f"h{version}"} for version in (1, 2)}
    found = rows(replace(history, lineage=made))
    assert {(row["version"], row["dataset"], row["dataset_hash"]) for row in found if row["version"] < 4} == {
        (1, "digits@v1", "h1"),
        (2, "digits@v2", "h2"),
        (3, None, None),
    }


def test_lineage_is_read_from_whatever_entry_has_it() -> None:
    first, second = {"dataset": "digits@v1"}, {"dataset": "digits@v2"}
    deployed = {"kind": "deployed", "version": 1, "lineage": first}
    assert lineage_of(deployed) == {1: first}
    assert lineage_of({"kind": "rollout", "version": 2, "lineage": {"1": first, "2": second}}) == {
        1: first,
        2: second,
    }
    assert lineage_of({"kind": "deployed", "version": 1}) == lineage_of({"kind": "split"}) == {}


def test_lineage_of_a_deployment_is_in_the_history(tmp_path: Path) -> None:
    plane = Plane(tmp_path)
    made_of = {"dataset": "digits@v3", "dataset_hash": "abc"}
    try:
        plane.commands.deploy(replace(plane.spec(1), lineage=made_of), actor="ann")
        plane.tick(3)
        plane.begin(1, name="first")
        plane.tick(5, requests=20)
        entries = told(plane)
    finally:
        plane.close()
    kinds = {entry["kind"] for entry in entries if lineage_of(entry).get(1) == made_of}
    assert kinds == {"deployed", "rollout", "live"}
    assert _folded(entries, plane.now_s).lineage == {1: made_of}


def test_rows_join_what_queries_gave(history: History) -> None:
    """The values that looks saw, as the ledger has them, averaged over the bucket that they were measured in."""
    start_s = next(row["at_s"] for row in rows(history) if row["version"] == 2 and row["requests"])
    looks = [
        {"at_s": start_s + after_s, "look": {"measured": {"2/cpu": value, "1/cost": 1.0}}}
        for after_s, value in ((0.0, 0.5), (history.step_s - 1.0, 0.7), (history.step_s, 9.0))
    ]
    measured = tuple(each for look in looks for each in measured_of(look))
    assert measured[0] == Measurement(at_s=start_s, version=2, metric="cpu", value=0.5)
    found = {(row["at_s"], row["version"]): row for row in rows(replace(history, measured=measured))}
    assert found[start_s, 2]["cpu_value"] == pytest.approx(0.6)
    assert found[start_s, 2]["cost_value"] is None
    assert {row["cpu_value"] for (_, version), row in found.items() if version != 2} == {None}


def test_rows_of_one_moment_add_up_to_all_of_the_traffic(history: History) -> None:
    sums: dict[float, float] = {}
    for row in rows(history):
        if row["observed_pct"] is not None:
            sums[row["at_s"]] = sums.get(row["at_s"], 0.0) + row["observed_pct"]
    assert {round(total, 1) for total in sums.values()} == {100.0}


@pytest.mark.parametrize("table", ["timeline", "ledger"])
def test_export_is_the_same_in_every_form(settings: Settings, tmp_path: Path, table: Any) -> None:
    import pyarrow.parquet  # type: ignore[import-untyped]

    now_s = time.time()
    paths = {
        suffix: export(HANDLE, tmp_path / "new" / f"history.{suffix}", settings, table=table, until_s=now_s)
        for suffix in ("json", "csv", "parquet")
    }
    found = json.loads(paths["json"].read_text())
    with paths["csv"].open(newline="") as file:
        told = list(csv.DictReader(file))
    assert [list(row.values()) for row in told] == [
        ["" if value is None else str(value) for value in row.values()] for row in found
    ]
    parquet = pyarrow.parquet.read_table(paths["parquet"]).drop_columns("at").to_pylist()
    assert parquet == [{name: value for name, value in row.items() if name != "at"} for row in found]
    assert not [path for path in paths["json"].parent.iterdir() if path.name.startswith(".")]


def test_exported_ledger_is_whole(settings: Settings, tmp_path: Path, served: Served) -> None:
    entries = served.world.plane.store.entries(HANDLE, after=0, limit=10_000)
    found = json.loads(export(HANDLE, tmp_path / "ledger.json", settings, table="ledger").read_text())
    assert [row["digest"] for row in found] == [entry.digest for entry in entries]
    assert [json.loads(row["body"]) for row in found] == [dict(entry.body) for entry in entries]


def test_export_names_every_fault_at_once(settings: Settings, tmp_path: Path) -> None:
    table: Any = "splits"
    with pytest.raises(InvalidSpecError, match=r"\.xlsx.*timeline or ledger"):
        export(HANDLE, tmp_path / "history.xlsx", settings, table=table)


def test_export_that_fails_leaves_what_was_there(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("mine")
    with pytest.raises(NotFoundError):
        export("nothing", path, settings)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("history.csv", "mine")]


def test_verify_reads_the_whole_ledger(settings: Settings, served: Served) -> None:
    entries = served.world.plane.store.entries(None, after=0, limit=10_000)
    chain = verify(settings)
    assert (chain.entries, chain.broken_at, chain.digest) == (len(entries), None, entries[-1].digest)


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot_writes_a_picture(settings: Settings, tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = plot(HANDLE, tmp_path / "new" / f"history.{suffix}", settings)
    assert path.read_bytes().startswith(magic)


def test_plot_refuses_another_ending(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match=r"\.png, \.svg, \.pdf"):
        plot(HANDLE, tmp_path / "history.bmp", settings)


def test_picture_stacks_versions_and_marks_verdicts(history: History) -> None:
    upper, lower = draw(history).axes
    assert [text.get_text() for text in upper.get_legend().get_texts()] == [  # type: ignore[union-attr]
        "version 1",
        "version 2",
        "version 3",
        "version 4",
        "wanted",
    ]
    assert {text.get_text() for text in upper.texts} >= {"▲ promoted 2", "▼ rolled back 3"}
    assert lower.get_ylabel() == "click per request"
    assert len(lower.lines) == 4


def test_picture_of_another_metric(history: History) -> None:
    assert draw(history, metric="errors").axes[1].get_ylabel() == "failed requests, %"
    assert all(value > 10 for _, value in series(history, "errors", 3))
    assert {value for _, value in series(history, "errors", 2)} == {0.0}


def test_picture_refuses_a_metric_that_nobody_measures(history: History) -> None:
    with pytest.raises(InvalidSpecError, match=r"revenue.*click"):
        draw(history, metric="revenue")


def test_picture_of_an_endpoint_without_traffic_is_empty(settings: Settings) -> None:
    upper, _ = draw(read("newcomer", settings)).axes
    assert upper.get_legend() is None


@pytest.mark.parametrize(
    ("buckets", "points"), [(2, [(10.0, 10.0)]), (4, [(15.0, 10.0)]), (7, [(15.0, 10.0), (45.0, 10.0)])]
)
def test_series_joins_buckets_until_they_say_something(
    history: History, buckets: int, points: list[tuple[float, float]]
) -> None:
    row = {"version": 9, "width_s": 10, "bad": 1, "p50_ms": 5.0, "rewards": {}}
    few = tuple(row | {"at_s": 10 * place, "requests": 10} for place in range(buckets))
    thin = replace(history, timeline=few, step_s=10)
    assert series(thin, "errors", 9) == points
    assert len(series(thin, "p50", 9)) == buckets
