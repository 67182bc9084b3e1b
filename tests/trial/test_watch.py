"""What the watch notes of an endpoint, by answers of the controller's own form."""

from collections.abc import Mapping
from typing import Any

from taxiway.trial.watch import Watch
from taxiway_serving.errors import TransportError


def endpoint(
    observed: Mapping[str, float] | None, *, stable: int | None = 1, rollout: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {"stable": stable, "rollout": rollout, "split": {"observed": observed}}


def rollout(name: str, version: int, *, at_s: float, status: str = "progressing") -> dict[str, Any]:
    return {"id": name, "version": version, "started_at_s": at_s, "status": status}


def look_at(*endpoints: dict[str, Any]) -> Watch:
    answers = iter(endpoints)
    watch = Watch(lambda: next(answers))
    for _ in endpoints:
        watch.look_once()
    return watch


def test_watch_notes_only_what_was_read_back() -> None:
    watch = look_at(endpoint(None, stable=None))

    assert watch.samples == []
    assert watch.shares == {}
    assert watch.live is None


def test_watch_tells_each_new_split_once() -> None:
    told: list[Mapping[int, float]] = []
    answers = iter(
        [endpoint({"1": 100.0}), endpoint({"2": 0.0, "1": 100.0}), endpoint({"2": 5.0, "1": 95.0})]
    )
    watch = Watch(lambda: next(answers), on_split=told.append)

    for _ in range(3):
        watch.look_once()

    assert told == [{1: 100.0}, {2: 5.0, 1: 95.0}]
    assert len(watch.samples) == 3


def test_watch_goes_on_when_the_controller_does_not_answer() -> None:
    def look() -> dict[str, Any]:
        raise TransportError("controller", "ConnectError")

    watch = Watch(look)
    watch.look_once()

    assert watch.samples == []


def test_watch_lists_the_weights_of_a_version_until_it_has_all_or_none() -> None:
    shares = [
        {"1": 100.0},
        {"2": 5.0, "1": 95.0},
        {"2": 25.0, "1": 75.0},
        {"2": 100.0},
        {"3": 5.0, "2": 95.0},
    ]
    watch = look_at(*(endpoint(share) for share in [*shares, {"2": 100.0}]))

    assert watch.weights_pct(1) == (100.0,)
    assert watch.weights_pct(2) == (5.0, 25.0, 100.0)
    assert watch.weights_pct(3) == (5.0, 0.0)


def test_watch_finds_the_rollout_of_this_trial() -> None:
    watch = look_at(
        endpoint({"2": 100.0}, rollout=rollout("old", 3, at_s=10.0, status="ended")),
        endpoint({"2": 100.0}, rollout=rollout("new", 3, at_s=20.0)),
    )

    found = watch.rollout_of(3, since_s=15.0)

    assert found is not None
    assert found["id"] == "new"
    assert watch.rollout_of(3, since_s=25.0) is None
    assert watch.unfinished_rollout == found
