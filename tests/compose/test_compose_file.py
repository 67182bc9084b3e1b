"""What the compose file promises, as compose itself reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.compose.conftest import words_of

pytestmark = pytest.mark.docker

SOCKET = "/var/run/docker.sock"
FILTERS = {"engine", "engine-checker"}
ONCE = {"airflow-init"}


def services(rendered: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = rendered["services"]
    return found


def test_only_the_filter_has_the_engines_socket(rendered: dict[str, Any]) -> None:
    having = {
        name
        for name, service in services(rendered).items()
        if any(SOCKET in json.dumps(volume) for volume in service.get("volumes", []))
    }

    assert having == FILTERS


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
