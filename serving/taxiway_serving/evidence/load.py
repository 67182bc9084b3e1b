"""Sends requests at a constant rate and says what became of each one.

The load is open: each request leaves at its own time, whether or not those before it were answered, so a slow endpoint
is not spared. What the figures mean for an endpoint is judged elsewhere: `verification.py`.
"""

import asyncio
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from taxiway_serving.names import HEADER_VERSION

if TYPE_CHECKING:
    import aiohttp

TIMEOUT_S: Final = 10.0
# Below the 5 s after which uvicorn closes an idle connection: a POST that meets the closing one would get no answer.
_KEEP_ALIVE_S: Final = 2.0
_MAX_IN_FLIGHT: Final = 1_000
_NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One POST, ready to be sent any number of times.

    Attributes:
        name: What people call it.
        path: Below the client's URL, without a leading slash.
        body: As it goes over the wire.
        content_type: None sends no such header.
    """

    name: str
    path: str
    body: bytes
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back.

    Attributes:
        status: Of HTTP; 0 if there was no answer.
        latency_ms: From sending to the last byte, or to giving up.
        headers: With names in lower case; empty if there was no answer.
        body: Empty if there was no answer.
        reason: Why there was no answer; empty if there was one.
    """

    status: int
    latency_ms: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    reason: str = ""

    @property
    def version(self) -> int | None:
        """The model version that answered, as the gateway says; None if nothing says."""
        text = self.headers.get(HEADER_VERSION, "")
        return int(text) if text.isdecimal() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request of a load.

    Attributes:
        number: From 0, in the order of sending.
        due_s: When it was to leave, seconds after the load began.
        late_ms: How much later it left: the generator's own fault, never the endpoint's.
        status: Of HTTP; 0 if there was no answer.
        latency_ms: From sending to the last byte, or to giving up.
        version: The model version that answered, if known.
        reason: Why there was no answer.
    """

    number: int
    due_s: float
    late_ms: float
    status: int
    latency_ms: float
    version: int | None
    reason: str


class Client:
    """An HTTP client for one base URL; never raises for what the other end does.

    Not thread-safe: it belongs to the event loop that it was entered in. It is aiohttp's because a generator that is
    busy measures itself: at 50 requests a second aiohttp takes 1.1 ms of CPU for each, httpx 2.8.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str] = _NO_HEADERS, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._url, self._headers, self._timeout_s = url.rstrip("/"), headers, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            skip_auto_headers=("content-type",),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Request, headers: Mapping[str, str] = _NO_HEADERS) -> Reply:
        """Send a request once and return what came back, or why nothing did."""
        import aiohttp

        if self._session is None:
            raise RuntimeError("the client is not open; use it in an `async with` block")
        if request.content_type is not None:
            headers = {**headers, "content-type": request.content_type}
        clock = asyncio.get_running_loop().time
        sent_s = clock()
        try:
            async with self._session.post(
                f"{self._url}/{request.path}", data=request.body, headers=headers, allow_redirects=False
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            reason = f"{type(exc).__name__}: {exc}".rstrip(": ")
            return Reply(status=0, latency_ms=(clock() - sent_s) * 1e3, reason=reason)
        return Reply(
            status=answer.status,
            latency_ms=(clock() - sent_s) * 1e3,
            headers={name.lower(): value for name, value in answer.headers.items()},
            body=body,
        )


async def offer(
    client: Client,
    requests: Sequence[Request],
    *,
    rate_rps: float,
    seconds: float = math.inf,
    stopped: asyncio.Event | None = None,
    headers_of: Callable[[int], Mapping[str, str]] = lambda _: _NO_HEADERS,
    on_outcome: Callable[[Outcome], None],
) -> None:
    """Send requests in turn at a constant rate, then wait for the answers that are on their way.

    Args:
        client: An open client.
        requests: Sent one after the other, over and over.
        rate_rps: Requests per second, above 0.
        seconds: How long to send; without an end by default.
        stopped: Ends the sending when set.
        headers_of: Headers of the request with that number, such as the user it comes from.
        on_outcome: Called in the event loop as each request ends; must not block.
    """
    stopped = stopped or asyncio.Event()
    clock = asyncio.get_running_loop().time
    began_s, in_flight = clock(), set[asyncio.Task[None]]()

    async def send(number: int, due_s: float) -> None:
        late_ms = (clock() - began_s - due_s) * 1e3
        reply = await client.send(requests[number % len(requests)], headers_of(number))
        on_outcome(_outcome(number, due_s, late_ms, reply))

    for number in itertools.count():
        due_s = number / rate_rps
        if due_s >= seconds:
            break
        await asyncio.sleep(max(0.0, began_s + due_s - clock()))
        if stopped.is_set():
            break
        if len(in_flight) >= _MAX_IN_FLIGHT:
            reply = Reply(
                status=0, latency_ms=0, reason=f"not sent: {_MAX_IN_FLIGHT} requests wait for an answer"
            )
            on_outcome(_outcome(number, due_s, 0.0, reply))
            continue
        task = asyncio.create_task(send(number, due_s))
        in_flight.add(task)
        task.add_done_callback(in_flight.discard)
    await asyncio.gather(*in_flight)


def _outcome(number: int, due_s: float, late_ms: float, reply: Reply) -> Outcome:
    return Outcome(
        number=number,
        due_s=due_s,
        late_ms=max(0.0, late_ms),
        status=reply.status,
        latency_ms=reply.latency_ms,
        version=reply.version,
        reason=reply.reason,
    )


def quantile(values: Iterable[float], part: float) -> float | None:
    """Return the smallest value that at least `part` of the values do not exceed; None without values.

    Args:
        values: In any order.
        part: In (0, 1], such as 0.99.
    """
    ordered = sorted(values)
    return ordered[math.ceil(part * len(ordered)) - 1] if ordered else None
