"""Envoy's static configuration and the command that becomes Envoy."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from taxiway_serving.contracts import Until
from taxiway_serving.routing import bootstrap
from taxiway_serving.routing.ads_bootstrap import attempt_line
from taxiway_serving.settings import ServingSettings
from tests.serving.conftest import Gateway, answers


def envoy_environment(settings: ServingSettings) -> dict[str, str]:
    return {
        **os.environ,
        "TAXIWAY_HOME": str(settings.home),
        "TAXIWAY_GATEWAY_PORT": str(settings.envoy_port),
        "TAXIWAY_ENVOY_ADMIN_PORT": str(settings.envoy_admin_port),
    }


def start(settings: ServingSettings) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "taxiway_serving.routing.bootstrap"]
    return subprocess.Popen(command, env=envoy_environment(settings))


@pytest.fixture
def envoy(settings: ServingSettings, until: Until) -> Iterator["subprocess.Popen[bytes]"]:
    process = start(settings)
    yield process
    process.kill()
    process.wait()


def addresses(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "socket_address" in value:
            yield value["socket_address"]["address"]
        for inner in value.values():
            yield from addresses(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from addresses(inner)


def test_every_port_is_on_loopback(settings: ServingSettings) -> None:
    assert list(addresses(bootstrap.bootstrap(settings))) == ["127.0.0.1", "127.0.0.1"]


def test_prepare_keeps_the_routes_of_an_earlier_run(settings: ServingSettings) -> None:
    bootstrap.prepare(settings)
    scopes = settings.envoy_dir / "dynamic" / "scopes.json"
    scopes.write_text('{"version_info": "earlier", "resources": []}')
    bootstrap.prepare(settings)
    assert json.loads(scopes.read_text())["version_info"] == "earlier"


def test_attempts_are_written_where_the_evidence_is_read(settings: ServingSettings) -> None:
    assert str(settings.attempt_log) in json.dumps(bootstrap.bootstrap(settings))
    assert set(attempt_line()) >= {
        "at_s",
        "handle",
        "cluster",
        "version",
        "status",
        "number",
        "via",
        "answer_us",
    }


@pytest.mark.slow
def test_command_becomes_envoy_under_the_same_process_id(
    settings: ServingSettings, envoy: "subprocess.Popen[bytes]", until: Until
) -> None:
    until(lambda: answers(settings.envoy_admin_url + "/ready"))
    assert Path(psutil.Process(envoy.pid).exe()).name == "envoy"
    envoy.terminate()
    assert envoy.wait(timeout=60) == 0


@pytest.mark.slow
def test_second_gateway_on_a_port_fails(gateway: Gateway, tmp_path: Path) -> None:
    other = ServingSettings.under(
        tmp_path / "other",
        envoy_port=gateway.settings.envoy_port,
        envoy_admin_port=gateway.settings.envoy_admin_port,
    )
    process = start(other)
    assert process.wait(timeout=60) != 0
    assert answers(gateway.settings.envoy_admin_url + "/ready")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "headers"),
    [("/digits/a%2Fb", {}), ("/digits/predict", {"user_id": "1"})],
    ids=["escaped slash", "underscore header"],
)
def test_ambiguous_request_is_a_400_that_says_so(
    gateway: Gateway, path: str, headers: dict[str, str]
) -> None:
    with gateway.client() as client:
        answer = client.get(path, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == 400
