"""What the gateway is told of a version with several replicas, so that a lost one costs no answer. Pure."""

from typing import Any

import pytest

from taxiway_serving.routing import resources
from taxiway_serving.routing.cluster_resources import LOST_S
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.split import Split

ELSEWHERE = (("10.0.0.2", 32768), ("10.0.0.3", 32770))


def table(*, replicas: tuple[tuple[str, int], ...] = (), shield: bool = True) -> Table:
    backend = Backend(version=1, host="10.0.0.1", port=32768, model="digits/1", replicas=replicas)
    route = Route(handle="digits", split=Split.whole(1), backends=(backend,), shield=shield)
    return Table(routes=(route,))


def cluster(made: Table) -> dict[str, Any]:
    return next(each for each in resources.clusters(made) if each["name"] == "digits/1")


def policies(made: Table) -> list[dict[str, Any]]:
    """Return the retry policy of every route that a live request may take."""
    (scope,) = resources.scopes(made)
    (host,) = scope["route_configuration"]["virtual_hosts"]
    live = [
        each for each in host["routes"] if each.get("metadata", {}).get("filter_metadata") and "route" in each
    ]
    return [each["route"]["retry_policy"] for each in live]


def test_every_replica_is_an_endpoint() -> None:
    (group,) = cluster(table(replicas=ELSEWHERE))["load_assignment"]["endpoints"]
    places = [each["endpoint"]["address"]["socket_address"] for each in group["lb_endpoints"]]
    assert [(each["address"], each["port_value"]) for each in places] == [("10.0.0.1", 32768), *ELSEWHERE]


@pytest.mark.parametrize("shield", [True, False])
def test_what_failed_on_a_replica_is_tried_on_another(shield: bool) -> None:
    found = policies(table(replicas=ELSEWHERE, shield=shield))
    assert found
    for policy in found:
        assert policy["retry_host_predicate"][0]["name"] == "envoy.retry_host_predicates.previous_hosts"
        assert policy["num_retries"] == 1


def test_a_call_that_may_not_run_twice_is_tried_again_only_where_it_cannot_have_run() -> None:
    def words(*, shield: bool) -> set[str]:
        (first, *_) = policies(table(replicas=ELSEWHERE, shield=shield))[-1:]
        return set(first["retry_on"].split(","))

    assert words(shield=True) - words(shield=False) == {"reset"}
    assert "reset-before-request" in words(shield=False)


def test_a_connection_to_a_lost_node_is_given_up() -> None:
    (option,) = cluster(table(replicas=ELSEWHERE))["upstream_bind_config"]["socket_options"]
    assert (option["level"], option["name"], option["int_value"]) == (6, 18, 1e3 * LOST_S)


def test_a_version_with_one_replica_is_told_as_before() -> None:
    assert "upstream_bind_config" not in cluster(table())
    assert not any(
        "retry_host_predicate" in policy or "reset" in policy["retry_on"].split(",")
        for policy in policies(table())
    )
