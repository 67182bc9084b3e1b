"""The trial's steady traffic: real digits from many users, counted at the client, as a user of the endpoint saw it.

How requests leave at a constant rate is `taxiway_serving.evidence.load`'s; what is sent, and what counts as failed, is
said here: a request that got no answer, or any but a 2xx.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taxiway_serving.evidence.load import TIMEOUT_S, Client, Outcome, Request, offer
from taxiway_serving.names import HEADER_USER_ID

USERS: Final = 2_000
_WITHOUT_USER_EVERY: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the client saw until now.

    Attributes:
        requests: Answered or failed; those still on their way are not counted yet.
        failed: Without an answer, or with another than 2xx.
        versions: Good answers by the model version that gave them.
        first_answer_at_s: When the first good answer came, None before.
    """

    requests: int = 0
    failed: int = 0
    versions: Mapping[int, int]
    first_answer_at_s: float | None = None


class Load:
    """Sends requests at a steady rate from `start` to `stop`, in a thread of its own.

    Args:
        url: Address of the endpoint.
        images: PNG files' bytes, sent in turn.
        rate_rps: Requests per second, above 0.
        log: File that every failed request is written to.
    """

    def __init__(self, url: str, images: Sequence[bytes], *, rate_rps: float, log: Path) -> None:
        self._url, self._rate_rps, self._log = url, rate_rps, log
        self._requests = [
            Request(name=str(number), path="predict", body=image, content_type="image/png")
            for number, image in enumerate(images)
        ]
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._versions: Counter[int] = Counter()
        self._sent = self._failed = 0
        self._first_answer_at_s: float | None = None

    @property
    def counts(self) -> Counts:
        return Counts(
            requests=self._sent,
            failed=self._failed,
            versions=dict(self._versions),
            first_answer_at_s=self._first_answer_at_s,
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send no more, and wait for the answers that are on their way. May be called again."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(TIMEOUT_S + 5.0)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._send())

    async def _send(self) -> None:
        async with Client(self._url) as client:
            await offer(
                client,
                self._requests,
                rate_rps=self._rate_rps,
                stopped=self._ended,
                headers_of=user_headers,
                on_outcome=self._count,
            )

    def _count(self, outcome: Outcome) -> None:
        self._sent += 1
        if not 200 <= outcome.status < 300:
            self._failed += 1
            self._write_down(outcome)
            return
        self._versions[outcome.version or 0] += 1
        if self._first_answer_at_s is None:
            self._first_answer_at_s = time.time()

    def _write_down(self, outcome: Outcome) -> None:
        with self._log.open("a") as log:
            at = time.strftime("%H:%M:%S")
            log.write(
                f"{at} request {outcome.number}: {outcome.status} {outcome.reason} {outcome.latency_ms:.0f} ms\n"
            )


def user_headers(number: int) -> Mapping[str, str]:
    """Return the header that names the user of a request; each tenth request comes without one."""
    is_known = number % _WITHOUT_USER_EVERY != 0
    return {HEADER_USER_ID: f"user-{number * 7 % USERS}"} if is_known else {}
