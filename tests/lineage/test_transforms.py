"""A transform's results are told apart by their raw data's name, and what failed is cleared away without waiting."""

import os
import time
from pathlib import Path

import pytest

from taxiway.datasets import snapshot
from taxiway.errors import ComponentFailedError
from taxiway.packaging import package
from taxiway.registry import packages
from taxiway.settings import Settings
from taxiway.tools import exclusive
from taxiway.transform import KEPT_S, _sweep, transform
from tests.datasets.conftest import write

COUNTS = """
import json, os, pathlib
if json.loads(os.environ["TAXIWAY_PARAMS"]).get("fails"):
    raise SystemExit("no data today")
data = os.environ.get("TAXIWAY_DATA_DIR")
count = len(list(pathlib.Path(data).iterdir())) if data else 0
(pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"]) / "count.txt").write_text(str(count))
"""


def age(path: Path) -> None:
    long_ago = time.time() - KEPT_S - 60
    os.utime(path, (long_ago, long_ago))


@pytest.mark.slow
def test_equal_raw_data_of_two_names_are_two_origins_and_a_failed_transform_is_cleared_away(
    handled: Path, handle: str, live: Settings, tmp_path: Path
) -> None:
    (handled / "transform.py").write_text(COUNTS)
    packages.register(package(str(handled), live, kinds=["transform"]), live)
    raw, suffix = write(tmp_path / "raw", {"r.txt": handle}), handle[-8:]
    taken = [snapshot(raw, f"{name}_{suffix}", live) for name in ("ours", "theirs")]
    made = [transform(handle, live, raw=each) for each in taken]
    assert [each.origin.parents for each in made] == [{each.tag: each.hash} for each in taken]
    assert made[0].origin.output == made[1].origin.output
    assert transform(handle, live, raw=taken[0]) == made[0]

    with pytest.raises(ComponentFailedError):
        transform(handle, live, params={"fails": True})
    results = made[0].path.parents[1]
    kept = {each.path.parent for each in made}
    (failed,) = {path for path in results.iterdir() if path.is_dir()} - kept
    for folder in (failed, *kept):
        age(folder)
        if (folder / "result.json").exists():
            age(folder / "result.json")
    transform(handle, live, raw=taken[1])
    assert not failed.exists()
    assert all(folder.exists() for folder in kept), "results of raw data may be asked for at any time"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return what transforms left long ago: shared data, data of one task, a failure; and a failure of today."""
    root = tmp_path / "transforms"
    for name, raw in (("shared", '"digits@v1"'), ("own", "null")):
        age(write(root / name, {"output/x": "1", "result.json": f'{{"raw": {raw}}}'}) / "result.json")
    for name in ("failed", "today"):
        write(root / name, {"output/x": "1"})
    age(root / "failed")
    return root


def left(results: Path) -> set[str]:
    return {path.name for path in results.iterdir() if path.is_dir()}


def test_what_nobody_will_ask_for_is_removed(results: Path) -> None:
    _sweep(results)
    assert left(results) == {"shared", "today"}


def test_what_somebody_works_on_is_left_alone_and_not_waited_for(results: Path) -> None:
    with exclusive(results / "own.lock"), exclusive(results / "failed.lock"):
        _sweep(results)
        assert left(results) == {"shared", "own", "failed", "today"}
    _sweep(results)
    assert left(results) == {"shared", "today"}


def test_nothing_is_removed_where_nothing_ran(tmp_path: Path) -> None:
    _sweep(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
