"""A prepared dataset says of which raw data and by which transform it was made, and its bytes are what that left."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway import research as tw
from taxiway.datasets import facts, snapshot
from taxiway.errors import DataChangedError
from taxiway.packaging.package import package
from taxiway.provenance import Provenance
from taxiway.registry.packages import register
from taxiway.settings import Settings
from taxiway.transform import TransformResult, origin_of, transform

pytestmark = pytest.mark.slow

SUM = """
import os, pathlib
numbers = (pathlib.Path(os.environ["TAXIWAY_DATA_DIR"]) / "numbers.txt").read_text().split()
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "sum.txt").write_text(str(sum(map(int, numbers))))
"""


def test_prepared_version_names_raw_data_and_transform(
    handled: Path, handle: str, live: Settings, tmp_path: Path
) -> None:
    (handled / "transform.py").write_text(SUM)
    (code,) = register(package(str(handled), live, kinds=["transform"]), live)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "numbers.txt").write_text("4 5 6")
    raw = snapshot(tmp_path / "raw", f"raw_{handle}"[:60], live)

    told: list[str] = []
    made = transform(handle, live, params={"unused": 1}, raw=raw, log=told.append)
    assert (made.path / "sum.txt").read_text() == "15"
    assert TransformResult.from_json(made.to_json()) == made
    assert any(raw.tag in line and " s" in line for line in told)
    assert origin_of(made.path) == made.origin

    version = snapshot(made.path, f"sums_{handle}"[:60], live, origin=made.origin)
    found = facts(version, live).origin
    assert found is not None
    assert (found.kind, found.parents) == ("transform", {raw.tag: raw.hash})
    assert found.details == {"handle": handle, "code": code.digest, "params": {"unused": 1}}

    # Put by its path alone it is no less a transform's.
    by_path = tw.put(str(made.path), f"paths_{handle}"[:60], settings=live)
    assert facts(by_path, live).origin == found

    # Output that somebody touched is no version of that origin, and is not used again.
    (made.path / "sum.txt").chmod(0o644)
    (made.path / "sum.txt").write_text("16")
    with pytest.raises(DataChangedError):
        snapshot(made.path, f"sums_{handle}"[:60], live, origin=made.origin)
    again = transform(handle, live, params={"unused": 1}, raw=raw)
    assert (again, (again.path / "sum.txt").read_text()) == (made, "15")


CLOCK = """
import os, pathlib, time
(pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"]) / "time.txt").write_text(str(time.time_ns()))
"""


def test_transform_that_brings_its_own_data_runs_for_each_task_and_not_for_its_retry(
    handled: Path, handle: str, live: Settings
) -> None:
    (handled / "transform.py").write_text(CLOCK)
    register(package(str(handled), live, kinds=["transform"]), live)
    today = Provenance(dag_id="data", run_id="scheduled__1", task_id="transform")
    first = transform(handle, live, provenance=today)
    again = transform(handle, live, provenance=replace(today, try_number=2))
    tomorrow = transform(handle, live, provenance=replace(today, run_id="scheduled__2"))
    by_hand = [transform(handle, live) for _ in range(2)]
    assert again == first
    outputs = {each.origin.output for each in (first, tomorrow, *by_hand)}
    assert len(outputs) == 4

    long_ago = time.time() - 15 * 86_400
    os.utime(first.path.parent / "result.json", (long_ago, long_ago))
    transform(handle, live, provenance=today)
    assert [each.path.exists() for each in (first, tomorrow)] == [True, True], (
        "asked for again, it came again"
    )
    os.utime(tomorrow.path.parent / "result.json", (long_ago, long_ago))
    transform(handle, live, provenance=today)
    assert not tomorrow.path.exists()


@pytest.mark.parametrize(
    "beside",
    [None, "{", "[0.9]", '{"origin": "lab 3"}'],
    ids=["no file", "no JSON", "a list", "somebody else's"],
)
def test_folder_that_no_transform_left_has_no_origin(tmp_path: Path, beside: str | None) -> None:
    (tmp_path / "output").mkdir()
    if beside is not None:
        (tmp_path / "result.json").write_text(beside)
    assert origin_of(tmp_path / "output") is None
