"""A Swarm of two nodes of its own: two engines, the second in a network namespace; no other test's engine is touched.

It needs root and Docker's programs. Where they are missing the tests are skipped; with TAXIWAY_TESTS_NEED_DOCKER=1, as
in CI, they fail.
"""

import os
from collections.abc import Iterator

import pytest

from benchmarks.swarm import based
from benchmarks.swarm_nodes import Swarm, missing, two_nodes


@pytest.fixture(scope="session")
def swarm() -> Iterator[Swarm]:
    """Return the Swarm, both nodes ready."""
    reason = missing()
    if reason and os.environ.get("TAXIWAY_TESTS_NEED_DOCKER"):
        pytest.fail(f"TAXIWAY_TESTS_NEED_DOCKER is set, and no Swarm can be made: {reason}")
    if reason:
        pytest.skip(reason)
    with two_nodes() as made:
        yield made


@pytest.fixture(scope="session")
def base(swarm: Swarm) -> str:
    """Return the name of an image with Python, on the first node."""
    return based(swarm, None)
