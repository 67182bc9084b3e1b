"""Header routes, mirrors and members as values: what they accept, and what they say of what they refuse."""

from typing import Any

import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.routing.side_routes import HeaderRoute, Members, Mirror, can_stay


def test_headers_name_is_read_in_any_case() -> None:
    assert HeaderRoute(header="X-Beta", value="1", version=2) == HeaderRoute(
        header="x-beta", value="1", version=2
    )


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, "needs either a header or a cookie"),
        ({"header": "x-beta", "cookie": "beta"}, "needs either a header or a cookie"),
        ({"header": "x_beta"}, "header must be letters, digits and hyphens"),
        ({"header": "x-taxiway-version"}, "not Taxiway's own"),
        ({"header": "X-Envoy-Retry-On"}, "not Taxiway's own"),
        ({"header": "cookie"}, "not Taxiway's own"),
        ({"header": ":path"}, "header must be"),
        ({"header": "x-beta", "value": ""}, "value must be 1 to 200"),
        ({"header": "x-beta", "value": " 1"}, "value must be 1 to 200"),
        ({"header": "x-beta", "value": "1\n"}, "value must be 1 to 200"),
        ({"header": "x-beta", "value": "1" * 201}, "value must be 1 to 200"),
        ({"cookie": "taxiway_uid"}, "other than taxiway_uid"),
        ({"cookie": "a b"}, "cookie must be a cookie's name"),
        ({"cookie": "segment", "value": "a;b"}, "that it can hold"),
        ({"cookie": "segment", "value": 'a"b'}, "that it can hold"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)
def test_header_route_that_is_wrong_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidSpecError, match=fault):
        HeaderRoute(**{"value": "1", "version": 2, **changes})


@pytest.mark.parametrize("sample_pct", [0, 0.001, 100.1, -1, float("nan")], ids=str)
def test_mirror_of_an_impossible_share_is_refused(sample_pct: float) -> None:
    with pytest.raises(InvalidSpecError, match=r"from 0\.01 to 100"):
        Mirror(host="127.0.0.1", port=1, sample_pct=sample_pct)


def test_mirror_without_an_address_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="needs an address"):
        Mirror(host="", port=0, sample_pct=1)


def test_mirrors_share_has_two_digits() -> None:
    assert Mirror(host="127.0.0.1", port=1, sample_pct=100 / 3).sample_pct == 33.33


def test_members_are_a_set() -> None:
    assert Members(version=2, units=("user:b", "user:a", "user:b")) == Members(
        version=2, units=("user:a", "user:b")
    )


@pytest.mark.parametrize(
    ("unit", "stays"),
    [
        ("user:ann", True),
        ("user:ann.b|c d", True),
        ("cookie:8e3a6c1e-0f5d", True),
        ("request:8e3a6c1e-0f5d", False),
        ("user:", False),
        ("user: ann", False),
        ("user:a\nb", False),
        ("user:" + "x" * 200, True),
        ("user:" + "x" * 201, False),
        ("ann", False),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_only_who_can_be_known_again_can_stay(unit: str, stays: bool) -> None:
    assert can_stay(unit) is stays


def test_members_of_leaves_out_who_cannot_stay() -> None:
    assert Members.of(2, ["user:ann", "request:8e3a6c1e-0f5d"]).units == ("user:ann",)
    with pytest.raises(InvalidSpecError, match="'request:8e3a6c1e-0f5d'"):
        Members(version=2, units=("request:8e3a6c1e-0f5d",))


def test_more_than_a_thousand_members_are_refused() -> None:
    units = tuple(f"user:{number}" for number in range(1001))
    assert len(Members(version=2, units=units[:1000]).units) == 1000
    with pytest.raises(InvalidSpecError, match="at most 1000 units, got 1001"):
        Members(version=2, units=units)
