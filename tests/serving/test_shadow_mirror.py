"""Mirrored by a real Envoy: live requests, their copies, and what the comparator finds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway_serving.contracts import Until
from taxiway_serving.criterion import Criterion
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.side_routes import Mirror
from taxiway_serving.shadow.calls import Target
from taxiway_serving.shadow.comparator import Comparator, comparing
from taxiway_serving.shadow.lane import Comparing, Limits
from taxiway_serving.shadow.log import ShadowLog, log_path
from taxiway_serving.split import Split
from tests.serving.conftest import Gateway, Toy
from tests.serving.traffic import attempts, predict, put, table

pytestmark = pytest.mark.slow

MakeToy = Callable[..., Toy]
REQUESTS = 60
PATIENT = Limits(waiting=REQUESTS, call_s=600.0, compare_s=600.0)


def target(toy: Toy) -> Target:
    return Target(version=toy.version, host="127.0.0.1", port=toy.port)


def mirror(comparator: Comparator) -> Mirror:
    return Mirror(host=comparator.host, port=comparator.port, sample_pct=100)


def test_failing_candidate_is_found_by_its_mirrored_requests_and_no_client_meets_it(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, tmp_path: Path
) -> None:
    live, copy, candidate = toy(1), toy(1), toy(2, fail_every=10)
    pair = Comparing(stable=target(copy), candidate=target(candidate), criterion=Criterion(pointer="/path"))
    with comparing(tmp_path, limits=PATIENT) as comparator:
        comparator.follow("digits", pair)
        put(router, table(Split.whole(1), live, mirror=mirror(comparator)), until)
        with gateway.client() as client:
            answers = [predict(client, user) for user in range(REQUESTS)]
        until(lambda: comparator.counts("digits").compared == REQUESTS)
    assert {(answer.status_code, answer.headers["x-taxiway-version"]) for answer in answers} == {(200, "1")}
    found = ShadowLog(log_path(tmp_path, "digits")).read("").comparisons
    assert {each.request_id for each in found} == {answer.headers["x-request-id"] for answer in answers}
    assert {each.unit for each in found} == {f"user:{user}" for user in range(REQUESTS)}
    assert [each.detail for each in found if each.candidate_differs] == ["status 200 or 500"] * (
        REQUESTS // 10
    )
    assert not any(each.noise_differs or each.failed for each in found)
    assert len(attempts(gateway.settings, REQUESTS, until)) == REQUESTS


def test_client_without_a_name_is_the_same_unit_in_both_logs(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, tmp_path: Path
) -> None:
    live, copy = toy(1), toy(1)
    with comparing(tmp_path, limits=PATIENT) as comparator:
        comparator.follow("digits", Comparing(stable=target(copy), candidate=target(copy)))
        put(router, table(Split.whole(1), live, mirror=mirror(comparator)), until)
        with gateway.client() as client:
            for _ in range(2):
                assert client.post("/digits/predict", json={}).status_code == 200
        until(lambda: comparator.counts("digits").compared == 2)
    found = ShadowLog(log_path(tmp_path, "digits")).read("").comparisons
    assert {each.unit for each in found} == {attempt.unit for attempt in attempts(gateway.settings, 2, until)}
    assert {each.unit.partition(":")[0] for each in found} == {"cookie"}


def test_comparator_that_is_gone_costs_clients_nothing(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, tmp_path: Path
) -> None:
    live = toy(1)
    with comparing(tmp_path, limits=PATIENT) as comparator:
        comparator.follow("digits", Comparing(stable=target(live), candidate=target(live)))
        put(router, table(Split.whole(1), live, mirror=mirror(comparator)), until)
    with gateway.client() as client:
        assert {predict(client, user).status_code for user in range(REQUESTS)} == {200}
