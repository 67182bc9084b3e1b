"""The guard and the certificate of a shadow: do mirrored answers of the candidate differ beyond stable's own noise?"""

from dataclasses import dataclass

from taxiway_serving.rollout.guard import EProcess, Interval, Reading, Terms, added
from taxiway_serving.statistics.betting import beyond_noise_terms, paired_terms
from taxiway_serving.statistics.label import FLAWLESS_PARTS, HARM_RATIOS, Counts, log_mean_exp

PARTS = (*FLAWLESS_PARTS, 0.75, 0.9, 0.97)
"""Stakes of the certificate: the last three are for models that differ from themselves as well."""
WEIGHTS = (0.64, 0.06, 0.06, 0.06, 0.06, 0.06, 0.06)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted(EProcess):
    """An e-process that counts its samples in the last of its terms."""

    def is_proven(self, state: Terms) -> bool:
        return max(state[:-1]) >= self.threshold and self.log_e(state) >= self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(_Counted):
    """Harm: mirrored answers of the candidate differ more often than the stable version's own noise.

    A mirrored request that the candidate did not answer differs.
    """

    name: str = "difference"

    def start(self) -> Terms:
        return (0.0,) * (len(HARM_RATIOS) + 1)

    def update(self, state: Terms, interval: Interval) -> Terms:
        seen = interval.compared
        if not seen.samples:
            return state
        terms = paired_terms(seen.only_candidate, seen.only_noise, HARM_RATIOS)
        return (*added(state[:-1], terms), state[-1] + seen.samples)

    def log_e(self, state: Terms) -> float:
        return log_mean_exp(state[:-1])

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = round(state[-1])
        return self.reading(
            self.name, state, units, f"{units} mirrored requests; answers differ beyond noise"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SameCertificate(_Counted):
    """Safety: the candidate's answers are proven to differ beyond noise in less than a share of the requests.

    Attributes:
        most: Share of the requests, in (0, 1).
    """

    most: float
    name: str = "same_certificate"

    def start(self) -> Terms:
        return (0.0,) * (len(WEIGHTS) + 1)

    def update(self, state: Terms, interval: Interval) -> Terms:
        seen = interval.compared
        if not seen.samples:
            return state
        terms = beyond_noise_terms(
            seen.only_candidate, seen.only_noise, seen.samples, limit=self.most, parts=PARTS
        )
        return (*added(state[:-1], terms), state[-1] + seen.samples)

    def log_e(self, state: Terms) -> float:
        return log_mean_exp(state[:-1], WEIGHTS)

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = round(state[-1])
        reason = f"{units} mirrored requests; under {self.most:.3%} differ"
        return self.reading(self.name, state, units, reason)
