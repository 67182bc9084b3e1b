"""What the compose file promises, as compose itself reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.compose.conftest import ROOT, words_of

pytestmark = pytest.mark.docker

BUNDLE = (str(ROOT / ".trial-docker" / "bundle"), "/taxiway/bundle", "ro")
SOCKET = ("/var/run/docker.sock", "/var/run/docker.sock", "rw")
FILTERS = {"engine", "engine-checker"}
ONCE = {"airflow-init"}


def services(rendered: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = rendered["services"]
    return found


def binds(service: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return each mount of something of this machine: what, where, and `ro` or `rw`."""
    found = set()
    for each in service.get("volumes", []):
        if isinstance(each, dict):
            source, target, mode = each["source"], each["target"], "ro" if each.get("read_only") else "rw"
            is_named = each["type"] == "volume"
        else:
            source, target, mode = (*each.split(":"), "rw")[:3]
            is_named = source.replace("-", "").isalnum()
        if not is_named:
            found.add((source, target, mode))
    return found


def holders(rendered: dict[str, Any], secret: str) -> set[str]:
    return {
        name
        for name, service in services(rendered).items()
        if secret in {each["source"] for each in service.get("secrets", [])}
    }


def test_nothing_of_this_machine_is_mounted_but_dags_and_the_filters_socket(rendered: dict[str, Any]) -> None:
    mounted = {name: binds(service) for name, service in services(rendered).items() if binds(service)}
    airflow = {name for name in services(rendered) if name.startswith("airflow-")} | {"flower"}

    assert mounted == {name: {BUNDLE} for name in airflow} | {name: {SOCKET} for name in FILTERS}
    # A named volume could be a folder of the machine as well.
    assert not [name for name, volume in rendered["volumes"].items() if (volume or {}).get("driver_opts")]


def test_who_runs_no_tasks_may_not_move_traffic_or_write_to_the_store(rendered: dict[str, Any]) -> None:
    tasks, viewers = {"airflow-scheduler", "airflow-worker"}, {"airflow-api", "airflow-dag-processor"}

    assert holders(rendered, "token") == {*tasks, "controller"}
    assert holders(rendered, "s3_credentials") == {*tasks, "airflow-init", "mlflow"}
    assert holders(rendered, "token.viewer") == {*viewers, "controller"}
    for names, token in ((tasks, "token"), (viewers, "token.viewer")):
        told = {services(rendered)[name]["environment"]["TAXIWAY_TOKEN_FILE"] for name in names}
        assert told == {f"/run/secrets/{token}"}


def test_ports_are_published_on_loopback_only(rendered: dict[str, Any]) -> None:
    published = [port for service in services(rendered).values() for port in service.get("ports", [])]

    assert published
    for port in published:
        host = port.get("host_ip") if isinstance(port, dict) else str(port).split(":", maxsplit=1)[0]
        assert host == "127.0.0.1", port


def test_no_secret_is_in_an_environment_or_a_command(rendered: dict[str, Any], secrets_dir: Path) -> None:
    text = json.dumps({name: {**each, "secrets": None} for name, each in services(rendered).items()})
    words = words_of(secrets_dir)

    assert len(words) > 10
    assert not [word for word in words if word in text]


def test_secrets_are_files_of_their_owner_alone(secrets_dir: Path) -> None:
    assert secrets_dir.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in secrets_dir.iterdir()} == {0o600}


def test_every_service_is_limited_watched_and_no_root(rendered: dict[str, Any]) -> None:
    for name, service in services(rendered).items():
        assert service["mem_limit"], name
        assert service["user"] == "10001:0", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name
        assert name in ONCE or service["healthcheck"]["test"], name
        assert not service.get("privileged"), name


def test_who_holds_data_is_in_networks_that_lead_nowhere(rendered: dict[str, Any]) -> None:
    for name in ("postgres", "s3", "redis"):
        assert list(services(rendered)[name]["networks"]) == ["store"], name
    for name in ("store", "engine", "checker", "variants"):
        assert rendered["networks"][name]["internal"] is True, name
