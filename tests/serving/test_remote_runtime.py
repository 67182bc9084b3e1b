"""Variants at an address: looked at in the background, remembered over a restart, never started nor stopped."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import Until
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.joined import JoinedRuntime
from taxiway_serving.runtimes.remote import LOOK_S, RemoteRuntime
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.testing import FakeRuntime

FIRST = VariantId(handle="digits", version=1)


class Elsewhere:
    """A server that somebody else runs, with a clock."""

    def __init__(self) -> None:
        self.now_s, self.answer = 1_000_000.0, Answer.NO
        self.asked: list[str] = []

    def clock(self) -> float:
        return self.now_s

    def probe(self, url: str) -> Answer:
        self.asked.append(url)
        return self.answer


def spec(version: int = 1, **changes: object) -> VariantSpec:
    usual = {
        "handle": "digits",
        "version": version,
        "model": f"digits/{version}",
        "url": "http://models.example:5000",
    }
    return VariantSpec(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def runtime(tmp_path: Path, elsewhere: Elsewhere) -> Iterator[RemoteRuntime]:
    made = RemoteRuntime(tmp_path, clock=elsewhere.clock, probe=elsewhere.probe)
    yield made
    made.close()


def seen(runtime: RemoteRuntime, elsewhere: Elsewhere) -> Callable[[str], bool]:
    """Return whether the variant is in a phase, a look later each time."""

    def is_in(phase: str) -> bool:
        elsewhere.now_s += LOOK_S
        return runtime.observe()[FIRST].phase == phase

    return is_in


def test_it_is_ready_once_it_answers_and_has_its_address(
    runtime: RemoteRuntime, elsewhere: Elsewhere, until: Until
) -> None:
    runtime.ensure(spec(ready_path="/health"))
    assert runtime.observe()[FIRST].phase == "starting"
    elsewhere.answer = Answer.YES
    is_in = seen(runtime, elsewhere)
    until(lambda: is_in("ready"))
    state = runtime.observe()[FIRST]
    assert (state.host, state.port, state.pid, state.restarts) == ("models.example", 5000, None, 0)
    assert set(elsewhere.asked) == {"http://models.example:5000/health"}
    assert runtime.ready(FIRST) is Answer.YES
    assert "answers" in runtime.logs(FIRST, tail=5)


def test_one_that_never_answers_fails_at_its_deadline(runtime: RemoteRuntime, elsewhere: Elsewhere) -> None:
    runtime.ensure(spec(ready_deadline_s=30))
    elsewhere.now_s += 29
    assert runtime.observe()[FIRST].phase == "starting"
    elsewhere.now_s += 2
    state = runtime.observe()[FIRST]
    assert state.phase == "failed"
    assert "has not answered 200 for 30 s" in state.reason


def test_one_that_falls_silent_fails_and_comes_back(
    runtime: RemoteRuntime, elsewhere: Elsewhere, until: Until
) -> None:
    runtime.ensure(spec(ready_deadline_s=30))
    is_in = seen(runtime, elsewhere)
    elsewhere.answer = Answer.YES
    until(lambda: is_in("ready"))
    elsewhere.answer = Answer.UNKNOWN
    until(lambda: is_in("failed"))
    elsewhere.answer = Answer.YES
    until(lambda: is_in("ready"))
    elsewhere.answer = Answer.NO
    elsewhere.now_s += 20
    assert runtime.observe()[FIRST].phase == "ready"


def test_versions_at_one_address_are_asked_once_a_second(
    runtime: RemoteRuntime, elsewhere: Elsewhere, until: Until
) -> None:
    for version in range(1, 51):
        runtime.ensure(spec(version))
    for _ in range(20):
        runtime.observe()
    until(lambda: bool(elsewhere.asked))
    assert len(elsewhere.asked) == 1


def test_a_controller_that_starts_again_knows_it_before_it_is_told(
    runtime: RemoteRuntime, elsewhere: Elsewhere, tmp_path: Path, until: Until
) -> None:
    elsewhere.answer = Answer.YES
    runtime.ensure(spec())
    is_in = seen(runtime, elsewhere)
    until(lambda: is_in("ready"))
    since_s = runtime.observe()[FIRST].since_s
    again = RemoteRuntime(tmp_path, clock=elsewhere.clock, probe=elsewhere.probe)
    assert (again.observe()[FIRST].phase, again.observe()[FIRST].since_s) == ("ready", since_s)
    again.ensure(spec())
    assert again.observe()[FIRST].since_s == since_s
    again.close()


def test_stopped_is_forgotten_and_asked_again_begins_anew(
    runtime: RemoteRuntime, elsewhere: Elsewhere
) -> None:
    runtime.ensure(spec())
    runtime.stop(FIRST, grace_s=0)
    assert runtime.observe()[FIRST].phase == "stopped"
    assert runtime.ready(FIRST) is Answer.NO
    elsewhere.now_s += 100
    runtime.ensure(spec())
    assert (runtime.observe()[FIRST].phase, runtime.observe()[FIRST].since_s) == ("starting", elsewhere.now_s)


def test_without_an_address_it_is_refused(runtime: RemoteRuntime, tmp_path: Path) -> None:
    local = spec(url="", python=tmp_path, model_dir=tmp_path)
    with pytest.raises(InvalidSpecError, match="url is missing"):
        runtime.ensure(local)


def test_a_version_that_moves_elsewhere_is_stopped_here_and_back(
    runtime: RemoteRuntime, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    own = FakeRuntime()
    joined = JoinedRuntime(own, runtime)
    local = spec(url="", python=tmp_path, model_dir=tmp_path, bento_dir=tmp_path)
    joined.ensure(local)
    assert own.specs == {FIRST: local}
    joined.ensure(spec())
    assert own.specs == {}
    assert joined.observe()[FIRST].host == "models.example"
    joined.ensure(local)
    assert joined.observe()[FIRST].host != "models.example"
    joined.stop(FIRST, grace_s=0)
    assert joined.observe()[FIRST].phase == "stopped"
    assert joined.ready(FIRST) is Answer.NO
