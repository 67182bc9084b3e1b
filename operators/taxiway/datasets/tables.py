"""Reads tables and arrays for a profile: a bounded part of each file, spread over it, and says how much it was.

What is computed of a column is in `columns.py`. The libraries that read are imported in the functions that need them.
"""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.datasets.columns import describe

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

SAMPLE_BYTES = 16 << 20
SLICES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What was found in one file.

    Attributes:
        kind: `csv`, `parquet`, `jsonl`, `npy` or `npz`.
        rows: How many there are; how many were read where nobody can tell without reading all.
        columns: What is in each, as `columns.describe` says it.
        part: What was read, in words; empty for all of it.
    """

    kind: str
    rows: int
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    part: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        said = {"kind": self.kind, "rows": self.rows, "columns": dict(self.columns)}
        return said | ({"part": self.part} if self.part else {})


def reader_of(path: Path) -> Callable[[Path], Table] | None:
    """Return what reads a file, by its name; None for what is no table."""
    return _READERS.get(path.suffix.lower())


def _csv(path: Path) -> Table:
    from pyarrow import csv

    sample, part = _lines(path, has_title=True)
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    parse = csv.ParseOptions(delimiter=separator, invalid_row_handler=lambda _row: "skip")
    return _of_arrow("csv", csv.read_csv(io.BytesIO(sample), parse_options=parse), part=part)


def _jsonl(path: Path) -> Table:
    from pyarrow import json

    sample, part = _lines(path, has_title=False)
    return _of_arrow("jsonl", json.read_json(io.BytesIO(sample)), part=part)


def _parquet(path: Path) -> Table:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        groups, size = file.metadata.num_row_groups, max(1, path.stat().st_size)
        step = max(1, -(-size // SAMPLE_BYTES))
        taken = list(range(0, groups, step))
        part = f"{len(taken)} of {groups} row groups" if len(taken) < groups else ""
        return _of_arrow("parquet", file.read_row_groups(taken), rows=file.metadata.num_rows, part=part)


def _npy(path: Path) -> Table:
    import numpy as np

    array = np.load(path, mmap_mode="r", allow_pickle=False)
    column, part = _of_array(array)
    return Table(kind="npy", rows=len(array) if array.ndim else 1, columns={"": column}, part=part)


def _npz(path: Path) -> Table:
    import numpy as np

    columns, parts, rows = {}, [], 0
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            if sizes[name] > 4 * SAMPLE_BYTES:
                parts.append(f"{name} not read: {sizes[name]} bytes")
                continue
            columns[name], part = _of_array(arrays[name])
            rows = max(rows, arrays[name].shape[0] if arrays[name].ndim else 1)
            parts += [f"{name}: {part}"] if part else []
    return Table(kind="npz", rows=rows, columns=columns, part="; ".join(parts))


def _of_array(array: Any) -> tuple[dict[str, Any], str]:
    """Return what is in an array, every so many elements of a big one, and how much was read."""
    import numpy as np

    flat = array.reshape(-1)
    step = max(1, -(-array.nbytes // SAMPLE_BYTES))
    said = describe(np.asarray(flat[::step]), missing=0)
    shape = {"type": str(array.dtype), "shape": list(array.shape)}
    return said | shape, f"one of {step} elements" if step > 1 else ""


def _of_arrow(kind: str, table: "pa.Table", *, rows: int | None = None, part: str = "") -> Table:
    columns = {name: _of_column(table.column(name)) for name in table.column_names}
    return Table(kind=kind, rows=table.num_rows if rows is None else rows, columns=columns, part=part)


def _of_column(column: "pa.ChunkedArray") -> dict[str, Any]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        return {"type": str(kind), "count": len(column), "missing": column.null_count}
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int64() if kind.bit_width == 64 else pa.int32())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    values = column.drop_null().to_numpy()
    return describe(values, missing=column.null_count) | {"type": str(kind)}


def _lines(path: Path, *, has_title: bool) -> tuple[bytes, str]:
    """Return whole lines of a text file, of a big one from places spread over it, and how much that is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= SAMPLE_BYTES:
            return file.read(), ""
        title = file.readline() if has_title else b""
        slices = b"".join(_slices(file, file.tell(), size))
    return title + slices, f"{len(slices)} of {size} bytes, from {SLICES} places"


def _slices(file: io.BufferedReader, start: int, size: int) -> Iterator[bytes]:
    length = SAMPLE_BYTES // SLICES
    for place in range(SLICES):
        offset = start + (size - start - length) * place // (SLICES - 1)
        file.seek(offset)
        block = file.read(length)
        if offset > start:
            block = block.partition(b"\n")[2]
        yield block[: block.rfind(b"\n") + 1] if file.tell() < size else block.removesuffix(b"\n") + b"\n"


_READERS: dict[str, Callable[[Path], Table]] = {
    **dict.fromkeys((".csv", ".tsv"), _csv),
    **dict.fromkeys((".jsonl", ".ndjson"), _jsonl),
    **dict.fromkeys((".parquet", ".pq"), _parquet),
    ".npy": _npy,
    ".npz": _npz,
}
