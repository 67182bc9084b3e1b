"""What a controller whose term is over does to no gateway any more, wherever it stood still."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import grpc
import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.errors import NotLeaderError
from taxiway_serving.ledger.store import Wish
from taxiway_serving.ledger.term import Term
from taxiway_serving.routing.ads import AdsRouter
from taxiway_serving.routing.ads_server import HEALTH
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.files import ConfigFiles
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split
from tests.ports import free_port
from tests.serving.plane import Plane


@pytest.fixture
def term() -> Term:
    return Term(fence=1, holder="one", lease_s=3600, asked_at_s=0, clock=lambda: 0.0)


def table(version: int) -> Table:
    backend = Backend(version=version, host="127.0.0.1", port=9, model=f"digits/{version}")
    return Table(routes=(Route(handle="digits", split=Split.whole(version), backends=(backend,)),))


def test_routes_are_not_written_when_the_term_ends_after_the_clusters(
    settings: ServingSettings, term: Term
) -> None:
    """Seconds lie between the two files; the next leader's routes may be there by then."""
    files, written = ConfigFiles(settings.envoy_dir), 0

    def ends_in_between() -> None:
        nonlocal written
        term.check()
        written += 1
        if written == 3:
            term.end("paused")

    settings.envoy_dir.mkdir(parents=True)
    with closing(EnvoyRouter(settings, may_act=ends_in_between)) as router:
        router.publish(table(1))
        before = files.scopes.read_bytes()
        with pytest.raises(NotLeaderError):
            router.publish(table(2))
    assert b"digits/2" in files.clusters.read_bytes()
    assert files.scopes.read_bytes() == before


@pytest.fixture
def router(settings: ServingSettings, term: Term) -> Iterator[AdsRouter]:
    own = replace(settings, router="ads", ads_port=free_port(), envoy_admin_urls=())
    with closing(AdsRouter(own, may_act=term.check)) as made, made.serving():
        yield made


def test_fleet_is_given_no_goal_when_the_term_is_over(router: AdsRouter, term: Term) -> None:
    router.publish(table(1))
    goal = router.streams.goal
    term.end("paused")
    with pytest.raises(NotLeaderError):
        router.publish(table(2))
    assert router.streams.goal is goal


def test_envoys_are_told_to_look_for_the_next_leader(router: AdsRouter, term: Term) -> None:
    """The port is still open: whatever the old leader waits for, its Envoys do not."""
    settings = router._settings
    shown = (("authorization", f"Bearer {settings.gateway_token_file.read_text().strip()}"),)
    with grpc.insecure_channel(f"127.0.0.1:{settings.ads_port}") as channel:
        health: Any = channel.unary_unary(f"/{HEALTH}")
        assert health(b"", metadata=shown, timeout=60) == b"\x08\x01"
        term.end("paused")
        with pytest.raises(grpc.RpcError, match="this controller leads no more"):
            health(b"", metadata=shown, timeout=60)


def test_variant_is_not_stopped_when_the_term_ends_while_the_gateways_are_asked(
    plane: Plane, term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next leader may have sent traffic to it again by then."""
    plane.go_live(1)
    plane.go_live(2)
    asked = plane.router.applied

    def ends_meanwhile(revision: str) -> Answer:
        if any(variant.wish is Wish.LEAVING for variant in plane.store.fleet().variants):
            term.end("paused")
        return asked(revision)

    monkeypatch.setattr(plane.router, "applied", ends_meanwhile)
    plane.reconciler._may_act = term.check
    plane.tick(80, requests=10)
    assert term.ended.is_set()
    assert plane.phase(1) == "ready"
