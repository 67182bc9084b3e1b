"""Protobuf's wire format, as far as Envoy is spoken with by hand: numbers, and fields that hold bytes.

What the fields mean is known where they are read and written.
"""

from collections.abc import Iterator
from typing import Any, Final

VARINT: Final = 0
FIXED_64: Final = 1
BYTES: Final = 2
FIXED_32: Final = 5


def field_bytes(number: int, content: bytes) -> bytes:
    """Return a field that holds bytes, a text or a message."""
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def fields_of(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of every field of a message: bytes for texts and messages, else a whole number.

    Raises:
        ValueError: If the bytes are no message.
    """
    view, place = memoryview(content), 0
    while place < len(view):
        key, place = _read_varint(view, place)
        kind = key & 7
        if kind == VARINT:
            value, place = _read_varint(view, place)
            yield key >> 3, value
            continue
        length = {FIXED_64: 8, FIXED_32: 4}.get(kind)
        if length is None:
            if kind != BYTES:
                raise ValueError(f"no such kind of field: {kind}")
            length, place = _read_varint(view, place)
        if place + length > len(view):
            raise ValueError("a field is cut short")
        yield key >> 3, bytes(view[place : place + length])
        place += length


def varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _read_varint(view: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    while place < len(view):
        byte = view[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place
    raise ValueError("a number is cut short")
