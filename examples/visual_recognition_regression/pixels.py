"""From what a client sends to what the network takes: 28x28 grey levels, 0 (paper) to 255 (ink).

What cannot be used is refused with ValueError and a reason that the client can act on.
"""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

SIDE = 28
# Checked in the header, before any pixel is decoded: a decompression bomb costs nothing.
MAX_PIXELS = 1_000_000


def from_image(content: bytes) -> np.ndarray:
    """Return the grey levels of a PNG or JPEG as float32 (28, 28), scaled if it has another size.

    Raises:
        ValueError: If it is neither PNG nor JPEG, is truncated or broken, or has over a million pixels.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        check_size(*image.size)
        grey = image.convert("L")
    except UnidentifiedImageError as exc:
        raise ValueError("not a PNG or JPEG image") from exc
    except Image.DecompressionBombError as exc:
        raise ValueError(f"image has too many pixels; send at most {MAX_PIXELS:,}") from exc
    except (OSError, SyntaxError, EOFError) as exc:
        raise ValueError(f"broken image: {exc}") from exc
    if grey.size != (SIDE, SIDE):
        grey = grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(grey, dtype=np.float32)


def check_size(width: int, height: int) -> None:
    """Refuse an image that would take too much memory to decode."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"image is {width}x{height} pixels; send at most {MAX_PIXELS:,} in all")


def to_network(levels: np.ndarray) -> np.ndarray:
    """Return grey levels as the network's input: float32 (1, 784) in 0..1, with the contrast stretched."""
    darkest, lightest = (int(level) for level in np.percentile(levels, (20, 80)))
    stretched = (levels - darkest) * (255 / (lightest - darkest))
    return stretched.clip(0, 255).astype(np.float32).reshape(1, SIDE * SIDE) / 255
