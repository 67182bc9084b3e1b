"""Values that are read from their JSON once: of a fleet that is read at every look, next to nothing has changed."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Parsed(Generic[T]):
    """Reads texts, and remembers those that it was given last. Safe to use from several threads.

    Equal texts give the same object, so that what follows from it need not be worked out again.

    Args:
        read: Makes a value, which nobody changes, of a text's JSON.
    """

    def __init__(self, read: Callable[[Any], T]) -> None:
        self._read = read
        self._known: dict[str, T] = {}

    def of(self, texts: Iterable[str]) -> tuple[T, ...]:
        """Return the values of texts, in their order."""
        known = self._known
        found = [(text, known[text] if text in known else self._read(json.loads(text))) for text in texts]
        self._known = dict(found)
        return tuple(value for _, value in found)
