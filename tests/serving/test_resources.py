"""What a table is in Envoy's words, without an Envoy."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.routing import resources
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.split import Split


def backend(version: int, *, ready: bool = True) -> Backend:
    return Backend(
        version=version, host="127.0.0.1", port=20_000 + version, model=f"digits/{version}", ready=ready
    )


def route(split: Split | None, **changes: Any) -> Route:
    usual: dict[str, Any] = {"handle": "digits", "backends": (backend(1), backend(2))}
    return Route(**{**usual, "split": split, **changes})


def scope_of(wished: Route) -> dict[str, Any]:
    (scope,) = resources.scopes(Table(routes=(wished,)))
    return scope


def routes_of(wished: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = scope_of(wished)["route_configuration"]["virtual_hosts"][0]["routes"]
    return found


def cluster_names(wished: Route) -> list[str]:
    return [cluster["name"] for cluster in resources.clusters(Table(routes=(wished,)))]


CANARIES = st.dictionaries(st.integers(2, 9), st.integers(1, 3000), max_size=3)


@given(canaries=CANARIES)
def test_split_is_read_back_as_it_was_written(canaries: dict[int, int]) -> None:
    split = Split.of(1, {version: parts / 100 for version, parts in canaries.items()})
    backends = tuple(backend(version) for version in split.parts)
    observed = resources.split_of(scope_of(route(split, backends=backends)))
    assert observed == split
    assert observed is not None
    assert list(observed.parts) == list(split.parts)


def test_split_is_read_back_from_a_dump_without_zero_weights() -> None:
    scope = scope_of(route(Split.of(1, {2: 100})))
    dump = json.loads(json.dumps(scope).replace(', "weight": 0', ""))
    assert resources.split_of(dump) == Split.of(1, {2: 100})


def test_split_of_a_handle_that_is_not_live_is_none() -> None:
    assert resources.split_of(scope_of(route(None))) is None
    assert resources.split_of({}) is None


def test_each_canary_has_a_cluster_that_fails_over_to_stable() -> None:
    assert cluster_names(route(Split.of(1, {2: 5}))) == ["digits/1", "digits/2", "digits/2~1"]
    assert cluster_names(route(Split.whole(1))) == ["digits/1", "digits/2"]
    assert cluster_names(route(None)) == ["digits/1", "digits/2"]


def test_every_named_cluster_exists() -> None:
    wished = route(Split.of(1, {2: 5}))
    named = set()
    for found in routes_of(wished):
        action = found.get("route", {})
        named |= {cluster["name"] for cluster in action.get("weighted_clusters", {}).get("clusters", [])}
        named |= {action["cluster"]} if "cluster" in action else set()
    assert named <= set(cluster_names(wished))


def test_only_a_shielded_canary_is_retried_for_its_errors() -> None:
    def retries(wished: Route) -> dict[str, bool]:
        weighted = routes_of(wished)[-1]["route"]["weighted_clusters"]["clusters"]
        return {c["name"]: "x-envoy-retry-on" in json.dumps(c) for c in weighted}

    split = Split.of(1, {2: 5})
    assert retries(route(split)) == {"digits/2~1": True, "digits/1": False}
    assert retries(route(split, shield=False)) == {"digits/2~1": False, "digits/1": False}


def test_pins_have_a_bucket_of_their_own() -> None:
    found = routes_of(route(Split.whole(1), rate_limit_rps=20.0))
    assert [("typed_per_filter_config" in r) for r in found] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("rps", "tokens", "interval"), [(20.0, 20, "1s"), (0.5, 1, "2s"), (2.5, 3, "1.2s")], ids=str
)
def test_rate_limit_lets_its_rate_through(rps: float, tokens: int, interval: str) -> None:
    host = scope_of(route(Split.whole(1), rate_limit_rps=rps))["route_configuration"]["virtual_hosts"][0]
    bucket = host["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]["token_bucket"]
    assert bucket == {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": interval}


def test_revision_is_the_content_and_not_the_order_of_things() -> None:
    split = Split.of(1, {2: 5})
    one = Table(routes=(route(split), Route(handle="other", split=None, backends=())))
    same = Table(routes=(one.routes[1], route(split, backends=(backend(2), backend(1)))))
    assert one.revision() == same.revision()


@pytest.mark.parametrize(
    "other",
    [
        route(Split.of(1, {2: 6})),
        route(Split.of(2, {1: 95})),
        route(None),
        route(Split.of(1, {2: 5}), shield=False),
        route(Split.of(1, {2: 5}), rate_limit_rps=1.0),
        route(Split.of(1, {2: 5}), backends=(backend(1), backend(2, ready=False))),
    ],
    ids=["weight", "stable", "live", "shield", "rate", "ready"],
)
def test_revision_changes_with_the_content(other: Route) -> None:
    assert Table(routes=(other,)).revision() != Table(routes=(route(Split.of(1, {2: 5})),)).revision()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"split": Split.whole(3)}, "version 3 is in the split but has no backend"),
        ({"backends": (backend(1), backend(1))}, "version 1 has two backends"),
        ({"rate_limit_rps": 0.0}, "rate_limit_rps must be above 0"),
        ({"timeout_s": 0.0}, "timeout_s must be above 0"),
        ({"handle": "Digits"}, "must match"),
    ],
    ids=["split", "twice", "rate", "timeout", "handle"],
)
def test_route_that_is_wrong_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidSpecError, match=fault):
        route(**{"split": Split.whole(1), **changes})


def test_table_with_two_routes_of_a_handle_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="digits has more than one route"):
        Table(routes=(route(None), route(None)))


@pytest.mark.parametrize(("host", "port"), [("", 1), ("127.0.0.1", 0), ("127.0.0.1", 70_000)])
def test_backend_without_an_address_is_refused(host: str, port: int) -> None:
    with pytest.raises(InvalidSpecError, match="needs an address"):
        Backend(version=1, host=host, port=port, model="digits/1")
