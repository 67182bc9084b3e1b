"""Attempts that Envoys tell the controller: the same lines as in a file, each once, and what is missing is unknown."""

import errno
import itertools
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from taxiway_serving.contracts import SourceContract, Until
from taxiway_serving.errors import TransportError
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.als import AttemptReceiver, FleetAttempts
from taxiway_serving.evidence.source import Batch
from taxiway_serving.routing import bootstrap
from taxiway_serving.routing.ads_bootstrap import attempt_line
from taxiway_serving.split import Split
from tests.serving.conftest import Toy, answers
from tests.serving.fleet import Controller, fleet_settings
from tests.serving.test_access_log import line_of
from tests.serving.traffic import predict, put, table

ROW = {
    "at_s": "1.000",
    "handle": "digits",
    "cluster": "digits/1",
    "version": "1",
    "status": 200,
    "via": "split",
}


class Log:
    """A receiver, the source over it, and what its one Envoy says it has logged."""

    def __init__(self, path: Path) -> None:
        self.now_s, self.logged, self.is_there = 0.0, 0, True
        self.receiver = AttemptReceiver(path, clock=lambda: self.now_s)
        self.receiver.open()
        self.source = FleetAttempts(AttemptLog(path), self.receiver, self.ask, clock=lambda: self.now_s)
        self.cursor, self._number = "", 0

    def ask(self) -> dict[str, int]:
        if not self.is_there:
            raise TransportError("gateway", "does not answer")
        return {"gateway": self.logged}

    def tell(self, count: int) -> None:
        rows = []
        for _ in range(count):
            self._number += 1
            usual = {"flags": "-", "duration_ms": 1, "answer_us": None, "number": "1", "contract": None}
            rows.append({**ROW, **usual, "request_id": str(self._number), "user": None, "uid": None})
        self.receiver.take("gateway", rows)

    def look(self, after_s: float = 1.0) -> Batch:
        self.now_s += after_s
        batch = self.source.read(self.cursor)
        self.cursor = batch.cursor
        return batch


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "attempts.jsonl")


class TestFleetAttempts(SourceContract):
    @pytest.fixture
    def source(self, log: Log, tmp_path: Path) -> FleetAttempts:
        seconds = itertools.count()
        own = AttemptLog(tmp_path / "attempts.jsonl")
        return FleetAttempts(own, log.receiver, log.ask, clock=lambda: next(seconds))

    @pytest.fixture
    def add(self, log: Log) -> Callable[..., None]:
        return lambda *told: log.receiver.take("gateway", [json.loads(line_of(each)) for each in told])

    @pytest.fixture
    def lose(self, log: Log) -> Callable[[], None]:
        return lambda: log.receiver.joined("gateway", had_before=True)


def test_what_was_told_is_evidence(log: Log) -> None:
    log.receiver.joined("gateway", had_before=False)
    assert log.look().is_complete
    log.logged = 3
    log.tell(3)
    batch = log.look()
    assert (len(batch.attempts), batch.is_complete) == (3, True)
    assert log.look().is_complete


def test_what_is_told_twice_is_written_once(log: Log, tmp_path: Path) -> None:
    row = {**ROW, "request_id": "7"}
    log.receiver.take("gateway", [row, row])
    log.receiver.take("gateway", [row])
    log.receiver.take("other", [row])
    assert len((tmp_path / "attempts.jsonl").read_text().splitlines()) == 2


def test_what_is_logged_and_does_not_come_is_unknown_until_it_is_given_up(log: Log) -> None:
    log.receiver.joined("gateway", had_before=False)
    log.logged = 5
    log.tell(3)
    assert log.look().is_complete  # the other two may be on their way
    assert not log.look().is_complete
    log.tell(2)
    assert log.look().is_complete
    log.logged = 9
    log.look()
    assert [log.look(0.5).is_complete for _ in range(8)] == [False] * 5 + [True] * 3


def test_envoy_that_cannot_be_asked_is_unknown(log: Log) -> None:
    assert log.look().is_complete
    log.is_there = False
    assert not log.look().is_complete


def test_envoy_that_comes_back_leaves_a_gap_in_the_log(log: Log, tmp_path: Path) -> None:
    log.receiver.joined("gateway", had_before=True)
    log.logged = 100
    assert [log.look().is_complete for _ in range(2)] == [False, True]
    assert json.loads((tmp_path / "attempts.jsonl").read_text()) == {"gap": "gateway"}
    log.tell(2)
    log.logged = 102
    assert [log.look().is_complete for _ in range(2)] == [True, True]


def test_envoy_that_is_gone_leaves_a_gap_in_the_log(log: Log, tmp_path: Path) -> None:
    """What a killed Envoy had not told yet nobody can count: not even that it was none."""
    log.receiver.joined("gateway", had_before=False)
    log.tell(2)
    log.logged = 2
    assert log.look().is_complete
    log.receiver.left("gateway")
    assert [log.look().is_complete for _ in range(2)] == [False, True]
    assert json.loads((tmp_path / "attempts.jsonl").read_text().splitlines()[-1]) == {"gap": "gateway"}


def test_attempts_that_the_disk_did_not_take_are_not_received(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = os.write

    def nearly_full(handle: int, content: bytes) -> int:
        monkeypatch.setattr(os, "write", full)
        return written(handle, content[: len(content) // 2])

    def full(_handle: int, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    log.receiver.joined("gateway", had_before=False)
    monkeypatch.setattr(os, "write", nearly_full)
    with pytest.raises(OSError, match="no space left"):
        log.tell(10)
    monkeypatch.undo()
    log.logged = 10
    log.look()
    assert not log.look().is_complete


def test_restarted_envoy_counts_anew(log: Log) -> None:
    log.receiver.joined("gateway", had_before=False)
    log.logged = 4
    log.tell(4)
    log.look()
    log.receiver.joined("gateway", had_before=False)
    log.logged = 1
    log.tell(1)
    assert [log.look().is_complete for _ in range(2)] == [False, True]


@pytest.mark.slow
def test_lines_are_those_of_envoys_own_log(tmp_path: Path, toy: Callable[..., Toy], until: Until) -> None:
    """One Envoy writes its own log and tells the controller as well."""
    settings, (own,) = fleet_settings(tmp_path, envoys=1)
    controller = Controller(settings)
    config = bootstrap.prepare(own)
    content = json.loads(config.read_text())
    filters = content["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
    (told,) = filters[0]["typed_config"]["http_filters"][-1]["typed_config"]["upstream_log"]
    written = bootstrap.file_log(own.attempt_log, attempt_line())
    filters[0]["typed_config"]["http_filters"][-1]["typed_config"]["upstream_log"].append(
        {**written, "filter": told["filter"]}
    )
    config.write_text(json.dumps(content))
    toys = toy(1, contract="kept"), toy(2, fail_every=2)
    controller.router.publish(table(Split.of(1, {2: 50}), *toys))
    envoy = subprocess.Popen(bootstrap.command(own, config))
    try:
        until(lambda: answers(own.envoy_admin_url + "/ready"))
        put(controller.router, table(Split.of(1, {2: 50}), *toys), until)
        with httpx.Client(base_url=own.gateway_url, trust_env=False, timeout=60) as client:
            for user in range(40):
                assert predict(client, user).status_code == 200
            for _ in range(10):
                client.post("/digits/predict", content=b"{}")
            predict(client, "-", **{"x-taxiway-version": "2"})
            toys[1].kill()
            for user in range(10):
                predict(client, user)
        until(lambda: len(lines(settings.attempt_log)) == len(lines(own.attempt_log)) > 60)
        assert lines(settings.attempt_log) == lines(own.attempt_log)
        batch = AttemptLog(settings.attempt_log).read("")
        assert (batch.is_complete, {a.via for a in batch.attempts}) == (True, {"split", "pin"})
    finally:
        envoy.kill()
        envoy.wait()
        controller.close()


def lines(path: Path) -> list[str]:
    """Return the rows of a log, in an order of their own; one that is being written is none yet."""
    told = path.read_text().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in told if line.endswith("\n")]
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def test_cursor_of_another_machines_log_goes_on_at_the_end(log: Log, tmp_path: Path) -> None:
    log.tell(2)
    shared = AttemptLog(tmp_path / "attempts.jsonl", resumes_at_end=True)
    other = tmp_path / "other.jsonl"
    other.write_text('{"a": 1}\n')
    batch = shared.read(AttemptLog(other).end())
    assert (batch.attempts, batch.is_complete) == ((), False)
    log.tell(1)
    after = shared.read(batch.cursor)
    assert (len(after.attempts), after.is_complete) == (1, True)
