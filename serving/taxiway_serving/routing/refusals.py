"""What Envoy says of a configuration that it refuses, in a length that people read. Pure."""

import re
from typing import Final

_END_LENGTH: Final = 600
_REFUSAL: Final = re.compile(r"reject|failure|error", re.IGNORECASE)
_ENTRY: Final = re.compile(r"^(?=\[\d{4}-\d\d-\d\d )", re.MULTILINE)


def shortened(reason: str) -> str:
    """Return beginning and end: in between, Envoy writes the whole resource out."""
    text = " ".join(reason.split())
    return text if len(text) <= 2 * _END_LENGTH else f"{text[:_END_LENGTH]} … {text[-_END_LENGTH:]}"


def refusal_in(log: str) -> str | None:
    """Return the first entry of Envoy's log that tells of a refusal, or None. An entry may have many lines."""
    told = (entry for entry in _ENTRY.split(log) if _REFUSAL.search(entry))
    return next((shortened(entry) for entry in told), None)
