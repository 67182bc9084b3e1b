"""A real Envoy and what goes beside the split: headers, cookies, listed users, mirrored copies."""

import itertools
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import httpx
import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import Until
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.router import Route, Table
from taxiway_serving.routing.side_routes import MAX_MEMBERS, HeaderRoute, Members, Mirror, SideRoutes
from taxiway_serving.split import Split
from tests.ports import free_port
from tests.serving.conftest import Gateway, Toy
from tests.serving.traffic import attempts, predict, put, table, versions_of

pytestmark = pytest.mark.slow

MakeToy = Callable[..., Toy]
LEAST_EACH = 125
"""Requests of each of four users that a machine of any speed sends."""
BETA = HeaderRoute(header="x-beta", value="1", version=2)


class Copies(ThreadingHTTPServer):
    """Who gets mirrored copies; while `is_stuck` it reads them and never answers."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *, is_stuck: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Copy)
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.answered = 0
        self.may_answer = threading.Event()
        if not is_stuck:
            self.may_answer.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def mirror(self, sample_pct: float) -> Mirror:
        return Mirror(host="127.0.0.1", port=self.server_address[1], sample_pct=sample_pct)

    def end(self) -> None:
        self.may_answer.set()
        self.shutdown()
        self.server_close()


class _Copy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        copies = cast("Copies", self.server)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        copies.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        copies.may_answer.wait()
        copies.answered += 1
        self.send_response(500)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def copies() -> Iterator[Copies]:
    server = Copies()
    yield server
    server.end()


@pytest.fixture
def stuck() -> Iterator[Copies]:
    server = Copies(is_stuck=True)
    yield server
    server.end()


def ask(gateway: Gateway, **headers: str) -> httpx.Response:
    """Send a request as a client that is seen for the first time, but for these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with gateway.client() as client:
        return client.post("/digits/predict", content=b"{}", headers=named)


def version_for(gateway: Gateway, **headers: str) -> str:
    return str(ask(gateway, **headers).headers["x-taxiway-version"])


def test_header_and_cookie_reach_their_versions_and_others_do_not(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    cookie = HeaderRoute(cookie="segment", value="new", version=3)
    put(router, table(Split.whole(1), toy(1), toy(2), toy(3), headers=(BETA, cookie)), until)
    assert router.observed_routes("digits") == SideRoutes(headers=(BETA, cookie))
    assert version_for(gateway, x_beta="1") == "2"
    assert version_for(gateway, cookie="a=b; segment=new") == "3"
    assert version_for(gateway, cookie="segment=new", x_beta="1") == "2"
    others: list[dict[str, str]] = [
        {},
        {"x_beta": "10"},
        {"x_beta": "0"},
        {"cookie": "segment=newer"},
        {"cookie": "x=segment=new"},
    ]
    assert [version_for(gateway, **other) for other in others] == ["1"] * len(others)


def test_header_route_that_is_gone_reaches_nobody(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    toys = toy(1), toy(2)
    put(router, table(Split.whole(1), *toys, headers=(BETA,)), until)
    assert version_for(gateway, x_beta="1") == "2"
    put(router, table(Split.whole(1), *toys), until)
    assert router.observed_routes("digits") == SideRoutes()
    assert version_for(gateway, x_beta="1") == "1"


def test_side_routes_are_shielded_and_marked_in_the_log(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    members = Members(version=2, units=("user:ann",))
    put(
        router,
        table(Split.whole(1), toy(1), toy(2, fail_every=1), headers=(BETA,), members=members),
        until,
    )
    asked = [ask(gateway, x_beta="1"), ask(gateway, x_user_id="ann"), ask(gateway, x_user_id="bob")]
    pinned = ask(gateway, x_user_id="ann", x_beta="1", x_taxiway_version="2")
    assert [answer.status_code for answer in asked] == [200, 200, 200]
    assert pinned.status_code == 500
    seen = Counter((a.via, a.assigned, a.answered, a.number) for a in attempts(gateway.settings, 6, until))
    assert seen == Counter(
        [
            *(("header", 2, 2, 1), ("header", 2, 1, 2)),
            *(("member", 2, 2, 1), ("member", 2, 1, 2)),
            *(("split", 1, 1, 1), ("pin", 2, 2, 1)),
        ]
    )


def test_side_routes_of_an_unshielded_handle_are_not_retried(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(Split.whole(1), toy(1), toy(2, fail_every=1), headers=(BETA,), shield=False), until)
    answer = ask(gateway, x_beta="1")
    assert (answer.status_code, answer.headers["x-envoy-attempt-count"]) == (500, "1")


def test_header_route_to_a_dead_version_is_answered_by_stable(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    candidate = toy(2)
    put(router, table(Split.whole(1), toy(1), candidate, headers=(BETA,)), until)
    candidate.kill()
    answers = [ask(gateway, x_beta="1") for _ in range(20)]
    assert {(answer.status_code, answer.headers["x-taxiway-version"]) for answer in answers} == {(200, "1")}


def test_header_route_serves_a_handle_that_is_not_live(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    put(router, table(None, toy(2), headers=(BETA,)), until)
    assert version_for(gateway, x_beta="1") == "2"
    assert ask(gateway).status_code == 503


@pytest.mark.parametrize("count", [3, MAX_MEMBERS])
def test_exactly_the_members_keep_the_candidate(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, count: int
) -> None:
    users = [f"user:ann.{number}|x" for number in range(count - 1)]
    cookie = "8e3a6c1e-0f5d"
    members = Members(version=2, units=(*users, f"cookie:{cookie}"))
    put(router, table(Split.whole(1), toy(1), toy(2), members=members), until)
    assert router.observed_routes("digits").members == members
    names = [user.removeprefix("user:") for user in users]
    with gateway.client() as client:
        listed = {predict(client, name).headers["x-taxiway-version"] for name in names}
        others = {
            predict(client, name + end).headers["x-taxiway-version"] for name in names[:50] for end in "yx"
        }
    assert (listed, others) == ({"2"}, {"1"})
    assert version_for(gateway, cookie=f"a=b; taxiway_uid={cookie}") == "2"
    assert version_for(gateway, cookie=f"taxiway_uid={cookie}", x_user_id="new") == "1"
    assert version_for(gateway, cookie="taxiway_uid=8e3a6c1e-0f5e") == "1"
    newcomer = ask(gateway)
    assert newcomer.headers["x-taxiway-version"] == "1"
    assert "set-cookie" in newcomer.headers


def test_members_keep_their_candidate_while_others_go_by_the_split(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    toys, users = (toy(1), toy(2)), range(200)
    with gateway.client() as client:
        put(router, table(Split.of(1, {2: 20}), *toys), until)
        exposed = [user for user, version in versions_of(client, users).items() if version == "2"]
        members = Members.of(2, [f"user:{user}" for user in exposed])
        for weight_pct in (0, 20, 40):
            put(router, table(Split.of(1, {2: weight_pct}), *toys, members=members), until)
            seen = [user for user, version in versions_of(client, users).items() if version == "2"]
            assert set(exposed) <= set(seen)
            assert (len(seen) > len(exposed)) is (weight_pct > 20)


def test_mirror_gets_a_sample_with_its_handle_and_request_id(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, copies: Copies
) -> None:
    """Within six standard errors of a binomial share: the draw is Envoy's own, and nobody can seed it."""
    requests, share = 1800, 0.1
    put(router, table(Split.of(1, {2: 50}), toy(1), toy(2), mirror=copies.mirror(100 * share)), until)
    with gateway.client() as client:
        asked = {predict(client, user).headers["x-request-id"] for user in range(requests)}
    until(lambda: copies.answered == len(copies.seen))
    assert abs(len(copies.seen) / requests - share) < 6 * (share * (1 - share) / requests) ** 0.5
    for path, headers, body in copies.seen:
        assert (path, body, headers["x-taxiway-handle"]) == ("/predict", b"{}", "digits")
        assert headers["x-request-id"] in asked
        assert headers["host"].startswith("127.0.0.1-shadow:")


def test_copies_are_no_evidence_and_their_failures_reach_no_client(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, copies: Copies
) -> None:
    put(router, table(Split.of(1, {2: 50}), toy(1), toy(2), mirror=copies.mirror(100)), until)
    with gateway.client() as client:
        assert {predict(client, user).status_code for user in range(40)} == {200}
    until(lambda: copies.answered == 40)
    assert predict_once_more(gateway) == 200
    seen = attempts(gateway.settings, 41, until)
    assert len(seen) == 41
    assert {attempt.status for attempt in seen} == {200}


def predict_once_more(gateway: Gateway) -> int:
    with gateway.client() as client:
        return predict(client, "last").status_code


def test_only_what_goes_by_the_split_is_mirrored(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, copies: Copies
) -> None:
    side: dict[str, Any] = {"headers": (BETA,), "members": Members(version=2, units=("user:ann",))}
    put(router, table(Split.whole(1), toy(1), toy(2), mirror=copies.mirror(100), **side), until)
    for headers in ({"x_taxiway_version": "1"}, {"x_beta": "1"}, {"x_user_id": "ann"}, {"x_user_id": "bob"}):
        assert ask(gateway, **headers).status_code == 200
    until(lambda: len(copies.seen) > 0)
    assert [headers["x-user-id"] for _, headers, _ in copies.seen] == ["bob"]


def test_no_client_can_take_its_attempts_out_of_the_evidence(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    """The log leaves out what carries the mark of a copy."""
    put(router, table(Split.whole(1), toy(1)), until)
    assert ask(gateway, x_taxiway_handle="digits").status_code == 200
    assert len(attempts(gateway.settings, 1, until)) == 1


def test_mirror_that_never_answers_holds_up_nobody(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, stuck: Copies
) -> None:
    put(router, table(Split.of(1, {2: 50}), toy(1), toy(2), mirror=stuck.mirror(100)), until)
    with gateway.client() as client:
        assert {predict(client, user).status_code for user in range(300)} == {200}
        upload = client.post("/digits/predict", content=b"x" * 5_000_000)
    assert upload.status_code == 200
    until(lambda: len(stuck.seen) > 1)
    assert stuck.answered == 0


def test_mirror_that_reads_nothing_holds_up_nobody(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as deaf:
        mirror = Mirror(host="127.0.0.1", port=deaf.getsockname()[1], sample_pct=100)
        put(router, table(Split.of(1, {2: 50}), toy(1), toy(2), mirror=mirror), until)
        with gateway.client() as client:
            bodies = [b"{}"] * 200 + [b"x" * 5_000_000] * 10
            answers = [client.post("/digits/predict", content=body) for body in bodies]
    assert {answer.status_code for answer in answers} == {200}


def test_dead_mirror_costs_nobody_anything(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    mirror = Mirror(host="127.0.0.1", port=free_port(), sample_pct=100)
    put(router, table(Split.of(1, {2: 50}), toy(1), toy(2), mirror=mirror), until)
    with gateway.client() as client:
        answers = [predict(client, user) for user in range(200)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-envoy-attempt-count"] for answer in answers} == {"1"}


def test_side_routes_that_come_and_go_under_load_lose_no_request(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until, copies: Copies, stuck: Copies
) -> None:
    toys = toy(1), toy(2), toy(3)
    plain = table(Split.of(1, {2: 20, 3: 20}), *toys)
    put(router, plain, until)
    (route,) = plain.routes
    members = Members(version=3, units=tuple(f"user:{number}" for number in range(500)))
    walk = (
        replace(route, headers=(BETA,)),
        replace(route, headers=(BETA, HeaderRoute(cookie="segment", value="new", version=3))),
        replace(route, mirror=copies.mirror(50)),
        replace(route, mirror=stuck.mirror(100), members=members),
        replace(route, split=Split.whole(1), members=replace(members, version=2)),
        replace(route, split=Split.whole(3), headers=(BETA,)),
        route,
    )
    has_ended = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(_statuses, gateway, worker, has_ended) for worker in range(4)]
        for wished in itertools.islice(itertools.cycle(walk), 70):
            publish(router, wished)
        has_ended.set()
        statuses = sum((each.result() for each in asking), Counter[int]())
    assert set(statuses) == {200}


def publish(router: EnvoyRouter, wished: Route) -> None:
    revision = router.publish(Table(routes=(wished,)))
    assert router.applied(revision) is Answer.YES
    assert router.observed_routes("digits") == wished.side_routes
    assert router.observed("digits") == wished.split


def _statuses(gateway: Gateway, worker: int, has_ended: threading.Event) -> Counter[int]:
    kinds: tuple[dict[str, str], ...] = ({}, {"x-beta": "1"}, {"cookie": "segment=new"})
    found: Counter[int] = Counter()
    with gateway.client() as client:
        for user in itertools.count(worker):
            if has_ended.is_set() and found.total() > LEAST_EACH:
                return found
            found[predict(client, user % 1000, **kinds[user % 3]).status_code] += 1
    return found
