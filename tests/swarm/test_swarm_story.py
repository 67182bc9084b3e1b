"""Everything that happens to a Swarm, under load through a live Envoy: what each event costs, counted and asserted."""

from pathlib import Path

import pytest

from benchmarks.report import report, told
from benchmarks.swarm import EVENTS, SLOWEST_BAR_S, SwarmPlane, built, measured
from benchmarks.swarm_nodes import Swarm

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.mark.timeout(1_200)
def test_clients_notice_no_update_crash_or_drain_and_little_of_a_lost_node(
    swarm: Swarm, base: str, tmp_path: Path
) -> None:
    made = SwarmPlane(swarm, built(swarm, base), tmp_path)
    try:
        with made.running():
            figures = list(told(measured(made)))
    finally:
        swarm.mend()
    report("swarm", figures)
    assert [figure for figure in figures if not figure.holds] == []
    counted = [figure for figure in figures if figure.name.endswith(": failed requests")]
    assert [figure.name.partition(":")[0] for figure in counted] == [*EVENTS]
    assert all(figure.bar is not None for figure in counted)
    (slowest,) = (figure for figure in figures if figure.name == "node cut off: slowest answer, s")
    assert slowest.bar == SLOWEST_BAR_S
    (requests,) = (figure.value for figure in figures if figure.name == "requests")
    assert requests is not None
    assert requests > 1_000
    (scaled,) = (entry for entry in made.entries if entry.kind == "scaled")
    assert (scaled.body["from"], scaled.body["to"]) == (2, 3)
    assert scaled.body["in_flight_mean"] > 8
