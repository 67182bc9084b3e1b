"""The answer to a question about the world that may fail: yes, no or unknown."""

from enum import Enum
from typing import NoReturn


class Answer(Enum):
    """Yes, no or unknown; never truthy or falsy.

    A measurement that failed is `UNKNOWN`. Taking it for `NO` (or `YES`) is how a broken sensor promotes a bad
    version, so `bool()` raises: compare with `is Answer.YES`.
    """

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self} is not a bool; compare it with `is Answer.YES`")

    @classmethod
    def of(cls, fact: bool | None) -> "Answer":
        """Return the answer for a fact; None means that it could not be found out."""
        if fact is None:
            return cls.UNKNOWN
        return cls.YES if fact else cls.NO
