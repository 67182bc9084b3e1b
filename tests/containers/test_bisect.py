"""A bisection repeats runs as they were, with the limits that their packages name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway.bisection import bisect
from taxiway.datasets import DatasetVersion
from taxiway.settings import Settings
from taxiway.training import train
from tests.containers.conftest import registered, silent

pytestmark = [pytest.mark.docker, pytest.mark.slow]

# Version 2 of control groups and version 1 say a container's limit in different places.
FRUGAL = """
import json, os, pathlib
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
places = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
limit = next(pathlib.Path(place).read_text().strip() for place in places if os.path.exists(place))
is_short = limit.isdecimal() and int(limit) < 2**30
(output / "model").mkdir()
(output / "model" / "weights.json").write_text(json.dumps(is_short))
(output / "metrics.json").write_text(json.dumps({{"score": 1 - 0.5 * is_short - {bias}}}))
"""
LIMITS = "\n[tool.taxiway.training.resources]\nmemory_mb = 128\n"


def test_limit_that_makes_a_model_worse_is_named(
    boxed: Settings, handled: Path, handle: str, dataset: DatasetVersion, commit: Callable[..., str]
) -> None:
    pyproject = handled / "pyproject.toml"
    for bias, limits in ((0.0, ""), (0.001, LIMITS)):
        (handled / "train.py").write_text(FRUGAL.format(bias=bias))
        pyproject.write_text(pyproject.read_text() + limits)
        commit(handled)
        registered(handled, boxed, ("training", "inference"))
        train(handle, dataset, boxed, log=silent)
    lines: list[str] = []
    found = bisect(handle, 1, 2, boxed, metric="score", log=lines.append)
    assert (found.differing, found.guilty) == (("code", "environment"), ("environment",)), lines
    assert [each.value for each in found.trials] == [pytest.approx(0.999), pytest.approx(0.5)]
