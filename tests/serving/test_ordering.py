"""The routing table that follows from the desired state, and what one handle's mistake costs the others: nothing."""

from dataclasses import replace
from typing import Any

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.controller.ordering import may_leave, table_of, wanted_split
from taxiway_serving.controller.refusals import check_routes
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Variant, Wish
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.spec import spec_from_json
from taxiway_serving.rollout.state import HeaderRoute, Status
from taxiway_serving.routing.side_routes import MAX_MEMBERS
from taxiway_serving.split import Split
from tests.serving.plane import HANDLE, Plane

STEPS = [{"setWeight": 100}]


def _variant(handle: str, version: int, **spec: Any) -> Variant:
    model = {"model": f"{handle}/{version}", **spec}
    return Variant(handle=handle, version=version, spec=model, host="127.0.0.1", port=8000 + version)


def _fleet(endpoint: Endpoint, *variants: Variant) -> Fleet:
    """Return a fleet of one handle of interest, and one that is well."""
    well = Endpoint(handle="well", stable=1, split=Split.whole(1))
    mine = variants or tuple(_variant(endpoint.handle, version) for version in (1, 2))
    return Fleet(endpoints=(endpoint, well), variants=(*mine, _variant("well", 1)))


LIVE = Endpoint(handle="digits", stable=1, split=Split.of(1, {2: 5}))
BROKEN = {
    "a header of the gateway's own": replace(
        LIVE, header=HeaderRoute(header="x-envoy-retry-on", versions={"1": 2})
    ),
    "a value that no header holds": replace(LIVE, header=HeaderRoute(header="x-beta", versions={"é": 2})),
    "a mirror of next to nothing": replace(LIVE, mirror_pct=0.001),
    "members of the stable version": replace(LIVE, closed={1: ("user:a",)}),
}


@pytest.mark.parametrize("endpoint", BROKEN.values(), ids=BROKEN.keys())
def test_table_leaves_out_what_is_broken_beside_a_split_and_keeps_the_split(endpoint: Endpoint) -> None:
    told: list[str] = []
    table = table_of(_fleet(endpoint), {}, ("127.0.0.1", 9), on_fault=lambda what, _: told.append(what))
    route, well = table.route("digits"), table.route("well")
    assert route is not None
    assert well is not None
    assert route.split == LIVE.split
    assert (route.headers, route.mirror, route.members) == ((), None, None)
    assert told == ["route of digits"]


def test_table_leaves_out_a_route_that_cannot_be_made() -> None:
    stranger = replace(LIVE, split=Split.whole(9))
    table = table_of(_fleet(stranger), {})
    assert [route.handle for route in table.routes] == ["well"]


def test_table_lists_no_more_members_than_the_gateway_can_hold() -> None:
    units = tuple(f"user:{number:04}" for number in range(MAX_MEMBERS + 7))
    route = table_of(_fleet(replace(LIVE, split=Split.whole(1), closed={2: units})), {}).route("digits")
    assert route is not None
    assert route.members is not None
    assert route.members.units == units[:MAX_MEMBERS]


def test_table_has_no_members_of_a_version_that_is_gone() -> None:
    closed = replace(LIVE, split=Split.whole(1), closed={2: ("user:a",)})
    stopped = replace(_variant("digits", 2), wish=Wish.STOPPED)
    route = table_of(_fleet(closed, _variant("digits", 1), stopped), {}).route("digits")
    assert route is not None
    assert route.members is None


@pytest.mark.parametrize(
    ("limits", "expected"), [((5.0, 9.0), 9.0), ((5.0, None), None), ((None, None), None)]
)
def test_table_limits_a_handle_by_its_most_generous_version(
    limits: tuple[float | None, ...], expected: float | None
) -> None:
    variants = [_variant("digits", number, max_rps=limit) for number, limit in enumerate(limits, 1)]
    route = table_of(_fleet(LIVE, *variants), {}).route("digits")
    assert route is not None
    assert route.rate_limit_rps == expected


def test_weights_that_are_rounded_above_the_whole_fit_into_it() -> None:
    spec = spec_from_json(
        {"id": "r", "handle": "digits", "version": 2, "rivals": [3, 4, 5, 6, 7], "strategy": "bandit"}
    )
    weights = dict.fromkeys(range(2, 8), 16.67)
    state = replace(begin(stable=1, now_s=0.0), status=Status.PROGRESSING, weights=weights)
    split = wanted_split(spec, state)
    assert split is not None
    assert split.parts[1] == 0
    assert all(abs(split.weight_pct(version) - 16.67) <= 0.03 for version in weights)


# Refused before it is stored


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ({"setHeaderRoute": {"header": "x-taxiway-version", "value": "1"}}, "Taxiway's own"),
        ({"setHeaderRoute": {"header": "x-beta", "value": "é"}}, "printable"),
        ({"setHeaderRoute": {"cookie": "taxiway_uid", "value": "a"}}, "other than taxiway_uid"),
        ({"setHeaderRoute": {"header": "x-beta", "values": {"a": 9}}}, "candidates are [2]"),
        ({"setMirrorRoute": {"sample_pct": 0.001}}, "sample_pct"),
    ],
    ids=["own header", "odd value", "own cookie", "stranger", "mirror"],
)
def test_rollout_with_a_route_that_cannot_be_is_refused(plane: Plane, step: Any, fault: str) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.tick(3)
    with pytest.raises(InvalidSpecError) as caught:
        plane.begin(2, name="r", strategy={"kind": "canary", "steps": [step, *STEPS]})
    assert fault in str(caught.value)
    assert plane.store.rollout("r") is None


def test_routes_are_refused_with_every_fault_at_once() -> None:
    steps = [
        {"setHeaderRoute": {"header": "host", "value": "é"}},
        {"setHeaderRoute": {"cookie": "taxiway_uid", "value": "a"}},
        *STEPS,
    ]
    body = {"id": "r", "handle": "digits", "version": 2, "strategy": {"kind": "canary", "steps": steps}}
    spec = spec_from_json(body)
    with pytest.raises(InvalidSpecError) as caught:
        check_routes(spec, spec.steps)
    assert len(caught.value.faults) == 3


def test_header_route_that_goes_and_a_mirror_that_ends_are_no_faults() -> None:
    steps = [{"setHeaderRoute": {}}, {"setMirrorRoute": {"sample_pct": 0}}, *STEPS]
    body = {"id": "r", "handle": "digits", "version": 2, "strategy": {"kind": "canary", "steps": steps}}
    spec = spec_from_json(body)
    check_routes(spec, spec.steps)


def test_live_version_is_no_candidate_of_an_experiment(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    with pytest.raises(InvalidSpecError, match="version 1 is live, so it is the control"):
        plane.begin(2, name="r", rivals=[1], strategy="bandit")


def test_broken_route_of_one_handle_leaves_the_gateway_to_the_others(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.go_live(1)
    plane.go_live(11, handle="faces")
    endpoint = plane.store.fleet().endpoint(HANDLE)
    assert endpoint is not None
    bad = replace(endpoint, header=HeaderRoute(header="x-envoy-upstream", versions={"1": 1}))
    plane.store.commit(Change(endpoints=(bad,)))
    plane.deploy(12, handle="faces")
    plane.tick(4, requests=5)
    plane.begin(12, name="r", handle="faces", strategy="all_at_once")
    plane.tick(20, requests=20)
    assert (plane.live("faces"), plane.router.observed(HANDLE)) == (12, Split.whole(1))
    assert caplog.text.count("route of digits") == 1


LEAVES = {
    "nobody needs it": (Split.whole(1), Answer.YES, 10.0, True),
    "read back with a share": (Split.of(1, {2: 5}), Answer.YES, 10.0, False),
    "requests under way": (Split.whole(1), Answer.NO, 10.0, False),
    "nobody knows whether": (Split.whole(1), Answer.UNKNOWN, 10.0, False),
    "kept warm": (Split.whole(1), Answer.YES, 4.0, False),
}


@pytest.mark.parametrize(("observed", "drained", "now_s", "leaves"), LEAVES.values(), ids=LEAVES.keys())
def test_variant_leaves_when_nobody_needs_it_and_the_gateway_sends_it_nothing(
    observed: Split, drained: Answer, now_s: float, leaves: bool
) -> None:
    """The wanted split is read back a moment later: until then requests still go by the old one."""
    gone = replace(_variant("digits", 2), retire_at_s=5.0)
    fleet = _fleet(replace(LIVE, split=Split.whole(1)), _variant("digits", 1), gone)
    assert may_leave(gone, fleet, now_s=now_s, observed=observed, drained=drained) is leaves
