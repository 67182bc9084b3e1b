"""Proving a candidate's contract again while it takes traffic: at every step, in the background."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from taxiway_serving.answers import Answer
from taxiway_serving.errors import TaxiwayError
from taxiway_serving.evidence.verification import Check, contract_holds, read_contract
from taxiway_serving.names import ENV_GATEWAY_URL, HEADER_VERSION

log = logging.getLogger(__name__)

AGAIN_S = 2.0
"""Seconds until a contract is asked again that could not be proven either way."""
ALWAYS_S = 5.0
"""Seconds between two proofs where answers that break the contract are a metric of the rollout."""
DOUBT_LENGTH = 300
"""Most characters of a doubt: it is part of a rollout's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is to be proven: one version's contract, at one step of one rollout."""

    rollout: str
    step: int
    handle: str
    version: int
    contract: Path


class Reverifier:
    """Asks candidates their contract's requests through the gateway, pinned. Used by one thread.

    Args:
        gateway_url: Address of the gateway, as this controller reaches it.
    """

    def __init__(self, gateway_url: str) -> None:
        self._gateway_url = gateway_url
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reverify")
        self._asked: dict[Proof, tuple[float, Future[Check]]] = {}
        self._found: dict[Proof, Check] = {}

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def answer(self, proof: Proof, *, now_s: float, is_repeated: bool) -> Answer:
        """Return what is known, and ask in the background what is not; UNKNOWN until the first answer.

        Args:
            proof: What to prove.
            now_s: Seconds since the epoch.
            is_repeated: Whether a yes is asked again after `ALWAYS_S`; a no stays a no.
        """
        asked = self._asked.get(proof)
        if asked is None:
            self._forget(proof)
            self._ask(proof, now_s)
        elif asked[1].done():
            self._found[proof] = found = asked[1].result()
            wait_s = {Answer.UNKNOWN: AGAIN_S, Answer.YES: ALWAYS_S if is_repeated else float("inf")}
            if now_s - asked[0] >= wait_s.get(found.answer, float("inf")):
                self._ask(proof, now_s)
        return self._found[proof].answer if proof in self._found else Answer.UNKNOWN

    def doubt(self, proof: Proof) -> str:
        """Return why it could be proven neither way, in words; "" if it could, or if nobody has asked to the end."""
        found = self._found.get(proof)
        return found.reason[:DOUBT_LENGTH] if found is not None and found.answer is Answer.UNKNOWN else ""

    def _ask(self, proof: Proof, now_s: float) -> None:
        self._asked[proof] = (now_s, self._pool.submit(self._prove, proof))

    def _forget(self, proof: Proof) -> None:
        """Let go of the version's earlier steps."""
        for old in [
            each for each in self._asked if (each.rollout, each.version) == (proof.rollout, proof.version)
        ]:
            del self._asked[old]
            self._found.pop(old, None)

    def _prove(self, proof: Proof) -> Check:
        try:
            check = self._through_gateway(proof)
        except (TaxiwayError, OSError) as error:
            check = Check(name="contract", answer=Answer.UNKNOWN, reason=str(error))
        if check.answer is not Answer.YES:
            log.warning("contract of %s/%s: %s", proof.handle, proof.version, check.reason)
        return check

    def _through_gateway(self, proof: Proof) -> Check:
        url, headers = f"{self._gateway_url}/{proof.handle}", {HEADER_VERSION: str(proof.version)}
        check = contract_holds(url, read_contract(proof.contract), headers=headers)
        if check.answer is not Answer.UNKNOWN:
            return check
        return replace(check, reason=f"asked at {url}, see {ENV_GATEWAY_URL}: {check.reason}")
