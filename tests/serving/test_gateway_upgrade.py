"""An Envoy that is replaced while it is under load, told by files and told by the controller."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import Until
from taxiway_serving.errors import ConflictError, InvalidSpecError
from taxiway_serving.routing import upgrade
from taxiway_serving.routing.ads import AdsRouter
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.router import Table
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split
from tests.ports import free_port
from tests.serving.conftest import Gateway, Toy, answers, patient_router
from tests.serving.fleet import Controller, grows, load
from tests.serving.test_ads_router import MakeToy
from tests.serving.traffic import put, table

COMMAND = (sys.executable, "-m", "taxiway_serving.routing.upgrade")


@contextmanager
def routed(settings: ServingSettings) -> Iterator[AdsRouter | EnvoyRouter]:
    with ExitStack() as stack:
        if settings.router == "files":
            yield stack.enter_context(closing(patient_router(settings)))
            return
        controller = stack.enter_context(closing(Controller(settings)))
        controller.router.publish(Table(routes=()))
        yield controller.router


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "ads"])
def test_envoy_is_replaced_and_no_request_fails(
    kind: str, tmp_path: Path, toy: MakeToy, until: Until
) -> None:
    settings = replace(settings_with_a_spare(tmp_path), router=kind, ads_port=free_port())
    toys: tuple[Toy, ...] = (toy(1), toy(2))
    with routed(settings) as router:
        first = Gateway(settings)
        try:
            put(router, table(Split.of(1, {2: 50}), *toys), until)
            with load(first.url, first.url) as seen:
                subprocess.run(COMMAND, env=environment(settings), check=True, timeout=120)
                grows(seen, 50, until)
            assert set(seen) == {200}
            assert first.has_ended()
            assert [answers(f"{url}/ready") for url in settings.own_admin_urls] == [True, False]
            revision = router.publish(table(Split.of(1, {2: 70}), *toys))
            until(lambda: router.applied(revision) is Answer.YES)
            assert router.observed("digits") == Split.of(1, {2: 70})
        finally:
            first.kill()
            for url in settings.own_admin_urls:
                with suppress(httpx.HTTPError):
                    httpx.post(f"{url}/quitquitquit", trust_env=False, timeout=60)


def settings_with_a_spare(home: Path) -> ServingSettings:
    return ServingSettings.under(
        home, envoy_port=free_port(), envoy_admin_port=free_port(), envoy_spare_admin_port=free_port()
    )


def environment(settings: ServingSettings) -> dict[str, str]:
    own = {
        "TAXIWAY_HOME": settings.home,
        "TAXIWAY_ROUTER": settings.router,
        "TAXIWAY_GATEWAY_PORT": settings.envoy_port,
        "TAXIWAY_ENVOY_ADMIN_PORT": settings.envoy_admin_port,
        "TAXIWAY_ENVOY_SPARE_ADMIN_PORT": settings.envoy_spare_admin_port,
        "TAXIWAY_ADS_PORT": settings.ads_port,
    }
    return {**os.environ, **{name: str(value) for name, value in own.items()}}


def test_where_no_envoy_runs_there_is_nothing_to_replace(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="no Envoy runs there"):
        upgrade.upgrade(settings_with_a_spare(tmp_path))


def test_envoy_without_a_spare_port_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="SPARE"):
        upgrade.upgrade(ServingSettings.under(tmp_path))
