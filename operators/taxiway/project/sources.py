"""The rules of `source_models`: handles of models that a training starts from, each with a version or an alias."""

import re
from collections.abc import Sequence

from taxiway.errors import InvalidNameError
from taxiway_serving.names import check_handle

# MLflow keeps `latest` and numbers after a v for itself.
_ALIAS = re.compile(r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")
_RESERVED = re.compile(r"^(latest|v\d+)$", re.IGNORECASE)


def source_faults(found: Sequence[str], where: str) -> list[str]:
    """Return which source models are none: `visual_recognition`, `visual_recognition@7` or `other@champion`."""
    faults, handles = [], []
    for text in found:
        handle, at, which = text.partition("@")
        handles.append(handle)
        try:
            check_handle(handle)
        except InvalidNameError as exc:
            faults.append(f"{where}.source_models: {exc}")
        if at and not _is_version(which):
            faults.append(
                f"{where}.source_models: {text!r} must name a version from 1 or an alias after @, got {which!r}"
            )
    twice = sorted({handle for handle in handles if handles.count(handle) > 1})
    return faults + [f"{where}.source_models names {handle} twice" for handle in twice]


def _is_version(which: str) -> bool:
    if which.isdecimal():
        return which.isascii() and not which.startswith("0")
    return bool(_ALIAS.match(which)) and not _RESERVED.match(which)
