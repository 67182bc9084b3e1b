"""Asks variants what live clients asked: one call each, never a retry. What the answers mean is judged elsewhere."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from taxiway_serving.evidence.matching import Response
from taxiway_serving.names import HEADER_REQUEST_ID, HEADER_UNIT, HEADER_USER_ID, UNIT_ID_LENGTH

HEADER_SHADOW: Final = "x-taxiway-shadow"
"""Tells a model that nobody waits for this answer: what it would change in the world, it should not."""

# Below the 5 s after which uvicorn closes an idle connection: a POST that meets the closing one would get no answer.
_KEEP_ALIVE_S: Final = 2.0
_PIECE_BYTES: Final = 64 * 1024

# What belongs to one connection, and what another server has said to its own retries.
_NOT_PASSED_ON: Final = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A variant to ask.

    Attributes:
        version: The model version.
        host: Address that it listens on.
        port: Port that it listens on.
    """

    version: int
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A mirrored request.

    Attributes:
        path: Path and query as they came, with a leading slash.
        headers: As they came; a name may come more than once.
        body: As it came over the wire.
    """

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def request_id(self) -> str:
        """The id of the live request; "" if it has none."""
        return self._header(HEADER_REQUEST_ID)

    @property
    def unit(self) -> str:
        """Who asked, as in `Attempt.unit`."""
        if user := self._header(HEADER_USER_ID):
            return f"user:{user}"
        if uid := self._header(HEADER_UNIT):
            return f"cookie:{uid}"
        return f"request:{self.request_id[:UNIT_ID_LENGTH]}"

    def _header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


class Caller:
    """Sends calls to variants; never raises for what the other end does.

    Not thread-safe: it belongs to the event loop that it was entered in.

    Args:
        timeout_s: Seconds that a call may take from connecting to the last byte.
        answer_bytes: Longest body of an answer; a longer one counts as none.
    """

    def __init__(self, *, timeout_s: float, answer_bytes: int) -> None:
        self._timeout_s, self._answer_bytes = timeout_s, answer_bytes
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("content-type", "user-agent", "accept"),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, target: Target, call: Call) -> tuple[Response, float]:
        """Return what a variant answers to a call, and after how many milliseconds."""
        clock = asyncio.get_running_loop().time
        sent_s = clock()
        try:
            response = await self._ask(target, call)
        except TimeoutError:
            response = Response(status=0, reason=f"no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            response = Response(status=0, reason=f"{type(exc).__name__}: {exc}".rstrip(": "))
        return response, round((clock() - sent_s) * 1e3, 3)

    async def _ask(self, target: Target, call: Call) -> Response:
        if self._session is None:
            raise RuntimeError("the caller is not open; use it in an `async with` block")
        url = f"http://{target.host}:{target.port}{call.path}"
        headers = [*passed_on(call.headers), (HEADER_SHADOW, "1"), ("accept-encoding", "identity")]
        async with self._session.post(url, data=call.body, headers=headers, allow_redirects=False) as answer:
            body = bytearray()
            while piece := await answer.content.read(_PIECE_BYTES):
                body += piece
                if len(body) > self._answer_bytes:
                    return Response(status=0, reason=f"an answer of more than {self._answer_bytes} bytes")
            return Response(status=answer.status, content_type=_media_type(answer.headers), body=bytes(body))


def passed_on(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of a mirrored request that a variant is told too."""
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in _NOT_PASSED_ON and not name.lower().startswith("x-envoy-")
    ]


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
