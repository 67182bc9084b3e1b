"""Proves an endpoint before traffic moves: its contract, malformed requests, the declared rate, and an overload.

A check that could not be made answers unknown, which does not pass. How requests are sent is in `load.py`, what they
are in `contract.py`; nothing here changes where traffic goes.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final, Protocol

from taxiway_serving.answers import Answer
from taxiway_serving.evidence.contract import Contract, Example, read_contract
from taxiway_serving.evidence.load import Client, Outcome, Reply, offer, quantile
from taxiway_serving.names import HEADER_HANDLE, HEADER_MODEL, HEADER_REQUEST_ID, HEADER_VERSION

__all__ = ["Check", "Contract", "Report", "Sla", "contract_holds", "read_contract", "verify"]

GATEWAY_HEADERS: Final = (HEADER_HANDLE, HEADER_VERSION, HEADER_MODEL, HEADER_REQUEST_ID)
OVERLOAD_FACTOR: Final = 3
# A refusal that comes within a second is fast even where the SLA is stricter: the client learns it in time to go away.
FAST_REFUSAL_MS: Final = 1_000.0
REFUSALS: Final = frozenset({429, 503})
# The part of the declared rate that must really have been offered; with less, the figures say little of the endpoint.
OFFERED_SHARE: Final = 0.95
# An overload that was only twice the declared rate, on a machine that could not send more, is one all the same.
OVERLOAD_SHARE: Final = 2 / OVERLOAD_FACTOR
# Each try is twice as long as the one before: the p99 of 180 requests hangs on two of them, that of 720 on eight.
RATE_TRIES: Final = 3
_WINDOW_S: Final = 1.0
_GRACE_S: Final = 0.1
_NO_HEADERS: Final[Mapping[str, str]] = {}


class Sla(Protocol):
    """What the endpoint promises: `taxiway.project.Sla` is one."""

    @property
    def p99_ms(self) -> float: ...
    @property
    def rate_rps(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: contract, malformed, rate or overload.
        answer: Yes if the endpoint kept it; unknown if it could not be measured.
        reason: In words, for people.
        figures: What was measured.
    """

    name: str
    answer: Answer
    reason: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What verification found out about one endpoint."""

    url: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check answered yes."""
        return all(check.answer is Answer.YES for check in self.checks)

    @property
    def failures(self) -> tuple[str, ...]:
        """Each check that did not answer yes, in words."""
        return tuple(
            f"{check.name}: {check.reason}" for check in self.checks if check.answer is not Answer.YES
        )

    def to_json(self) -> dict[str, Any]:
        checks = [
            {
                "name": check.name,
                "answer": check.answer.value,
                "reason": check.reason,
                "figures": dict(check.figures),
            }
            for check in self.checks
        ]
        return {"url": self.url, "passed": self.passed, "checks": checks}


def verify(
    url: str,
    contract: Contract,
    sla: Sla,
    *,
    headers: Mapping[str, str] = _NO_HEADERS,
    required_headers: Collection[str] = GATEWAY_HEADERS,
    seconds_at_rate: float = 3.0,
    seconds_overload: float = 2.0,
    recovery_s: float = 10.0,
) -> Report:
    """Send an endpoint what its contract says and as much as its SLA says, and report what came back.

    Args:
        url: Of the endpoint, without the API: `http://127.0.0.1:8580/visual_recognition`.
        contract: What it promises about its answers.
        sla: What it promises about its speed.
        headers: Sent with every request, such as the one that pins a version.
        required_headers: That every good answer must carry; none for an endpoint without a gateway.
        seconds_at_rate: How long the declared rate is held. A p99 over its limit is measured again, for twice and for
            four times as long; an error is not.
        seconds_overload: How long three times that rate is held.
        recovery_s: How soon after that the SLA must be kept again.

    Returns:
        The report. A failing endpoint is a report too, never an exception.
    """
    probe = _Probe(contract, sla, headers, frozenset(required_headers))

    async def run() -> tuple[Check, ...]:
        async with Client(url, headers=headers) as client:
            first = (await probe.contract_kept(client), await probe.malformed_refused(client))
            held = await probe.rate_held(client, seconds_at_rate)
            return (*first, held, await probe.overload_survived(client, seconds_overload, recovery_s))

    # A thread of its own, because a notebook's already runs an event loop.
    with ThreadPoolExecutor(1) as pool:
        return Report(url=url, checks=pool.submit(asyncio.run, run()).result())


def contract_holds(url: str, contract: Contract, *, headers: Mapping[str, str] = _NO_HEADERS) -> Check:
    """Ask an endpoint the contract's own requests and report whether its answers still keep it. Costs a few requests.

    No answer, a server error or a refusal for want of room is unknown: whether a version fails is for the guards, which
    see its live traffic; here is asked whether what it answers is right.

    Args:
        url: As of `verify`.
        contract: As of `verify`.
        headers: As of `verify`.
    """
    probe = _Probe(contract, _AnySpeed(), headers, frozenset())

    async def run() -> Check:
        async with Client(url, headers=headers) as client:
            return await probe.contract_still_kept(client)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, run()).result()


@dataclass(frozen=True, slots=True, kw_only=True)
class _AnySpeed:
    """Promises nothing about speed."""

    p99_ms: float = inf
    rate_rps: float = 1.0


class _Probe:
    """The four checks of one endpoint."""

    def __init__(
        self,
        contract: Contract,
        sla: Sla,
        headers: Mapping[str, str],
        required_headers: frozenset[str],
    ) -> None:
        self.contract, self.sla = contract, sla
        self.pinned, self.required_headers = headers.get(HEADER_VERSION), required_headers
        self.requests = tuple(example.request for example in contract.examples)

    async def contract_still_kept(self, client: Client) -> Check:
        faults: list[str] = []
        unknown: list[str] = []
        for example in self.contract.examples:
            reply = await client.send(example.request)
            is_silent = reply.status == 0 or reply.status in REFUSALS or reply.status >= 500
            told = [f"{example.request.name}: {fault}" for fault in self.answer_faults(example, reply)]
            (unknown if is_silent else faults).extend(told)
        check = _judged("contract", [*faults, *unknown], "the contract still holds", {"faults": faults})
        return check if faults or not unknown else replace(check, answer=Answer.UNKNOWN)

    async def contract_kept(self, client: Client) -> Check:
        faults = []
        for example in self.contract.examples:
            reply = await client.send(example.request)
            faults += [f"{example.request.name}: {fault}" for fault in self.answer_faults(example, reply)]
        good = f"{len(self.requests)} requests were answered as the contract says"
        return _judged("contract", faults, good, {"requests": len(self.requests), "faults": faults})

    def answer_faults(self, example: Example, reply: Reply) -> list[str]:
        """Return how an answer breaks the contract."""
        if reply.status != 200:
            return [_not_200(reply)]
        missing = sorted(self.required_headers - set(reply.headers))
        faults = [f"the answer has no header {name}" for name in missing]
        if self.pinned and reply.headers.get(HEADER_VERSION, self.pinned) != self.pinned:
            faults.append(f"version {reply.headers[HEADER_VERSION]} answered, not the pinned {self.pinned}")
        try:
            answer = json.loads(reply.body)
        except ValueError:
            return [*faults, f"the answer is not JSON: {reply.body[:80]!r}"]
        return (
            faults + _schema_faults(self.contract.response, answer) + _subset_faults(example.expect, answer)
        )

    async def malformed_refused(self, client: Client) -> Check:
        faults, statuses = [], Counter[str]()
        for request in self.contract.malformed:
            reply = await client.send(request)
            statuses[str(reply.status)] += 1
            faults += [f"{request.name}: {fault}" for fault in _refusal_faults(reply)]
        after = await client.send(self.requests[0])
        if after.status != 200:
            faults.append(f"the good request after them: {_not_200(after)}")
        good = f"{len(self.contract.malformed)} malformed requests were refused with a reason, none did harm"
        return _judged("malformed", faults, good, {"statuses": dict(statuses), "faults": faults})

    async def rate_held(self, client: Client, seconds: float) -> Check:
        """Measure a slow window again: on a shared machine a neighbour's burst of work is not the endpoint's."""
        windows: list[_Window] = []
        for _ in range(RATE_TRIES):
            window = await self.window(client, self.sla.rate_rps, seconds * 2 ** len(windows))
            windows.append(window)
            is_good = not self.rate_faults(window) and window.is_offered(OFFERED_SHARE)
            if is_good or window.failures({200}):
                break
        figures = window.figures() | {"earlier": [each.figures() for each in windows[:-1]]}
        if not window.is_offered(OFFERED_SHARE):
            return _not_offered("rate", window, figures)
        held = f"{window.rate_rps:g} requests/s held for {window.seconds:g} s without an error"
        good = f"{held}, at try {len(windows)}: p99 {figures['p99_ms']} ms"
        return _judged("rate", self.rate_faults(window), good, figures)

    def rate_faults(self, window: "_Window") -> list[str]:
        """Return how a window at the declared rate, or below it, breaks the SLA."""
        faults = window.failures({200})
        p99_ms = window.p99_ms({200})
        if p99_ms is not None and p99_ms > self.sla.p99_ms:
            faults.append(
                f"p99 {p99_ms:.0f} ms > limit {self.sla.p99_ms:g} ms at {self.sla.rate_rps:g} requests/s"
            )
        return faults

    async def overload_survived(self, client: Client, seconds: float, recovery_s: float) -> Check:
        rate_rps = OVERLOAD_FACTOR * self.sla.rate_rps
        burst = await self.window(client, rate_rps, seconds)
        figures = burst.figures() | {"refused": burst.count(REFUSALS)}
        faults = burst.failures({200} | REFUSALS)
        refused_p99_ms, limit_ms = burst.p99_ms(REFUSALS), max(FAST_REFUSAL_MS, self.sla.p99_ms)
        if refused_p99_ms is not None and refused_p99_ms > limit_ms:
            faults.append(f"refusals were slow: p99 {refused_p99_ms:.0f} ms > limit {limit_ms:.0f} ms")
        recovered_s = await self.recovered_s(client, min(seconds, _WINDOW_S), recovery_s)
        if recovered_s is None:
            faults.append(f"not back within its SLA {recovery_s:g} s after the overload")
        if not faults and not burst.is_offered(OVERLOAD_SHARE):
            return _not_offered("overload", burst, figures)
        good = f"{len(burst.outcomes)} requests at {rate_rps:g}/s: {figures['refused']} refused, the others answered"
        return _judged("overload", faults, good, figures | {"recovered_s": recovered_s})

    async def recovered_s(self, client: Client, seconds: float, deadline_s: float) -> float | None:
        """Return the seconds until a window that keeps the SLA began; None if none did in time."""
        clock = asyncio.get_running_loop().time
        began_s = clock()
        while (at_s := clock() - began_s) < deadline_s:
            window = await self.window(client, self.sla.rate_rps, seconds)
            if not self.rate_faults(window):
                return round(at_s, 1)
        return None

    async def window(self, client: Client, rate_rps: float, seconds: float) -> "_Window":
        outcomes: list[Outcome] = []
        seconds = max(seconds, 1 / rate_rps)
        await offer(client, self.requests, rate_rps=rate_rps, seconds=seconds, on_outcome=outcomes.append)
        return _Window(rate_rps=rate_rps, seconds=seconds, outcomes=tuple(outcomes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """What a load of some seconds brought."""

    rate_rps: float
    seconds: float
    outcomes: tuple[Outcome, ...]

    @property
    def offered_rps(self) -> float:
        """The rate at which requests left in the time they should have left in, or hardly later."""
        end_s = self.seconds + _GRACE_S
        return sum(outcome.due_s + outcome.late_ms / 1e3 <= end_s for outcome in self.outcomes) / self.seconds

    def is_offered(self, share: float) -> bool:
        """Return whether the generator held that part of the rate."""
        return self.offered_rps >= share * self.rate_rps

    def count(self, statuses: Collection[int]) -> int:
        return sum(outcome.status in statuses for outcome in self.outcomes)

    def p99_ms(self, statuses: Collection[int]) -> float | None:
        return quantile((outcome.latency_ms for outcome in self.outcomes if outcome.status in statuses), 0.99)

    def failures(self, expected: Collection[int]) -> list[str]:
        """Return the outcomes that are none of the expected ones, counted and in words."""
        found = Counter(
            outcome.reason or f"status {outcome.status}"
            for outcome in self.outcomes
            if outcome.status not in expected
        )
        return [
            f"{count} of {len(self.outcomes)} requests failed: {reason}"
            for reason, count in found.most_common(3)
        ]

    def figures(self) -> dict[str, Any]:
        latencies_ms = [outcome.latency_ms for outcome in self.outcomes if outcome.status == 200]
        return {
            "rate_rps": self.rate_rps,
            "offered_rps": round(self.offered_rps, 1),
            "requests": len(self.outcomes),
            "statuses": dict(Counter(str(outcome.status) for outcome in self.outcomes)),
            "p50_ms": _rounded(quantile(latencies_ms, 0.5)),
            "p99_ms": _rounded(quantile(latencies_ms, 0.99)),
            "late_p99_ms": _rounded(quantile((outcome.late_ms for outcome in self.outcomes), 0.99)),
        }


def _judged(name: str, faults: Sequence[str], good: str, figures: Mapping[str, Any]) -> Check:
    return Check(name=name, answer=Answer.of(not faults), reason="; ".join(faults) or good, figures=figures)


def _not_offered(name: str, window: _Window, figures: Mapping[str, Any]) -> Check:
    offered = f"{window.offered_rps:.0f} of {window.rate_rps:g} requests/s"
    reason = f"could not be measured: only {offered} could be sent; try again when less runs on this machine"
    return Check(name=name, answer=Answer.UNKNOWN, reason=reason, figures=figures)


def _rounded(value_ms: float | None) -> float | None:
    return None if value_ms is None else round(value_ms, 1)


def _not_200(reply: Reply) -> str:
    if reply.status == 0:
        return f"no answer ({reply.reason})"
    return f"status {reply.status} instead of 200: {reply.body[:200].decode(errors='replace')}"


def _refusal_faults(reply: Reply) -> list[str]:
    """Return what is wrong with the answer to a malformed request."""
    if not 400 <= reply.status < 500 or reply.status == 429:
        return [f"status {reply.status} instead of 4xx" if reply.status else f"no answer ({reply.reason})"]
    try:
        reason = json.loads(reply.body)
    except ValueError:
        return [f"status {reply.status} without a reason in JSON: {reply.body[:80]!r}"]
    return [] if reason else [f"status {reply.status} without a reason"]


def _schema_faults(schema: Mapping[str, Any], answer: Any) -> list[str]:
    import jsonschema  # type: ignore[import-untyped]

    validator = jsonschema.validators.validator_for(schema)(schema)
    return [f"{error.json_path}: {error.message}"[:200] for error in validator.iter_errors(answer)]


def _subset_faults(expect: Mapping[str, Any], answer: Any) -> list[str]:
    """Return the expected fields that the answer does not have, or has with another value."""
    if not isinstance(answer, dict):
        return [f"expected an object, got {answer!r:.80}"] if expect else []
    return [
        f"{key} is {answer.get(key)!r:.80}, expected {value!r:.80}"
        for key, value in _differing(expect, answer)
    ]


def _differing(expect: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((key, value) for key, value in expect.items() if key not in answer or answer[key] != value)
