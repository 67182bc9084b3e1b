"""Reads width and height from the first bytes of an image. Nothing else of it is read."""

import struct
from pathlib import Path
from typing import BinaryIO

IMAGES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
_NO_SIZE = (0xC4, 0xC8, 0xCC)
"""Markers of a JPEG that look like those of a frame and are none."""


def size_of(path: Path) -> tuple[int, int] | None:
    """Return width and height in pixels of a PNG, a GIF or a JPEG; None for what cannot be read."""
    with path.open("rb") as file:
        start = file.read(24)
        try:
            if start.startswith(b"\x89PNG\r\n\x1a\n"):
                return struct.unpack(">II", start[16:24])
            if start[:6] in (b"GIF87a", b"GIF89a"):
                return struct.unpack("<HH", start[6:10])
            return _jpeg(file) if start.startswith(b"\xff\xd8") else None
        except struct.error:
            return None


def _jpeg(file: BinaryIO) -> tuple[int, int] | None:
    """Return the size that a JPEG's first frame states. Source: ITU T.81, B.2.2."""
    file.seek(2)
    while len(mark := file.read(4)) == 4 and mark[0] == 0xFF:
        _, kind, length = struct.unpack(">BBH", mark)
        if 0xC0 <= kind <= 0xCF and kind not in _NO_SIZE:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return width, height
        file.seek(length - 2, 1)
    return None
