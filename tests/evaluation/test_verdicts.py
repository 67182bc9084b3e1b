"""Verdicts are kept apart by who asked and with what bars, in the tags of a run."""

from taxiway.registry import verdicts
from taxiway.registry.tracking import Run
from taxiway.registry.verdicts import Verdict


def judged(tags: dict[str, str]) -> Run:
    return Run(
        run_id="r", experiment_id="1", status="FINISHED", started_at_s=0.0, params={}, metrics={}, tags=tags
    )


def test_verdict_again_is_one_and_newest_is_last() -> None:
    tags: dict[str, str] = {}
    closed = Verdict(said="accuracy 0.1 is below its minimum 0.8", by="airflow d.evaluate r", at="2026-01-01")
    opened = Verdict(said="passed", by=verdicts.NOTEBOOK, at="2026-01-02")
    for mark, each in (("0" * 12, closed), ("1" * 12, opened), ("1" * 12, opened)):
        tags |= verdicts.tags(judged(tags), mark, each)
    assert verdicts.of(judged(tags)) == (closed, opened)
    assert tags[verdicts.GATE] == "passed"
    assert str(opened) == "passed (a notebook, 2026-01-02)"


def test_verdict_from_before_they_were_kept_apart_is_kept_and_nobody_s() -> None:
    tags = {verdicts.GATE: "passed"}
    assert verdicts.of(judged(tags)) == ()
    tags |= verdicts.tags(judged(tags), "0" * 12, Verdict(said="x" * 9_000, by="b", at="2026-01-01"))
    earlier, newest = verdicts.of(judged(tags))
    assert str(earlier) == "passed (nobody wrote down who asked)"
    assert all(len(text) < 4_000 for text in (newest.said, *tags.values()))
