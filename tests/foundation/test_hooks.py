"""The `taxiway` connection: what it says lies over the environment, and its test speaks with a real controller."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from taxiway.operators.hooks import TaxiwayHook, overlay
from taxiway.provider import get_provider_info
from taxiway.settings import Settings
from tests.ports import free_port


@pytest.fixture
def environment(home: Path) -> Settings:
    return Settings.from_environment(
        {"TAXIWAY_HOME": str(home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:5001"}
    )


def connection(**fields: Any) -> Connection:
    return Connection(conn_id="taxiway_default", conn_type="taxiway", **fields)


def test_overlay_of_an_empty_connection_is_the_environment(environment: Settings) -> None:
    assert overlay(environment, connection()) == environment


def test_overlay_takes_what_the_connection_says(environment: Settings, tmp_path: Path) -> None:
    extra = {
        "tracking_uri": "https://mlflow.example",
        "data_repository": str(tmp_path / "data"),
        "data_remote": "s3://bucket/dvc",
        "gateway_url": "https://models.example",
        "home": str(tmp_path),
    }
    said = overlay(
        environment,
        connection(
            host="control.example", port=8443, schema="https", password="secret", extra=json.dumps(extra)
        ),
    )
    assert said.controller_url == "https://control.example:8443"
    assert said.controller_token == "secret"
    assert (said.tracking_uri, said.data_remote) == (extra["tracking_uri"], extra["data_remote"])
    assert (said.home, said.data_repository, said.gateway_url) == (
        tmp_path,
        tmp_path / "data",
        extra["gateway_url"],
    )


def test_overlay_leaves_the_rest_to_the_environment(environment: Settings) -> None:
    said = overlay(environment, connection(host="control.example"))
    assert said.controller_url == "http://control.example"
    assert said.tracking_uri == environment.tracking_uri


def test_hook_reads_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_TEAM", json.dumps({"conn_type": "taxiway", "host": "team.example", "password": "t"})
    )
    settings = TaxiwayHook("team").settings()
    assert (settings.controller_url, settings.controller_token) == ("http://team.example", "t")


@pytest.mark.usefixtures("airflow_home")
def test_hook_without_a_default_connection_is_the_environment() -> None:
    assert TaxiwayHook().settings() == Settings.from_environment()


@pytest.mark.usefixtures("airflow_home")
def test_hook_refuses_a_missing_connection_that_was_named() -> None:
    with pytest.raises(AirflowNotFoundException, match="misspelt"):
        TaxiwayHook("misspelt").settings()


def test_hook_keeps_the_token_out_of_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TEAM", json.dumps({"conn_type": "taxiway", "password": "a-token"}))
    assert "a-token" not in repr(TaxiwayHook("team").settings())


def test_connection_test_says_that_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_TEAM", json.dumps({"conn_type": "taxiway", "host": "127.0.0.1", "port": 9})
    )
    works, message = TaxiwayHook("team").test_connection()
    assert not works
    assert "127.0.0.1:9" in message


@pytest.fixture
def controller(home: Path) -> Iterator[tuple[int, str]]:
    """Run a real controller; yield its port and its token."""
    port = free_port()
    ours = {"TAXIWAY_CONTROLLER_PORT": str(port), "TAXIWAY_HOME": str(home / "serving")}
    command = [sys.executable, "-m", "taxiway_serving.controller.main"]
    with subprocess.Popen(command, env=os.environ | ours, stderr=subprocess.PIPE) as process:
        try:
            await_answer(f"http://127.0.0.1:{port}/healthz", process)
            yield port, (home / "serving" / "token").read_text(encoding="utf-8").strip()
        finally:
            process.terminate()


def await_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        try:
            if httpx.get(url, timeout=1).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"{url} did not answer in 120 s")


@pytest.mark.slow
def test_connection_test_speaks_with_the_controller(
    controller: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, token = controller
    for password, expected in ((token, True), ("wrong", False)):
        said = {"conn_type": "taxiway", "host": "127.0.0.1", "port": port, "password": password}
        monkeypatch.setenv("AIRFLOW_CONN_TEAM", json.dumps(said))
        works, message = TaxiwayHook("team").test_connection()
        assert works is expected, message


def test_provider_describes_its_connection() -> None:
    (described,) = get_provider_info()["connection-types"]
    assert described["connection-type"] == TaxiwayHook.conn_type
    assert described["hook-class-name"] == f"{TaxiwayHook.__module__}.{TaxiwayHook.__name__}"


def test_provider_info_is_what_airflow_accepts() -> None:
    from airflow import providers_manager

    validator: Any = providers_manager._create_provider_info_schema_validator
    validator().validate(get_provider_info())


def test_connection_type_is_found_by_airflow() -> None:
    from airflow.sdk import providers_manager_runtime

    manager: Any = providers_manager_runtime.ProvidersManagerTaskRuntime
    hook = manager().hooks["taxiway"]
    assert hook is not None
    assert hook.hook_class_name == "taxiway.operators.hooks.TaxiwayHook"
