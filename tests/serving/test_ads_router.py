"""A fleet of real Envoys that ask the controller: one table for all, refusals, silence, deaths of the controller."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import RouterContract, Until
from taxiway_serving.errors import TransportError
from taxiway_serving.routing.admin import Admin
from taxiway_serving.routing.ads import AdsRouter
from taxiway_serving.routing.ads_streams import METHOD
from taxiway_serving.routing.read_back import split_of
from taxiway_serving.routing.router import Table
from taxiway_serving.split import Split
from tests.serving.conftest import Gateway, Toy, wait_for_answers, wait_until
from tests.serving.fleet import Controller, fleet, grows, load
from tests.serving.traffic import predict, put, table

pytestmark = pytest.mark.slow

MakeToy = Callable[..., Toy]

ENVOY_REFUSES = (
    ("taxiway_serving.routing.cluster_resources._health_check", lambda _: {"timeout": "0s"}, "HealthCheck"),
    ("taxiway_serving.routing.resources.UNIT_ID_LENGTH", 5000, "repetition"),
)


class TestAdsRouter(RouterContract):
    @pytest.fixture
    def router(self, tmp_path: Path) -> Iterator[AdsRouter]:
        with fleet(tmp_path, envoys=1) as (controller, _):
            yield controller.router


def open_sessions(router: AdsRouter) -> int:
    with router.streams.changed:
        return len(router.streams.sessions())


def test_fleet_follows_one_table_and_silence_is_not_consent(
    tmp_path: Path, toy: MakeToy, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taxiway_serving.routing.ads_server.ALIVE_S", 1.0)
    monkeypatch.setattr("taxiway_serving.routing.ads_server.ALIVE_TIMEOUT_S", 20.0)
    toys = toy(1), toy(2)
    with fleet(tmp_path, envoys=2) as (controller, gateways):
        router = controller.router
        until(lambda: router.applied(Table(routes=()).revision()) is Answer.YES)
        for weight_pct in (5, 40):
            put(router, table(Split.of(1, {2: weight_pct}), *toys), until)
            assert [split_in(gateway) for gateway in gateways] == [Split.of(1, {2: weight_pct})] * 2
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            asked_without_token(controller)
        read_url = controller.settings.envoy_admin_urls[0]
        shown = {"authorization": f"Bearer {controller.settings.gateway_token_file.read_text()}"}
        assert httpx.get(f"{read_url}/stats", trust_env=False, timeout=60).status_code == 401
        assert (
            httpx.post(f"{read_url}/quitquitquit", headers=shown, trust_env=False, timeout=60).status_code
            == 401
        )

        # What a controller does by itself is looked at from here on: it soon gives up who says nothing.
        wait_for_answers(router._fleet._admins.values(), timeout_s=2.0)
        gateways[1].pause()
        wished = table(Split.of(1, {2: 60}), *toys)
        controller.router._patience_s = 0.5
        revision = router.publish(wished)
        assert router.applied(revision) is Answer.UNKNOWN
        until(lambda: split_in(gateways[0]) == Split.of(1, {2: 60}))
        assert router.applied(revision) is Answer.UNKNOWN
        until(lambda: all_unknown(router))
        # Its stream is not believed to be open for ever, and who answers nothing is still not gone.
        wait_until(lambda: open_sessions(router) == 1, deadline_s=120)
        assert router.applied(revision) is Answer.UNKNOWN
        gateways[1].resume()
        until(lambda: router.applied(revision) is Answer.YES)
        assert split_in(gateways[1]) == router.observed("digits") == Split.of(1, {2: 60})

        # Who is dead serves nothing, and holds nobody up.
        gateways[1].kill()
        until(lambda: router.applied(revision) is Answer.YES)


def all_unknown(router: AdsRouter) -> bool:
    try:
        router.observed("digits")
    except TransportError:
        return True
    return False


def asked_without_token(controller: Controller) -> None:
    address = f"127.0.0.1:{controller.settings.ads_port}"
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(f"/{METHOD}")
        list(call(iter([b""]), metadata=(("authorization", "Bearer stranger"),), timeout=60))


def split_in(gateway: Gateway) -> Split | None:
    with closing(Admin(gateway.settings.envoy_admin_url, timeout_s=60.0)) as admin:
        routes = admin.routes()
    return split_of(routes["digits"]) if "digits" in routes else None


def test_refused_table_is_taken_back_everywhere_with_its_reason(
    tmp_path: Path, toy: MakeToy, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = toy(1)
    with fleet(tmp_path, envoys=2) as (controller, gateways):
        router, good = controller.router, table(Split.whole(1), first)
        put(router, good, until)

        for number, (place, wrong, reason) in enumerate(ENVOY_REFUSES, start=1):
            with monkeypatch.context() as patched:
                patched.setattr(place, wrong)
                refused = router.publish(table(Split.whole(1), first, timeout_s=number))
            assert reason in (router.rejection(refused) or "")
            assert router.applied(refused) is Answer.NO
            until(lambda: router.applied(good.revision()) is Answer.YES)
            assert router.observed("digits") == Split.whole(1)
        for gateway in gateways:
            with gateway.client() as client:
                assert predict(client, "ada").status_code == 200

        # What has no words in Envoy's language is not even sent.
        monkeypatch.setattr("taxiway_serving.routing.resources._seconds", "{:.0f} heartbeats".format)
        unspeakable = router.publish(table(Split.whole(1), first, timeout_s=9))
        assert "heartbeats" in (router.rejection(unspeakable) or "")


def test_controller_that_restarts_under_load_takes_nothing_away(
    tmp_path: Path, toy: MakeToy, until: Until
) -> None:
    toys = toy(1), toy(2)
    wished = table(Split.of(1, {2: 50}), *toys)
    with fleet(tmp_path, envoys=2) as (controller, gateways):
        put(controller.router, wished, until)
        with load(*(gateway.url for gateway in gateways)) as seen:
            until(lambda: controller.source.read("").is_complete)
            controller.close()
            grows(seen, 100, until)
            again = Controller(controller.settings)
            try:
                until(lambda: len(again.router.streams.sessions()) == 2)
                grows(seen, 100, until)
                # It has said nothing yet, so nobody lost anything; and what was told meanwhile is unknown.
                assert [split_in(gateway) for gateway in gateways] == [Split.of(1, {2: 50})] * 2
                assert not again.source.read("").is_complete
                put(again.router, wished, until)
                updates = [update_count(gateway) for gateway in gateways]
                assert updates == [1, 1]
                cursor = again.source.end()
                until(lambda: again.source.read(cursor).is_complete)
                grows(seen, 50, until)
                until(lambda: bool(again.source.read(cursor).attempts))
            finally:
                again.close()
        assert set(seen) == {200}


def update_count(gateway: Gateway) -> int:
    """Return how often the routes of the handle were sent."""
    with closing(Admin(gateway.settings.envoy_admin_url, timeout_s=60.0)) as admin:
        return int(admin._stats(r"^http\.gateway\.rds\.digits\.update_success$").popitem()[1])
