"""The comparator with real model servers: what differs is found, noise is not blamed, nothing is held up."""

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxiway_serving.contracts import Until
from taxiway_serving.criterion import Criterion
from taxiway_serving.errors import InvalidNameError
from taxiway_serving.evidence.comparison import Comparison
from taxiway_serving.shadow.calls import Target
from taxiway_serving.shadow.comparator import comparing
from taxiway_serving.shadow.lane import Comparing, Limits
from taxiway_serving.shadow.log import ShadowBatch, ShadowLog, log_path
from tests.ports import free_port, refusing_port

Predict = Callable[[int], Any]
PATIENT = Limits(call_s=600.0, compare_s=600.0)
"""What is too slow is said by the test that wants it so, never by the machine."""
ROOMY = replace(PATIENT, waiting=1000)
LABEL = Criterion(pointer="/label")
NO_HEADERS: Mapping[str, str] = {}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the default of 5, a burst waits a second for its connections


class Model:
    """A model server in threads of this process: it answers a number with what a function says."""

    def __init__(self, predict: Predict) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                model.seen.append((self.path, headers, body))
                said = predict(int(body))
                status, value = said if isinstance(said, tuple) else (200, said)
                answer = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json; charset=utf-8")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def target(self, version: int) -> Target:
        return Target(version=version, host="127.0.0.1", port=self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


MakeModel = Callable[[Predict], Model]


@pytest.fixture
def model() -> Iterator[MakeModel]:
    with ExitStack() as stack:

        def make(predict: Predict) -> Model:
            made = Model(predict)
            stack.callback(made.close)
            return made

        yield make


def parity(number: int) -> dict[str, Any]:
    return {"label": number % 2, "p": 0.75}


@contextmanager
def mirroring(port: int, handle: str = "digits") -> Iterator[Callable[..., int]]:
    """Give a function that sends a request as the gateway mirrors it, and returns the status of its answer."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:

        def send(number: int, path: str = "/predict", **headers: str) -> int:
            usual = {"x-taxiway-handle": handle, "x-request-id": str(number), "content-type": "text/plain"}
            return client.post(path, content=str(number), headers={**usual, **headers}).status_code

        yield send


def read(home: Path, handle: str = "digits") -> ShadowBatch:
    return ShadowLog(log_path(home, handle)).read("")


def compared(
    home: Path,
    until: Until,
    pair: Comparing,
    numbers: range = range(1),
    *,
    limits: Limits = ROOMY,
    headers: Mapping[str, str] = NO_HEADERS,
) -> tuple[Comparison, ...]:
    """Mirror some numbers to a comparator of its own, and return what it found."""
    with comparing(home, limits=limits) as comparator, mirroring(comparator.port) as send:
        comparator.follow("digits", pair)
        assert {send(number, **headers) for number in numbers} == {202}
        until(lambda: comparator.counts("digits").compared == len(numbers))
    batch = read(home)
    assert batch.is_complete
    return batch.comparisons


@pytest.mark.slow
def test_difference_that_was_planted_is_found_and_no_other(
    model: MakeModel, tmp_path: Path, until: Until
) -> None:
    wrong = range(7, 300, 50)
    stable = model(parity)
    candidate = model(lambda n: {**parity(n), "label": 9} if n in wrong else parity(n))
    pair = Comparing(stable=stable.target(1), candidate=candidate.target(2))
    found = compared(tmp_path, until, pair, range(300))
    assert {int(each.request_id) for each in found if each.candidate_differs} == set(wrong)
    assert not any(each.noise_differs or each.failed for each in found)
    assert {(each.stable, each.candidate) for each in found} == {(1, 2)}
    assert (len(stable.seen), len(candidate.seen)) == (600, 300)
    blamed = next(each for each in found if each.candidate_differs)
    assert blamed.detail.startswith("/label: ")
    assert set(blamed.ms) == {"stable", "again", "candidate"}


def test_answers_that_are_never_twice_the_same_blame_nobody(
    model: MakeModel, tmp_path: Path, until: Until
) -> None:
    calls = itertools.count()
    noisy = model(lambda n: {**parity(n), "id": next(calls)})
    pair = Comparing(stable=noisy.target(1), candidate=noisy.target(2))
    found = compared(tmp_path, until, pair, range(30))
    assert all(each.candidate_differs and each.noise_differs for each in found)
    assert not any(each.candidate_differs != each.noise_differs for each in found)


def test_part_that_is_compared_leaves_the_noise_out(model: MakeModel, tmp_path: Path, until: Until) -> None:
    calls = itertools.count()
    noisy = model(lambda n: {**parity(n), "id": next(calls)})
    pair = Comparing(stable=noisy.target(1), candidate=noisy.target(2), criterion=LABEL)
    found = compared(tmp_path, until, pair, range(30))
    assert not any(each.candidate_differs or each.noise_differs or each.failed for each in found)


def test_dead_candidate_is_a_failure_and_no_difference(
    model: MakeModel, tmp_path: Path, until: Until
) -> None:
    with refusing_port() as gone:
        candidate = Target(version=2, host="127.0.0.1", port=gone)
        pair = Comparing(stable=model(parity).target(1), candidate=candidate)
        (found,) = compared(tmp_path, until, pair)
    assert (found.failed, found.candidate_differs, found.noise_differs) == (("candidate",), False, False)
    assert found.detail.startswith("candidate: ClientConnectorError")


@pytest.mark.parametrize(
    ("status", "failed", "differs"), [(500, (), True), (503, ("candidate",), False)], ids=["error", "busy"]
)
def test_error_of_the_candidate_is_its_answer_and_overload_is_none(
    model: MakeModel, tmp_path: Path, until: Until, status: int, failed: tuple[str, ...], differs: bool
) -> None:
    broken = model(lambda n: (status, {}))
    (found,) = compared(
        tmp_path, until, Comparing(stable=model(parity).target(1), candidate=broken.target(2))
    )
    assert (found.failed, found.candidate_differs) == (failed, differs)


def test_candidate_that_does_not_answer_in_time_has_failed(
    model: MakeModel, tmp_path: Path, until: Until
) -> None:
    released = threading.Event()
    slow = model(lambda n: released.wait())
    pair = Comparing(stable=model(parity).target(1), candidate=slow.target(2))
    (found,) = compared(tmp_path, until, pair, limits=replace(PATIENT, call_s=0.5))
    released.set()
    assert "candidate" in found.failed
    assert "candidate: no answer within 0.5 s" in found.detail


def test_slow_candidate_drops_what_is_too_much_and_holds_up_nobody(
    model: MakeModel, tmp_path: Path, until: Until
) -> None:
    released = threading.Event()
    slow, stable = model(lambda n: released.wait() and parity(n)), model(parity)
    pair = Comparing(stable=stable.target(1), candidate=slow.target(2))
    with comparing(tmp_path, limits=replace(PATIENT, at_once=2, waiting=3)) as comparator:
        comparator.follow("digits", pair)
        comparator.follow("letters", replace(pair, candidate=stable.target(2)))
        with mirroring(comparator.port) as send:
            answers = [send(number) for number in range(20)]
        with mirroring(comparator.port, "letters") as send:
            assert send(1) == 202
        until(lambda: comparator.counts("letters").compared == 1)
        assert answers == [202] * 5 + [503] * 15
        assert (comparator.counts("digits").compared, comparator.counts("digits").waiting) == (0, 5)
        until(lambda: len(slow.seen) == 2)
        released.set()
        until(lambda: comparator.counts("digits").compared == 5)
        assert len(slow.seen) == 5
    batch = read(tmp_path)
    assert (len(batch.comparisons), batch.dropped) == (5, 15)


def test_variants_are_asked_what_the_client_asked_and_told_that_it_is_a_shadow(
    model: MakeModel, tmp_path: Path, until: Until
) -> None:
    stable, candidate = model(parity), model(parity)
    pair = Comparing(stable=stable.target(1), candidate=candidate.target(2))
    with comparing(tmp_path, limits=PATIENT) as comparator, mirroring(comparator.port) as send:
        comparator.follow("digits", pair)
        send(5, "/v2/a%2Fb?top=3&name=a%20b", **{"x-user-id": "ada", "x-envoy-retry-on": "5xx", "x-own": "1"})
        until(lambda: comparator.counts("digits").compared == 1)
    path, headers, body = candidate.seen[0]
    assert (path, body) == ("/v2/a%2Fb?top=3&name=a%20b", b"5")
    wanted = {"content-type": "text/plain", "x-own": "1", "x-user-id": "ada", "x-taxiway-shadow": "1"}
    assert wanted.items() <= headers.items()
    assert "x-envoy-retry-on" not in headers
    assert [path for path, _, _ in stable.seen] == ["/v2/a%2Fb?top=3&name=a%20b"] * 2


@pytest.mark.parametrize(
    ("headers", "unit"),
    [
        ({"x-user-id": "ada", "x-taxiway-unit": "c0ffee"}, "user:ada"),
        ({"x-taxiway-unit": "c0ffee"}, "cookie:c0ffee"),
        ({"x-request-id": "8e3a6c1e-0f5d-4c1e"}, "request:8e3a6c1e-0f5d"),
    ],
    ids=["user", "cookie", "request"],
)
def test_comparison_knows_whose_request_it_was(
    model: MakeModel, tmp_path: Path, until: Until, headers: dict[str, str], unit: str
) -> None:
    same = model(parity)
    pair = Comparing(stable=same.target(1), candidate=same.target(2))
    (found,) = compared(tmp_path, until, pair, headers=headers)
    assert found.unit == unit


def test_only_calls_of_followed_handles_are_taken(model: MakeModel, tmp_path: Path) -> None:
    same = model(parity)
    pair = Comparing(stable=same.target(1), candidate=same.target(2))
    with (
        comparing(tmp_path, limits=replace(PATIENT, body_bytes=5)) as comparator,
        mirroring(comparator.port) as send,
    ):
        assert send(1) == 404
        comparator.follow("letters", pair)
        assert send(1) == 404
        comparator.follow("digits", pair)
        assert send(123456) == 413
        get = httpx.get(f"http://127.0.0.1:{comparator.port}/predict", trust_env=False, timeout=60)
        assert get.status_code == 405
        comparator.leave("digits")
        comparator.leave("digits")
        assert send(1) == 404
        with pytest.raises(InvalidNameError):
            comparator.follow("Digits", pair)
    assert same.seen == []
    assert not log_path(tmp_path, "digits").exists()


def test_what_waits_is_forgotten_when_a_handle_is_left_or_compared_otherwise(
    model: MakeModel, tmp_path: Path, until: Until
) -> None:
    released = threading.Event()
    slow, same = model(lambda n: released.wait() and parity(n)), model(parity)
    pair = Comparing(stable=same.target(1), candidate=slow.target(2))
    with comparing(tmp_path, limits=PATIENT) as comparator, mirroring(comparator.port) as send:
        comparator.follow("digits", pair)
        assert send(1) == 202
        until(lambda: len(slow.seen) == 1)
        comparator.follow("digits", replace(pair))
        assert comparator.counts("digits").waiting == 1
        comparator.follow("digits", replace(pair, candidate=same.target(3)))
        assert comparator.following("digits") == replace(pair, candidate=same.target(3))
        assert send(2) == 202
        until(lambda: comparator.counts("digits").compared == 1)
        released.set()
    assert [each.candidate for each in read(tmp_path).comparisons] == [3]


def test_answer_that_is_too_long_has_failed(model: MakeModel, tmp_path: Path, until: Until) -> None:
    long = model(lambda n: b" " * 2000 + b"1")
    pair = Comparing(stable=model(parity).target(1), candidate=long.target(2))
    (found,) = compared(tmp_path, until, pair, limits=replace(PATIENT, answer_bytes=1000))
    assert (found.failed, found.detail) == (("candidate",), "candidate: an answer of more than 1000 bytes")


THEIRS = """
import threading

released = threading.Event()

def hangs(stable, candidate):
    released.wait()
    return True

def tenths(stable, candidate):
    return round(stable.json()["p"], 1) == round(candidate.json()["p"], 1)
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package with comparisons of its own, as it is installed."""
    about = tmp_path / "site" / "theirs-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = "[taxiway.comparisons]\nhangs = theirs:hangs\ntenths = theirs:tenths\n"
    (about / "entry_points.txt").write_text(points)
    (tmp_path / "site" / "theirs.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    import theirs  # type: ignore[import-not-found]

    yield theirs
    theirs.released.set()


def test_users_comparison_decides(theirs: Any, model: MakeModel, tmp_path: Path, until: Until) -> None:
    candidate = model(lambda n: {**parity(n), "p": 0.84 if n else 0.9})
    criterion = Criterion(function="tenths")
    pair = Comparing(stable=model(parity).target(1), candidate=candidate.target(2), criterion=criterion)
    found = compared(tmp_path, until, pair, range(4))
    assert {int(each.request_id) for each in found if each.candidate_differs} == {0}
    assert not any(each.failed for each in found)


@pytest.mark.parametrize(
    ("name", "limits", "why"),
    [
        ("hangs", replace(PATIENT, compare_s=0.1), "comparing the answers took more than 0.1 s"),
        ("gone", PATIENT, "no installed package"),
    ],
    ids=["hangs", "gone"],
)
def test_users_comparison_that_fails_is_a_failed_comparison_and_stops_nothing(
    theirs: Any, model: MakeModel, tmp_path: Path, until: Until, name: str, limits: Limits, why: str
) -> None:
    same = model(parity)
    pair = Comparing(stable=same.target(1), candidate=same.target(2), criterion=Criterion(function=name))
    found = compared(tmp_path, until, pair, range(3), limits=limits)
    assert [each.failed for each in found] == [("comparison",)] * 3
    assert all(why in each.detail for each in found)


def test_log_that_cannot_be_written_is_counted_and_told_later(
    model: MakeModel, tmp_path: Path, until: Until
) -> None:
    same, in_the_way = model(parity), log_path(tmp_path, "digits")
    in_the_way.mkdir(parents=True)
    with comparing(tmp_path, limits=PATIENT) as comparator, mirroring(comparator.port) as send:
        comparator.follow("digits", Comparing(stable=same.target(1), candidate=same.target(2)))
        send(1)
        until(lambda: comparator.counts("digits").dropped == 1)
        in_the_way.rmdir()
        send(2)
        until(lambda: comparator.counts("digits").compared == 1)
    batch = read(tmp_path)
    assert ([each.request_id for each in batch.comparisons], batch.dropped) == (["2"], 1)


def remember(home: Path, port: int) -> None:
    """Have a home's next comparator find a port written down, as one before it has left it."""
    (home / "shadow").mkdir(exist_ok=True)
    (home / "shadow" / "port").write_text(f"{port}\n")


def test_comparator_is_found_again_where_it_was(tmp_path: Path) -> None:
    port = free_port()
    remember(tmp_path, port)
    with comparing(tmp_path) as first:
        assert first.port == port
        with comparing(tmp_path) as second:
            assert second.port != port
    remember(tmp_path, port)
    with comparing(tmp_path) as third:
        assert third.port == port
    remember(tmp_path, 99999999999)
    with comparing(tmp_path) as fourth, mirroring(fourth.port) as send:
        assert send(1) == 404


@pytest.mark.skipif(sys.platform != "linux", reason="loopback is one address there")
def test_comparator_listens_where_it_is_told_and_says_so_as_a_number(tmp_path: Path) -> None:
    with comparing(tmp_path, host="127.0.0.2") as made:
        assert made.host == "127.0.0.2"
        answer = httpx.post(f"http://127.0.0.2:{made.port}/", timeout=60, trust_env=False)
        assert answer.status_code == 404
    with comparing(tmp_path, host="localhost") as made:
        assert made.host == "127.0.0.1"


HOLDER = """
import sys, time
from pathlib import Path
from taxiway_serving.shadow.calls import Target
from taxiway_serving.shadow.comparator import comparing
from taxiway_serving.shadow.lane import Comparing
home, stable, candidate = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
targets = [Target(version=v, host="127.0.0.1", port=p) for v, p in ((1, stable), (2, candidate))]
with comparing(home) as comparator:
    comparator.follow("digits", Comparing(stable=targets[0], candidate=targets[1]))
    print(comparator.port, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_kill_of_the_controller_loses_only_what_is_under_way(
    model: MakeModel, tmp_path: Path, until: Until
) -> None:
    released = threading.Event()
    same = model(parity)
    held = model(lambda n: (n < 20 or released.wait()) and parity(n))
    ports = [str(each.target(1).port) for each in (same, held)]
    # One that nobody takes between the end of the first and the beginning of its heir.
    remember(tmp_path, free_port())
    argv = [sys.executable, "-c", HOLDER, str(tmp_path), *ports]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with mirroring(port) as send:
            assert {send(number) for number in range(24)} == {202}
            until(lambda: len(read(tmp_path).comparisons) == 20 and len(held.seen) == 24)
        holder.send_signal(signal.SIGKILL)
    released.set()
    before = read(tmp_path)
    assert {int(each.request_id) for each in before.comparisons} == set(range(20))
    assert before.is_complete
    with comparing(tmp_path, limits=PATIENT) as heir, mirroring(heir.port) as send:
        assert heir.port == port
        heir.follow("digits", Comparing(stable=same.target(1), candidate=held.target(2)))
        send(30)
        until(lambda: heir.counts("digits").compared == 1)
    after = ShadowLog(log_path(tmp_path, "digits")).read(before.cursor)
    assert ([each.request_id for each in after.comparisons], after.is_complete) == (["30"], True)
