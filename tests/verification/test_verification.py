"""Verification against a real server, good and bad in each way: every check can fail, and none passes by default."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from taxiway_serving.answers import Answer
from taxiway_serving.evidence import verification
from taxiway_serving.evidence.verification import Check, Contract, Report, read_contract, verify

pytestmark = pytest.mark.slow

Handler = Callable[[Request], Awaitable[Response]]
Serve = Callable[[Handler], str]
GATEWAY = {
    "x-taxiway-handle": "sums",
    "x-taxiway-version": "3",
    "x-taxiway-model": "sums/3",
    "x-request-id": "17",
}


SLOW_MS = 3_000.0
"""Slower than any answer here is by itself, on whatever machine."""


@dataclass(frozen=True)
class Sla:
    p99_ms: float = 60_000
    rate_rps: float = 50


@dataclass
class Sums:
    """An endpoint that adds numbers; each field is a way to be bad."""

    answer: Callable[[int], Any] = lambda total: {"total": total}
    headers: Mapping[str, str] | None = None
    malformed_status: int = 400
    malformed_body: bytes = b'{"error": "numbers must be a list"}'
    delay_s: Callable[[int], float] = lambda _number: 0.0
    status: Callable[[int], int] = lambda _number: 200
    requests: int = 0

    async def __call__(self, request: Request) -> Response:
        self.requests += 1
        number = self.requests
        status = self.status(number)
        await asyncio.sleep(self.delay_s(number))
        headers = GATEWAY if self.headers is None else self.headers
        try:
            total = sum(json.loads(await request.body())["numbers"])
        except (ValueError, TypeError, KeyError):
            return Response(self.malformed_body, self.malformed_status, headers)
        if status != 200:
            return JSONResponse({"error": "no"}, status, headers)
        return JSONResponse(self.answer(total), headers=headers)


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what left late on a busy machine count as offered, but where that is what is tested."""
    if "could_not_offer" not in request.node.name:
        monkeypatch.setattr(verification, "_GRACE_S", 60.0)


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    document = {
        "api": "add",
        "requests": [{"name": "three", "json": {"numbers": [1, 2]}, "expect": {"total": 3}}],
        "response": {"type": "object", "required": ["total"], "properties": {"total": {"type": "integer"}}},
        "malformed": [{"name": "text", "json": {"numbers": "1, 2"}}, {"name": "broken", "body": "{"}],
    }
    (tmp_path / "contract.json").write_text(json.dumps(document))
    return read_contract(tmp_path)


def examine(url: str, contract: Contract, sla: Sla | None = None, **options: Any) -> Report:
    short = {"seconds_at_rate": 0.3, "seconds_overload": 0.3, "recovery_s": 0.5}
    return verify(url, contract, sla or Sla(), **short | options)


def check(report: Report, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.answer is not Answer.YES}


def test_verification_passes_a_good_endpoint(serve_app: Serve, contract: Contract) -> None:
    report = examine(serve_app(Sums()), contract, headers={"x-taxiway-version": "3"})
    assert report.passed, report.failures
    assert [check.name for check in report.checks] == ["contract", "malformed", "rate", "overload"]
    rate = check(report, "rate").figures
    assert rate["requests"] == 15
    assert rate["statuses"] == {"200": 15}
    assert rate["p50_ms"] <= rate["p99_ms"]
    assert check(report, "overload").figures["requests"] == 45
    assert json.loads(json.dumps(report.to_json()))["passed"] is True


def test_verification_runs_where_an_event_loop_runs_already(serve_app: Serve, contract: Contract) -> None:
    async def cell(url: str) -> Report:
        return examine(url, contract)

    assert asyncio.run(cell(serve_app(Sums()))).passed


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Sums(answer=lambda total: {"sum": total}), "'total' is a required property"),
        (Sums(answer=lambda total: {"total": str(total)}), "$.total: '3' is not of type 'integer'"),
        (Sums(answer=lambda total: {"total": total + 1}), "total is 4, expected 3"),
        (Sums(answer=lambda total: [total]), "expected an object"),
        (Sums(headers={}), "the answer has no header x-taxiway-handle"),
        (Sums(headers=GATEWAY | {"x-taxiway-version": "2"}), "version 2 answered, not the pinned 3"),
        (Sums(status=lambda _: 404), "status 404 instead of 200"),
    ],
    ids=["renamed field", "type", "value", "no object", "no headers", "other version", "status"],
)
def test_verification_finds_a_broken_contract(
    serve_app: Serve, contract: Contract, bad: Sums, reason: str
) -> None:
    report = examine(serve_app(bad), contract, headers={"x-taxiway-version": "3"})
    assert "contract" in failed(report)
    assert reason in check(report, "contract").reason


def test_verification_finds_an_answer_that_is_no_json(serve_app: Serve, contract: Contract) -> None:
    async def text(request: Request) -> Response:
        return PlainTextResponse("three", headers=GATEWAY)

    assert "not JSON" in check(examine(serve_app(text), contract), "contract").reason


def test_verification_fails_every_check_of_an_endpoint_that_is_not_there(
    contract: Contract, closed_port: int
) -> None:
    report = examine(f"http://127.0.0.1:{closed_port}", contract)
    assert failed(report) == {"contract", "malformed", "rate", "overload"}
    assert "no answer" in check(report, "contract").reason


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Sums(malformed_status=500), "status 500 instead of 4xx"),
        (Sums(malformed_status=200, malformed_body=b'{"total": 0}'), "status 200 instead of 4xx"),
        (Sums(malformed_body=b"<html>"), "without a reason in JSON"),
        (Sums(malformed_body=b"{}"), "without a reason"),
        (Sums(status=lambda number: 500 if number == 4 else 200), "the good request after them: status 500"),
    ],
    ids=["500", "200", "no JSON", "no reason", "harmed"],
)
def test_verification_finds_malformed_requests_taken_badly(
    serve_app: Serve, contract: Contract, bad: Sums, reason: str
) -> None:
    report = examine(serve_app(bad), contract)
    assert failed(report) == {"malformed"}
    assert reason in check(report, "malformed").reason


def test_verification_finds_errors_at_the_declared_rate(serve_app: Serve, contract: Contract) -> None:
    report = examine(serve_app(Sums(status=lambda number: 500 if number == 9 else 200)), contract)
    assert failed(report) == {"rate"}
    assert "1 of 15 requests failed: status 500" in check(report, "rate").reason


def test_verification_finds_a_p99_over_its_limit(serve_app: Serve, contract: Contract) -> None:
    report = examine(serve_app(Sums(delay_s=lambda _: 0.05)), contract, Sla(p99_ms=20))
    assert failed(report) == {"rate", "overload"}
    assert "> limit 20 ms at 50 requests/s" in check(report, "rate").reason
    assert "not back within its SLA" in check(report, "overload").reason
    earlier = check(report, "rate").figures["earlier"]
    assert [each["requests"] for each in earlier] == [15, 30]
    assert min(each["p99_ms"] for each in earlier) > 20


def test_verification_measures_a_slow_moment_again(serve_app: Serve, contract: Contract) -> None:
    slow = Sums(delay_s=lambda number: 1.1 * SLOW_MS / 1e3 if number == 9 else 0.0)
    report = examine(serve_app(slow), contract, Sla(p99_ms=SLOW_MS))
    assert report.passed, report.failures
    assert "at try 2" in check(report, "rate").reason
    assert [each["p99_ms"] > SLOW_MS for each in check(report, "rate").figures["earlier"]] == [True]


def test_verification_is_not_kept_by_several_slow_moments(serve_app: Serve, contract: Contract) -> None:
    slow = Sums(delay_s=lambda number: 1.1 * SLOW_MS / 1e3 if number in {9, 24} else 0.0)
    report = examine(serve_app(slow), contract, Sla(p99_ms=SLOW_MS))
    assert report.passed, report.failures
    assert "at try 3" in check(report, "rate").reason


def test_verification_does_not_measure_an_error_again(serve_app: Serve, contract: Contract) -> None:
    broken = Sums(status=lambda number: 500 if number == 9 else 200)
    rate = check(examine(serve_app(broken), contract), "rate")
    assert rate.answer is Answer.NO
    assert rate.figures["earlier"] == []


def test_verification_does_not_know_what_it_could_not_offer(serve_app: Serve, contract: Contract) -> None:
    report = examine(
        serve_app(Sums()),
        contract,
        Sla(rate_rps=100_000, p99_ms=60_000),
        seconds_at_rate=0.02,
        seconds_overload=0.02,
    )
    assert check(report, "rate").answer is Answer.UNKNOWN
    assert "could be sent" in check(report, "rate").reason
    assert not report.passed


def overloaded(status: int, *, delay_s: float = 0.0, burst: range = range(20, 65)) -> Sums:
    """Return an endpoint that answers otherwise from the first request of the overload on, to its last."""
    return Sums(
        status=lambda number: status if number in burst else 200,
        delay_s=lambda number: delay_s if number in burst else 0.0,
    )


@pytest.mark.parametrize("status", [429, 503])
def test_verification_passes_an_overload_that_is_refused_fast(
    serve_app: Serve, contract: Contract, status: int
) -> None:
    report = examine(serve_app(overloaded(status)), contract)
    assert report.passed, report.failures
    assert check(report, "overload").figures["refused"] == 45


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (overloaded(500), "45 of 45 requests failed: status 500"),
        (overloaded(429, delay_s=1.1 * SLOW_MS / 1e3), "refusals were slow: p99 "),
        (overloaded(429, burst=range(20, 1_000_000)), "not back within its SLA 0.5 s after the overload"),
    ],
    ids=["errors", "slow refusals", "no recovery"],
)
def test_verification_finds_an_overload_taken_badly(
    serve_app: Serve, contract: Contract, bad: Sums, reason: str
) -> None:
    report = examine(serve_app(bad), contract, Sla(p99_ms=SLOW_MS))
    assert failed(report) == {"overload"}
    assert reason in check(report, "overload").reason
