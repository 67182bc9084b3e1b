"""The load generator against a real server: its rate is open, and every request is accounted for."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request as Received
from starlette.responses import JSONResponse, Response

from taxiway_serving.evidence.load import Client, Outcome, Request, offer, quantile

pytestmark = pytest.mark.slow

Handler = Callable[[Received], Awaitable[Response]]
Serve = Callable[[Handler], str]
HELLO = Request(name="hello", path="predict", body=b"hello", content_type="text/plain")


def load(url: str, **options: object) -> list[Outcome]:
    outcomes: list[Outcome] = []

    async def run() -> None:
        async with Client(url, timeout_s=60) as client:
            await offer(client, [HELLO], on_outcome=outcomes.append, **options)  # type: ignore[arg-type]

    asyncio.run(run())
    return outcomes


async def good(request: Received) -> Response:
    await request.body()
    return JSONResponse({"label": 7}, headers={"x-taxiway-version": "3"})


def test_load_sends_the_rate_for_the_time(serve_app: Serve) -> None:
    outcomes = load(serve_app(good), rate_rps=100, seconds=0.3)
    assert [outcome.status for outcome in outcomes] == [200] * 30
    assert {outcome.version for outcome in outcomes} == {3}


def test_load_is_open(serve_app: Serve) -> None:
    async def slow(request: Received) -> Response:
        await asyncio.sleep(0.5)
        return JSONResponse({})

    outcomes = load(serve_app(slow), rate_rps=100, seconds=0.3)
    assert len(outcomes) == 30
    assert min(outcome.latency_ms for outcome in outcomes) >= 490


def test_load_counts_no_answer_with_its_reason(closed_port: int) -> None:
    outcomes = load(f"http://127.0.0.1:{closed_port}", rate_rps=50, seconds=0.1)
    assert [outcome.status for outcome in outcomes] == [0] * 5
    assert "Connect" in outcomes[0].reason


def test_load_goes_on_until_stopped(serve_app: Serve) -> None:
    outcomes: list[Outcome] = []
    left, left_before_the_end = list[int](), list[int]()

    def leaving(number: int) -> dict[str, str]:
        left.append(number)
        return {}

    async def run(url: str) -> None:
        stopped = asyncio.Event()

        def count(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) == 10:
                left_before_the_end.extend(left)
                stopped.set()

        async with Client(url) as client:
            await offer(client, [HELLO], rate_rps=200, stopped=stopped, headers_of=leaving, on_outcome=count)

    asyncio.run(run(serve_app(good)))
    assert len(outcomes) == len(left)
    assert len(left) <= len(left_before_the_end) + 1, "one may have been on its way to the door"


def test_load_gives_each_request_its_headers(serve_app: Serve) -> None:
    seen = []

    async def remember(request: Received) -> Response:
        seen.append((request.headers["x-user-id"], request.headers["content-type"], await request.body()))
        return JSONResponse({})

    load(
        serve_app(remember), rate_rps=100, seconds=0.05, headers_of=lambda number: {"x-user-id": f"u{number}"}
    )
    assert sorted(seen) == [(f"u{number}", "text/plain", b"hello") for number in range(5)]


def test_client_refuses_to_be_used_closed() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(Client("http://127.0.0.1:1").send(HELLO))


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [([], 0.99, None), ([5.0], 0.99, 5.0), ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0), (range(1, 101), 0.99, 99)],
    ids=["nothing", "one", "median", "hundred"],
)
def test_quantile_is_a_value_that_was_measured(
    values: list[float], part: float, expected: float | None
) -> None:
    assert quantile(values, part) == expected
