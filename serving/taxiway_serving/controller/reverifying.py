"""Proving a candidate's contract again while it takes traffic: at every step, in the background."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from taxiway_serving.answers import Answer
from taxiway_serving.errors import TaxiwayError
from taxiway_serving.evidence.verification import Check, contract_holds, read_contract
from taxiway_serving.names import HEADER_VERSION

log = logging.getLogger(__name__)

AGAIN_S = 2.0
"""Seconds until a contract is asked again that could not be proven either way."""
ALWAYS_S = 5.0
"""Seconds between two proofs where answers that break the contract are a metric of the rollout."""


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
        gateway_url: Address of the gateway.
    """

    def __init__(self, gateway_url: str) -> None:
        self._gateway_url = gateway_url
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reverify")
        self._asked: dict[Proof, tuple[float, Future[Check]]] = {}
        self._answers: dict[Proof, Answer] = {}

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
            self._answers[proof] = self._taken(proof, asked[1])
            wait_s = {Answer.UNKNOWN: AGAIN_S, Answer.YES: ALWAYS_S if is_repeated else float("inf")}
            if now_s - asked[0] >= wait_s.get(self._answers[proof], float("inf")):
                self._ask(proof, now_s)
        return self._answers.get(proof, Answer.UNKNOWN)

    def _ask(self, proof: Proof, now_s: float) -> None:
        self._asked[proof] = (now_s, self._pool.submit(self._prove, proof))

    def _forget(self, proof: Proof) -> None:
        """Let go of the version's earlier steps."""
        for old in [
            each for each in self._asked if (each.rollout, each.version) == (proof.rollout, proof.version)
        ]:
            del self._asked[old]
            self._answers.pop(old, None)

    def _prove(self, proof: Proof) -> Check:
        headers = {HEADER_VERSION: str(proof.version)}
        return contract_holds(
            f"{self._gateway_url}/{proof.handle}", read_contract(proof.contract), headers=headers
        )

    def _taken(self, proof: Proof, asked: Future[Check]) -> Answer:
        try:
            check = asked.result()
        except (TaxiwayError, OSError) as error:
            log.warning("contract of %s/%s: %s", proof.handle, proof.version, error)
            return Answer.UNKNOWN
        if check.answer is not Answer.YES:
            log.warning("contract of %s/%s: %s", proof.handle, proof.version, check.reason)
        return check.answer
