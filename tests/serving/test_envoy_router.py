"""A real Envoy, told by files and read back: splits, shield, pins, limits, refusals, deaths."""

import itertools
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import RouterContract, Until
from taxiway_serving.names import VariantId
from taxiway_serving.routing import bootstrap
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split
from tests.serving.conftest import Gateway, Toy, patient_router
from tests.serving.traffic import attempts, predict, put, table, versions_of

pytestmark = pytest.mark.slow

FIRST = VariantId(handle="digits", version=1)
SECOND = VariantId(handle="digits", version=2)
MakeToy = Callable[..., Toy]


class TestEnvoyRouter(RouterContract):
    """Over one Envoy of this host, and real toys."""


def test_answer_names_handle_version_model_and_request(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.whole(1), toy(1)), until)
    with gateway.client() as client:
        answer = client.post("/digits/predict", content=b"{}")
    assert answer.json() == {"version": "1", "path": "/predict"}
    assert answer.headers["x-taxiway-handle"] == "digits"
    assert answer.headers["x-taxiway-version"] == "1"
    assert answer.headers["x-taxiway-model"] == "digits/1"
    assert len(answer.headers["x-request-id"]) == 36


def test_two_handles_share_one_front_door(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    """R53."""
    routes = tuple(
        Route(handle=handle, split=Split.whole(version), backends=(toy(version).backend,))
        for handle, version in (("digits", 1), ("letters", 2))
    )
    put(router, Table(routes=routes), until)
    with gateway.client() as client:
        for route in routes:
            headers = client.post(f"/{route.handle}/predict", content=b"{}").headers
            stable = str(route.split.stable) if route.split else ""
            assert (headers["x-taxiway-handle"], headers["x-taxiway-version"]) == (route.handle, stable)


def test_share_of_users_is_the_weight(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    """R64: within four standard errors of a binomial share."""
    users, share = 1500, 0.1
    put(router, table(Split.of(1, {2: share * 100}), toy(1), toy(2)), until)
    with gateway.client() as client:
        on_canary = sum(version == "2" for version in versions_of(client, range(users)).values())
    assert abs(on_canary / users - share) < 4 * (share * (1 - share) / users) ** 0.5


def test_raising_a_canary_moves_no_canary_user_back(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    toys = toy(1), toy(2)
    users, canaries = range(400), []
    with gateway.client() as client:
        for weight_pct in (5, 25, 100):
            put(router, table(Split.of(1, {2: weight_pct}), *toys), until)
            seen = versions_of(client, users)
            canaries.append({user for user, version in seen.items() if version == "2"})
            assert versions_of(client, range(40)) == {user: seen[user] for user in range(40)}
    assert canaries[0] < canaries[1] < canaries[2]
    assert 5 <= len(canaries[0]) <= 40
    assert 70 <= len(canaries[1]) <= 130
    assert len(canaries[2]) == 400


def test_client_with_our_cookie_stays_where_its_first_request_went(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.of(1, {2: 50}), toy(1), toy(2)), until)
    for _ in range(20):
        with gateway.client() as client:
            answers = [client.post("/digits/predict", content=b"{}") for _ in range(4)]
        assert len({answer.headers["x-taxiway-version"] for answer in answers}) == 1
        assert ["set-cookie" in answer.headers for answer in answers] == [True, False, False, False]
    units = Counter(attempt.unit for attempt in attempts(gateway.settings, 80, until))
    assert set(units.values()) == {4}
    assert all(unit.startswith("cookie:") for unit in units)


def test_shielded_canarys_errors_reach_no_client_and_all_are_evidence(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.of(1, {2: 50}), toy(1), toy(2, fail_every=3)), until)
    with gateway.client() as client:
        answers = [predict(client, user) for user in range(300)]
    assert {answer.status_code for answer in answers} == {200}
    saved = [answer for answer in answers if answer.headers["x-envoy-attempt-count"] == "2"]
    assert {answer.headers["x-taxiway-version"] for answer in saved} == {"1"}
    seen = attempts(gateway.settings, 300 + len(saved), until)
    failed = [a for a in seen if a.is_error]
    assert {(a.assigned, a.answered, a.status, a.number) for a in failed} == {(2, 2, 500, 1)}
    assert {a.request_id for a in failed} == {answer.headers["x-request-id"] for answer in saved}
    again = [a for a in seen if a.number == 2]
    assert {(a.assigned, a.answered, a.status) for a in again} == {(2, 1, 200)}
    assert len(again) == len(failed) == len(saved) > 30


def test_unshielded_canarys_errors_reach_its_clients(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.of(1, {2: 50}), toy(1), toy(2, fail_every=1), shield=False), until)
    with gateway.client() as client:
        statuses = Counter(predict(client, user).status_code for user in range(40))
    assert statuses[500] > 5
    assert all(a.number == 1 for a in attempts(gateway.settings, 40, until))


def test_stables_own_errors_are_not_run_twice(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.whole(1), toy(1, fail_every=1)), until)
    with gateway.client() as client:
        wish = {"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "5"}
        answer = predict(client, "ada", **wish)
    assert (answer.status_code, answer.headers["x-envoy-attempt-count"]) == (500, "1")


def test_canary_that_hangs_is_answered_by_stable_after_its_time(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.of(1, {2: 100}), toy(1), toy(2, delay_s=30), timeout_s=2.0), until)
    with gateway.client() as client:
        answer = predict(client, "ada")
    assert (answer.status_code, answer.headers["x-taxiway-version"]) == (200, "1")
    first, second = attempts(gateway.settings, 2, until)
    assert (first.assigned, first.is_error, second.answered, second.number) == (2, True, 1, 2)


def test_client_that_hangs_up_is_no_error_of_the_variant(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.whole(1), toy(1)), until)
    with socket.create_connection(("127.0.0.1", gateway.settings.envoy_port)) as client:
        client.sendall(b"POST /digits/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        until(lambda: router.drained(FIRST) is Answer.NO)
    (abandoned,) = attempts(gateway.settings, 1, until)
    assert (abandoned.status, abandoned.is_abandoned, abandoned.is_error) == (0, True, False)


def test_canary_and_stable_both_dead_is_a_503_that_says_so(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    toys = toy(1), toy(2)
    put(router, table(Split.of(1, {2: 50}), *toys), until)
    for dead in toys:
        dead.kill()
    until(lambda: {router.warm(FIRST), router.warm(SECOND)} == {Answer.NO})
    with gateway.client() as client:
        answers = [predict(client, user) for user in range(10)]
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["error"]["reason"] for answer in answers} == {"no_healthy_upstream"}


def test_large_upload_is_shielded_too(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.of(1, {2: 100}), toy(1), toy(2, fail_every=1)), until)
    with gateway.client() as client:
        answer = client.post("/digits/predict", content=b"x" * 5_000_000)
    assert (answer.status_code, answer.headers["x-taxiway-version"]) == (200, "1")


def test_killed_canary_costs_no_client_an_error(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    canary = toy(2)
    put(router, table(Split.of(1, {2: 50}), toy(1), canary), until)
    with gateway.client() as client, ThreadPoolExecutor(8) as pool:
        statuses = [pool.submit(lambda user: predict(client, user).status_code, user) for user in range(600)]
        until(lambda: sum(status.done() for status in statuses) > 100)
        canary.kill()
        assert {status.result() for status in statuses} == {200}
    until(lambda: (router.warm(FIRST), router.warm(SECOND)) == (Answer.YES, Answer.NO))


def test_pin_reaches_a_version_that_is_not_live_and_is_no_evidence(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.whole(1), toy(1), toy(2)), until)
    with gateway.client() as client:
        seen = [
            predict(client, "ada", **{"x-taxiway-version": v}).headers["x-taxiway-version"]
            for v in ("1", "2")
        ]
    assert seen == ["1", "2"]
    assert [a.pinned for a in attempts(gateway.settings, 2, until)] == [True, True]


def test_pin_of_an_unknown_version_is_a_404_that_says_so(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.whole(1), toy(1)), until)
    with gateway.client() as client:
        answer = predict(client, "ada", **{"x-taxiway-version": "9"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "error": {
            "code": 404,
            "reason": "unknown_version",
            "message": "digits serves no such version; it serves 1",
            "handle": "digits",
            "request_id": answer.headers["x-request-id"],
        }
    }


def test_pin_of_a_version_that_is_not_ready_is_a_503_that_says_so(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    starting = Backend(version=2, host="127.0.0.1", port=9, model="digits/2", ready=False)
    first = toy(1).backend
    revision = router.publish(
        Table(routes=(Route(handle="digits", split=Split.whole(1), backends=(first, starting)),))
    )
    until(lambda: router.applied(revision) is Answer.YES)
    with gateway.client() as client:
        answer = predict(client, "ada", **{"x-taxiway-version": "2"})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "version_not_ready")
    assert router.warm(SECOND) is Answer.NO


def test_handle_that_is_not_live_answers_only_pins(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(None, toy(1)), until)
    with gateway.client() as client:
        live, pinned = predict(client, "ada"), predict(client, "ada", **{"x-taxiway-version": "1"})
    assert (live.status_code, live.json()["error"]["reason"]) == (503, "no_live_version")
    assert live.headers["x-taxiway-handle"] == "digits"
    assert pinned.status_code == 200


def test_unknown_handle_is_a_404_that_says_so(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.post("/nobody/predict")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "route_not_found")


def test_rate_limit_refuses_the_excess_and_spares_pins(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.whole(1), toy(1), rate_limit_rps=5.0), until)
    with gateway.client() as client:
        answers = [predict(client, user) for user in range(5)]
        assert {answer.status_code for answer in answers} == {200}

        def is_refused() -> bool:
            answers.append(predict(client, "more"))
            return answers[-1].status_code == 429

        until(is_refused)
        pinned = predict(client, "tester", **{"x-taxiway-version": "1"})
    refused = answers[-1]
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["x-taxiway-handle"] == "digits"
    assert refused.json()["error"]["reason"] == "local_rate_limited"
    assert pinned.status_code == 200


def test_refused_clusters_are_told_and_taken_back(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    first = toy(1)
    good = table(Split.whole(1), first)
    put(router, good, until)
    nowhere = replace(toy(2).backend, ready_path="/no\npath")
    bad = Table(routes=(Route(handle="digits", split=Split.whole(2), backends=(first.backend, nowhere)),))
    revision = router.publish(bad)
    assert "Path" in (router.rejection(revision) or "")
    assert router.applied(revision) is Answer.NO
    assert router.observed("digits") == Split.whole(1)
    until(lambda: router.applied(good.revision()) is Answer.YES)
    with gateway.client() as client:
        assert predict(client, "ada").status_code == 200


def test_refused_routes_are_told_and_taken_back(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = toy(1)
    good = table(Split.whole(1), first)
    put(router, good, until)
    monkeypatch.setattr("taxiway_serving.routing.resources._seconds", "{:.0f} heartbeats".format)
    revision = router.publish(table(Split.whole(1), first, timeout_s=7))
    assert "timeout" in (router.rejection(revision) or "")
    assert router.applied(revision) is Answer.NO
    assert router.observed("digits") == Split.whole(1)
    until(lambda: router.applied(good.revision()) is Answer.YES)
    with gateway.client() as client:
        assert predict(client, "ada").status_code == 200


def test_restarted_gateway_routes_before_any_controller_speaks(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    wished = table(Split.of(1, {2: 25}), toy(1), toy(2))
    put(router, wished, until)
    gateway.kill()
    assert router.applied(wished.revision()) is Answer.UNKNOWN
    assert router.warm(FIRST) is Answer.UNKNOWN
    assert router.drained(FIRST) is Answer.UNKNOWN
    gateway.start()
    until(lambda: router.applied(wished.revision()) is Answer.YES)
    assert router.observed("digits") == Split.of(1, {2: 25})
    with gateway.client() as client:
        until(lambda: predict(client, "ada").status_code == 200)


def test_table_published_while_no_gateway_runs_is_what_it_starts_with(
    settings: ServingSettings, toy: MakeToy, until: Until
) -> None:
    bootstrap.prepare(settings)
    with closing(patient_router(settings)) as router:
        revision = router.publish(table(Split.whole(1), toy(1)))
        gateway = Gateway(settings)
        until(lambda: router.applied(revision) is Answer.YES)
        gateway.kill()


def test_variant_with_a_request_under_way_is_not_drained(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    slow = toy(1)
    put(router, table(Split.whole(1), slow, timeout_s=600), until)
    with gateway.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, "/digits/slow", content=b"{}")
        until(lambda: router.drained(FIRST) is Answer.NO)
        slow.end()
        assert answer.result().status_code == 200
    until(lambda: router.drained(FIRST) is Answer.YES)


def test_hundred_weight_changes_under_load_lose_no_request(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    toys = toy(1), toy(2)
    put(router, table(Split.of(1, {2: 1}), *toys), until)
    with gateway.client() as client, ThreadPoolExecutor(4) as pool:
        statuses = [pool.submit(lambda user: predict(client, user).status_code, user) for user in range(1500)]
        for weight_pct in range(1, 101):
            revision = router.publish(table(Split.of(1, {2: weight_pct}), *toys))
            assert router.applied(revision) is Answer.YES
        assert {status.result() for status in statuses} == {200}


def test_promotions_and_rollbacks_under_load_lose_no_request(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    """Each of these tables drops the failover cluster that live traffic used a moment before."""
    toys = toy(1), toy(2)
    put(router, table(Split.whole(1), *toys), until)
    walk = (
        Split.of(1, {2: 100}),
        Split.whole(2),
        Split.of(2, {1: 100}),
        Split.whole(1),
        Split.of(1, {2: 50}),
    )
    has_ended = threading.Event()

    def ask() -> set[int]:
        users = itertools.takewhile(lambda _: not has_ended.is_set(), itertools.count())
        with gateway.client() as client:
            return {predict(client, user).status_code for user in users}

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for _ in range(20):
            for split in walk:
                revision = router.publish(table(split, *toys))
                assert router.applied(revision) is Answer.YES
        has_ended.set()
        assert set().union(*(each.result() for each in asking)) == {200}


def test_every_request_is_logged_as_its_client_saw_it_end(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.of(1, {2: 100}), toy(1), toy(2, fail_every=1)), until)
    with gateway.client() as client:
        answer = client.post("/digits/predict?secret=1", content=b"{}")
    until(lambda: gateway.settings.request_log.read_text().endswith("\n"))
    row = json.loads(gateway.settings.request_log.read_text())
    assert (row["status"], row["version"], row["attempts"]) == (200, "1", 2)
    assert row["request_id"] == answer.headers["x-request-id"]
    assert row["path"] == "/digits/predict"


def test_latency_is_not_what_the_client_took_to_send(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.whole(1), toy(1, delay_s=0.2)), until)
    (admin,), pause_s = router._admins, 0.5
    with socket.create_connection(("127.0.0.1", gateway.settings.envoy_port)) as client:
        client.sendall(b"POST /digits/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n")
        until(lambda: 1 in admin._stats(r"^http\.gateway\.downstream_rq_active$").values())
        time.sleep(pause_s)
        client.sendall(b"{}")
        assert client.recv(12) == b"HTTP/1.1 200"
    (attempt,) = attempts(gateway.settings, 1, until)
    assert attempt.answer_ms is not None
    assert attempt.latency_ms >= 200
    assert attempt.duration_ms - attempt.latency_ms > 1000 * pause_s - 50


def test_attempt_that_was_given_up_has_no_answer_and_took_its_whole_time(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.of(1, {2: 100}), toy(1), toy(2, delay_s=30), timeout_s=2.0), until)
    with gateway.client() as client:
        assert predict(client, "ada").status_code == 200
    given_up, retried = attempts(gateway.settings, 2, until)
    assert (given_up.answer_ms, given_up.latency_ms >= 1900) == (None, True)
    assert retried.answer_ms is not None
