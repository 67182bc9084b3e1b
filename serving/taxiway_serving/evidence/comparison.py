"""What one mirrored request showed: three answers to it, compared. Counting such values is the statistics' business.

Pure. When two answers are the same is told in `matching.py`; asking the variants and writing down what was found is
the `shadow` package's.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from taxiway_serving.answers import Answer
from taxiway_serving.criterion import Criterion
from taxiway_serving.evidence.matching import Agree, Response, match
from taxiway_serving.names import check_handle, check_version

STABLE: Final = "stable"
AGAIN: Final = "again"
CANDIDATE: Final = "candidate"
COMPARISON: Final = "comparison"
_CALLS: Final = (STABLE, AGAIN, CANDIDATE)
_STEPS: Final = (*_CALLS, COMPARISON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one mirrored request showed. The copy of stable was asked twice, the candidate once.

    Where the candidate behaves as stable does, its answer is exchangeable with stable's second one, so that
    `candidate_differs` alone is as likely as `noise_differs` alone: only an excess of the first blames the candidate.

    Attributes:
        at_s: When the request arrived, in seconds since the epoch.
        handle: The handle.
        request_id: The id of the live request, the same as in the gateway's logs.
        unit: Who asked, as in `Attempt.unit`. Several requests of one unit are not independent.
        stable: The version that was asked twice.
        candidate: The version that was asked once.
        candidate_differs: Whether the candidate's answer differs from stable's first.
        noise_differs: Whether stable's second answer differs from its first.
        failed: What did not work, of `stable`, `again`, `candidate` and `comparison`. Such a request says nothing about
            differences: both of them are false.
        ms: How long each of the three calls took.
        detail: What differs, or why something failed.
    """

    at_s: float
    handle: str
    request_id: str
    unit: str
    stable: int
    candidate: int
    candidate_differs: bool = False
    noise_differs: bool = False
    failed: tuple[str, ...] = ()
    ms: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""

    @property
    def only_candidate(self) -> bool:
        """Whether the candidate differs and stable agrees with itself: one of the pair that a test weighs."""
        return self.candidate_differs and not self.noise_differs

    @property
    def only_noise(self) -> bool:
        """Whether stable differs from itself and the candidate agrees: the other of the pair."""
        return self.noise_differs and not self.candidate_differs

    @property
    def only_candidate_failed(self) -> bool:
        """Whether the candidate alone gave no answer. Where it behaves as stable, as likely as `only_noise_failed`."""
        return self.failed == (CANDIDATE,)

    @property
    def only_noise_failed(self) -> bool:
        """Whether stable gave its first answer and not its second, and the candidate gave one."""
        return self.failed == (AGAIN,)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values; `from_json` reads them."""
        return {**asdict(self), "failed": list(self.failed), "ms": dict(self.ms)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the comparison that `to_json` wrote. Other keys are left alone.

        Raises:
            KeyError, TypeError, ValueError: If it is something else.
        """
        failed = tuple(value["failed"])
        differs, noise = value["candidate_differs"], value["noise_differs"]
        if not (isinstance(differs, bool) and isinstance(noise, bool) and set(failed) <= set(_STEPS)):
            raise ValueError(f"not a comparison: {differs!r}, {noise!r}, {failed!r}")
        return cls(
            at_s=float(value["at_s"]),
            handle=check_handle(value["handle"]),
            request_id=str(value["request_id"]),
            unit=str(value["unit"]),
            stable=check_version(value["stable"]),
            candidate=check_version(value["candidate"]),
            candidate_differs=differs,
            noise_differs=noise,
            failed=failed,
            ms={str(name): float(took) for name, took in value["ms"].items()},
            detail=str(value["detail"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What three responses to one request say; the part of a `Comparison` that follows from them.

    Attributes:
        candidate_differs: See `Comparison`.
        noise_differs: See `Comparison`.
        failed: See `Comparison`.
        detail: See `Comparison`.
    """

    candidate_differs: bool = False
    noise_differs: bool = False
    failed: tuple[str, ...] = ()
    detail: str = ""


def findings(
    stable: Response,
    again: Response,
    candidate: Response,
    criterion: Criterion,
    agree: Agree | None = None,
) -> Findings:
    """Return what three responses to one request say.

    Args:
        stable: The copy of stable's first answer.
        again: Its second one.
        candidate: The candidate's.
        criterion: What counts as the same.
        agree: The function that the criterion names; None if it names none.
    """
    responses = dict(zip(_CALLS, (stable, again, candidate), strict=True))
    failures = {name: response.failure for name, response in responses.items() if response.failure}
    if failures:
        detail = "; ".join(f"{name}: {why}" for name, why in failures.items())
        return Findings(failed=tuple(failures), detail=detail)
    ours, noise = match(stable, candidate, criterion, agree), match(stable, again, criterion, agree)
    unknown = next((each for each in (ours, noise) if each.is_same is Answer.UNKNOWN), None)
    if unknown is not None:
        return Findings(failed=(COMPARISON,), detail=unknown.detail)
    return Findings(
        candidate_differs=ours.is_same is Answer.NO,
        noise_differs=noise.is_same is Answer.NO,
        detail=ours.detail or (f"{AGAIN}: {noise.detail}" if noise.detail else ""),
    )
