"""What a table is in Envoy's words, without an Envoy."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.routing import read_back, resources
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.routing.side_routes import HeaderRoute, Members, Mirror, SideRoutes, can_stay
from taxiway_serving.split import Split

BETA = HeaderRoute(header="x-beta", value="1", version=2)
BETA_OF_3 = HeaderRoute(header="x-beta", value="1", version=3)


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
    observed = read_back.split_of(scope_of(route(split, backends=backends)))
    assert observed == split
    assert observed is not None
    assert list(observed.parts) == list(split.parts)


def test_split_is_read_back_from_a_dump_without_zero_weights() -> None:
    scope = scope_of(route(Split.of(1, {2: 100})))
    dump = json.loads(json.dumps(scope).replace(', "weight": 0', ""))
    assert read_back.split_of(dump) == Split.of(1, {2: 100})


def test_split_of_a_handle_that_is_not_live_is_none() -> None:
    assert read_back.split_of(scope_of(route(None))) is None
    assert read_back.split_of({}) is None


PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
UNITS = st.builds(lambda kind, name: f"{kind}:{name}", st.sampled_from(["user", "cookie"]), PRINTABLE).filter(
    can_stay
)


@given(units=st.sets(UNITS, min_size=1, max_size=8), value=PRINTABLE, share=st.integers(1, 10_000))
def test_side_routes_are_read_back_as_they_were_written(units: set[str], value: str, share: int) -> None:
    wished = route(
        Split.whole(1),
        headers=(HeaderRoute(header="x-beta", value=value, version=2),),
        mirror=Mirror(host="::1", port=80, sample_pct=share / 100),
        members=Members(version=2, units=tuple(units)),
    )
    assert read_back.side_routes_of(json.loads(json.dumps(scope_of(wished)))) == wished.side_routes


def test_members_without_a_unit_are_no_members() -> None:
    wished = route(Split.whole(1), members=Members(version=2, units=()))
    assert wished.side_routes == SideRoutes() == read_back.side_routes_of(scope_of(wished))


def test_candidate_that_only_a_side_route_names_has_failover_to_stable() -> None:
    by_header = route(Split.whole(1), headers=(BETA,))
    by_member = route(Split.whole(1), members=Members(version=2, units=("user:ann",)))
    for wished in (by_header, by_member):
        assert cluster_names(wished) == ["digits/1", "digits/2", "digits/2~1"]


def test_header_route_to_stable_and_before_the_first_go_live_needs_no_failover() -> None:
    to_stable = HeaderRoute(header="x-control", value="1", version=1)
    assert cluster_names(route(Split.whole(1), headers=(to_stable,))) == ["digits/1", "digits/2"]
    assert cluster_names(route(None, headers=(to_stable,))) == ["digits/1", "digits/2"]


def test_handles_with_the_same_mirror_share_its_cluster() -> None:
    mirror = Mirror(host="127.0.0.1", port=9000, sample_pct=10)
    routes = tuple(
        Route(handle=handle, split=Split.whole(1), backends=(backend(1),), mirror=mirror)
        for handle in ("digits", "letters")
    )
    names = [cluster["name"] for cluster in resources.clusters(Table(routes=routes))]
    assert names == ["digits/1", "mirror~127.0.0.1:9000", "letters/1"]


def test_clusters_that_live_traffic_leaves_linger_for_one_table() -> None:
    busy = route(
        Split.whole(1),
        headers=(BETA,),
        mirror=Mirror(host="127.0.0.1", port=9000, sample_pct=10),
    )
    before, after = Table(routes=(busy,)), Table(routes=(route(Split.whole(1), backends=(backend(1),)),))
    kept = resources.lingering(
        resources.clusters(after), resources.clusters(before), resources.scopes(before)
    )
    # Version 2 itself is reached by pins only.
    assert [cluster["name"] for cluster in kept] == ["digits/2~1", "mirror~127.0.0.1:9000"]


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
        route(Split.of(1, {2: 5}), headers=(BETA,)),
        route(Split.of(1, {2: 5}), mirror=Mirror(host="127.0.0.1", port=9, sample_pct=1)),
        route(Split.of(1, {2: 5}), members=Members(version=2, units=("user:ann",))),
    ],
    ids=["weight", "stable", "live", "shield", "rate", "ready", "header", "mirror", "members"],
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
        ({"headers": (BETA_OF_3,)}, "version 3 has a header route but no backend"),
        ({"headers": (BETA, BETA)}, "more than one header route for x-beta=1"),
        ({"split": None, "mirror": Mirror(host="h", port=1, sample_pct=1)}, "a mirror needs live traffic"),
        ({"members": Members(version=3, units=())}, "version 3 has members but no backend"),
        ({"members": Members(version=1, units=())}, "need another version that is stable, got 1"),
        ({"split": None, "members": Members(version=1, units=())}, "that is stable, got None"),
    ],
    ids=[
        *("split", "twice", "rate", "timeout", "handle", "header", "header twice", "mirror", "member"),
        *("member is stable", "member without stable"),
    ],
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
