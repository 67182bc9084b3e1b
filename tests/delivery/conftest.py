"""One live serving plane for each module: the real controller process, a real Envoy, plain upstreams.

Version 2 is live and version 1 warm beside it when a module begins; a test may leave either live. When a module ends,
every decision of its rollouts is made again from the ledger.
"""

from collections.abc import Iterator

import pytest

from benchmarks.crashes import opened
from benchmarks.plane import Plane, plane
from benchmarks.replaying import differences
from benchmarks.variants import plain
from tests.ports import free_port


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    ports = [free_port() for _ in range(3)]
    with plane(plain, home=tmp_path_factory.mktemp("plane"), ports=ports) as made:
        opened(made)
        yield made
        made.kill_controller()
        assert [*differences(made.settings.database_url)] == []
