"""What a bad version's discovery is held against: the information bound, and threshold rules as the peers apply them.

Pure: evidence is an argument, and nothing here decides about real traffic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from taxiway_serving.statistics.label import HARM_RATIOS, Counts, label_terms, log_mean_exp


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One first attempt of a recorded stream.

    Attributes:
        at_s: Seconds after the recording began.
        is_canary: Whether it was assigned to the canary, else to stable.
        is_bad: Whether it failed there.
    """

    at_s: float
    is_canary: bool
    is_bad: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A success threshold on windows of the canary's own requests.

    Attributes:
        name: Whose rule, and with which numbers.
        window_s: Length of a window in seconds; one look at the end of each.
        success: Share of good answers that a window needs, in (0, 1).
        most_bad_windows: Bad windows that are put up with; one more rolls back. They are counted over the whole
            rollout, as Argo Rollouts counts towards `failureLimit` and Flagger towards `threshold`.
    """

    name: str
    window_s: float
    success: float
    most_bad_windows: int

    @property
    def earliest_s(self) -> float:
        """How soon it can act at all, however bad the version is."""
        return self.window_s * (self.most_bad_windows + 1)


PEERS = (
    Rule(name="Argo as documented, 5 min", window_s=300.0, success=0.95, most_bad_windows=3),
    Rule(name="Argo, failureLimit 0, 10 s", window_s=10.0, success=0.99, most_bad_windows=0),
    Rule(name="Flagger as documented, 1 min", window_s=60.0, success=0.99, most_bad_windows=9),
    Rule(name="Flagger, threshold 5, 10 s", window_s=10.0, success=0.99, most_bad_windows=4),
)
"""The documented examples (Argo: `result[0] >= 0.95`, interval 5m, failureLimit 3. Flagger: success >= 99 %, interval
1m, threshold 10), and each as fast as it can be set: Flagger's interval has a floor of 10 s."""


def acts_after_s(rule: Rule, events: Sequence[Event]) -> float | None:
    """Return when a rule would have rolled back, in seconds after the recording began; None if not within it.

    A window in which the canary had no request is passed over, in the rule's favour: Flagger counts it as bad.
    """
    canary = [event for event in events if event.is_canary]
    end_s = max((event.at_s for event in events), default=0.0)
    number = bad_windows = 0
    while (number + 1) * rule.window_s <= end_s:
        began_s, number = number * rule.window_s, number + 1
        window = [event for event in canary if began_s <= event.at_s < number * rule.window_s]
        bad = sum(event.is_bad for event in window)
        bad_windows += bool(window) and 1 - bad / len(window) < rule.success
        if bad_windows > rule.most_bad_windows:
            return number * rule.window_s
    return None


def guard_after_s(events: Sequence[Event], *, share: float, threshold: float) -> float | None:
    """Return when the product's own guard on errors would have seen enough, looking after every request.

    Args:
        events: A recording in the order of its times.
        share: The canary's share of the split, in (0, 1).
        threshold: Logarithm of the e-value that rolls back.
    """
    terms = (0.0,) * len(HARM_RATIOS)
    for event in events:
        if not event.is_bad:
            continue
        arm = {"canary": 1, "bad_canary": 1} if event.is_canary else {"control": 1, "bad_control": 1}
        new = label_terms(Counts(**arm), share, null_ratio=1.0, ratios=HARM_RATIOS)
        terms = tuple(old + term for old, term in zip(terms, new, strict=True))
        if log_mean_exp(terms) >= threshold:
            return event.at_s
    return None


def bound_units(bad_rate: float, base_rate: float, *, share: float, threshold: float) -> float:
    """Return how many canary units a test needs on average at least, if it knows no rate in advance.

    Args:
        bad_rate: The canary's rate of bad units, in (0, 1).
        base_rate: Stable's, in [0, 1), below the canary's.
        share: The canary's share of the split, in (0, 1).
        threshold: ln(1/alpha).

    Source: Wald's bound ln(1/alpha)/KL, here against the nearest case in which both rates are alike: the pooled rate
    q = share · bad + (1 - share) · base, at (1 - share)/share control units for each canary unit.
    """
    pooled = share * bad_rate + (1 - share) * base_rate
    information = divergence(bad_rate, pooled) + (1 - share) / share * divergence(base_rate, pooled)
    return threshold / information


def divergence(rate: float, other: float) -> float:
    """Return the Kullback-Leibler divergence of two Bernoulli distributions; `other` lies in (0, 1)."""
    parts = ((rate, other), (1 - rate, 1 - other))
    return sum(p * log(p / q) for p, q in parts if p > 0)
