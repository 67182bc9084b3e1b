"""Variants that somebody else runs at an address: they are looked at, never started or stopped.

MLflow's server, another model server, a service of another team. What is asked for is kept in a folder, so that a
controller that starts again knows them before it is told. How a request gets there is the router's business.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import httpx

from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.records import Folder, Record, folders
from taxiway_serving.runtimes.runtime import VariantSpec, VariantState

LOOK_S: Final = 1.0
"""Seconds between two looks at one address, however many variants are there."""
_PROBE_TIMEOUT_S: Final = 2.0
_PROBES_AT_ONCE: Final = 16

Probe = Callable[[str], Answer]


@dataclass(slots=True, kw_only=True)
class _Known:
    """A variant that was asked for.

    Attributes:
        ready_url: What is asked whether it is ready.
        silent_s: Since when it has not answered, having done so before; 0.0 while it does.
        state: What was said of it last, as long as nothing has changed since.
    """

    spec: VariantSpec
    record: Record
    ready_url: str
    silent_s: float = 0.0
    state: VariantState | None = None

    @classmethod
    def of(cls, spec: VariantSpec, record: Record) -> Self:
        return cls(spec=spec, record=record, ready_url=spec.url.rstrip("/") + spec.ready_path)


class RemoteRuntime:
    """Looks at variants that have a `url`. A `Runtime`.

    An address that has never answered within the variant's deadline, or that has been silent for as long, is `failed`;
    it is `ready` again as soon as it answers.

    Args:
        home: Folder that remembers them, below `remote/`.
        clock: Seconds since the epoch.
        probe: Asks an address whether it is ready; the default asks by HTTP.
    """

    def __init__(
        self, home: Path, *, clock: Callable[[], float] = time.time, probe: Probe | None = None
    ) -> None:
        self._home, self._clock = home.resolve() / "remote", clock
        self._client = httpx.Client(timeout=_PROBE_TIMEOUT_S, trust_env=False)
        self._probe = probe or self._ask
        self._pool = ThreadPoolExecutor(_PROBES_AT_ONCE, thread_name_prefix="probe")
        self._known = dict(_remembered(self._home))
        self._looked_s: dict[str, float] = {}
        self._said: dict[str, Answer] = {}

    def close(self) -> None:
        """Close the connections of the probes. See `Runtime.close`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def ensure(self, spec: VariantSpec) -> None:
        """Remember that the variant is asked for. See `Runtime.ensure`."""
        if not spec.url:
            raise InvalidSpecError(("url is missing: nothing is started here",), f"variant {spec.variant}")
        known = self._known.get(spec.variant)
        if known is not None and known.spec is spec and not known.record.is_stopped:
            return
        digest = spec.digest()
        if known is not None and known.record.digest == digest and not known.record.is_stopped:
            known.spec = spec
            return
        began = Record(digest=digest, port=_address(spec)[1], started_s=self._clock())
        self._known[spec.variant] = _Known.of(spec, began)
        folder = Folder(self._home, spec.variant)
        folder.save(spec)
        self._keep(spec.variant, began, f"asked for at {spec.url}")

    def observe(self) -> Mapping[VariantId, VariantState]:
        """Return what the last look at each address said, and let what is due be looked at. See `Runtime.observe`."""
        self._look({each.ready_url for each in self._known.values() if not each.record.is_stopped})
        return {variant: self._state(variant, known) for variant, known in self._known.items()}

    def knows(self, variant: VariantId) -> bool:
        """Tell whether the variant is asked for here."""
        known = self._known.get(variant)
        return known is not None and not known.record.is_stopped

    def ready(self, variant: VariantId) -> Answer:
        """Ask its address now. See `Runtime.ready`."""
        if not self.knows(variant):
            return Answer.NO
        url = self._known[variant].ready_url
        self._note(url)
        return self._said[url]

    def logs(self, variant: VariantId, *, tail: int) -> str:
        """Return when it was asked for, and when it began and ceased to answer. See `Runtime.logs`."""
        return Folder(self._home, variant).tail(tail)

    def stop(self, variant: VariantId, *, grace_s: float) -> None:
        """Forget that it was asked for; whoever runs it runs it on. See `Runtime.stop`."""
        known = self._known.get(variant)
        if known is None or known.record.is_stopped:
            return
        ended = replace(
            known.record, ended_s=self._clock(), is_stopped=True, reason="not asked for any longer"
        )
        known.record, known.state = ended, None
        self._keep(variant, known.record, known.record.reason)

    def _look(self, urls: Iterable[str]) -> None:
        now_s = self._clock()
        for url in urls:
            if now_s - self._looked_s.get(url, 0.0) >= LOOK_S:
                self._looked_s[url] = now_s
                self._pool.submit(self._note, url)

    def _note(self, url: str) -> None:
        self._said[url] = self._probe(url)

    def _state(self, variant: VariantId, known: _Known) -> VariantState:
        is_well = self._said.get(known.ready_url) is Answer.YES
        is_over = known.record.is_stopped
        has_news = not is_over and not (is_well and known.record.ready_s and not known.silent_s)
        if has_news:
            self._follow(variant, known, is_well=is_well)
        if has_news or known.state is None:
            known.state = _state_of(known, self._clock())
        return known.state

    def _follow(self, variant: VariantId, known: _Known, *, is_well: bool) -> None:
        if is_well and not known.record.ready_s:
            known.record = replace(known.record, ready_s=self._clock())
            self._keep(variant, known.record, "answers")
        if is_well:
            known.silent_s = 0.0
        elif known.record.ready_s and not known.silent_s:
            known.silent_s = self._clock()

    def _keep(self, variant: VariantId, record: Record, told: str) -> None:
        folder = Folder(self._home, variant)
        folder.save(record)
        folder.make_room()
        with folder.log.open("a") as log:
            log.write(json.dumps({"at_s": self._clock(), "what": told}) + "\n")

    def _ask(self, url: str) -> Answer:
        try:
            return Answer.of(self._client.get(url).status_code == httpx.codes.OK)
        except httpx.ConnectError:
            return Answer.NO
        except httpx.HTTPError:
            return Answer.UNKNOWN


def _remembered(home: Path) -> Iterator[tuple[VariantId, _Known]]:
    for folder in folders(home):
        spec, record = folder.spec(), folder.record()
        if spec is not None and record is not None:
            yield folder.variant, _Known.of(spec, record)


def _state_of(known: _Known, now_s: float) -> VariantState:
    record, (host, port), limit_s = known.record, _address(known.spec), known.spec.ready_deadline_s
    if record.is_stopped:
        return VariantState(phase="stopped", since_s=record.ended_s, reason=record.reason)
    seen = VariantState(phase="starting", host=host, port=port, since_s=record.started_s)
    silent_s = known.silent_s or (0.0 if record.ready_s else record.started_s)
    if silent_s and now_s - silent_s > limit_s:
        reason = f"{known.ready_url} has not answered 200 for {limit_s:g} s"
        return replace(seen, phase="failed", since_s=silent_s + limit_s, reason=reason)
    return replace(seen, phase="ready", since_s=record.ready_s) if record.ready_s else seen


def _address(spec: VariantSpec) -> tuple[str, int]:
    parts = urlsplit(spec.url)
    return parts.hostname or "", parts.port or 0
