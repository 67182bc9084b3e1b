"""What the trial in containers needs of its machine, and what it makes for itself. No engine is asked."""

from pathlib import Path

import pytest

from taxiway.trial.errors import ComposeMissingError
from taxiway.trial.images import index_url
from taxiway.trial.needs import check_users, find_command, find_socket
from taxiway.trial.secret_files import make_secrets


def test_machine_without_compose_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ComposeMissingError, match=r"install Docker's compose plugin, or .* docker-compose"):
        find_command()


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:2375", "unix:///nowhere/docker.sock"])
def test_engine_without_a_socket_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", url)

    with pytest.raises(ComposeMissingError, match=f"no Docker engine has a socket at {url}"):
        find_socket()


@pytest.mark.parametrize("option", ["name=rootless", "name=userns"])
def test_engine_whose_users_are_others_here_is_refused(option: str) -> None:
    usual = ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"]
    check_users(usual)

    with pytest.raises(
        ComposeMissingError, match="containers could not read their secrets; play the trial on"
    ):
        check_users([*usual, option])


def test_secrets_are_made_once_and_are_no_lines(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets(folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    make_secrets(folder)

    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert not [name for name, text in before.items() if text.endswith("\n")]
    assert len({before["token"], before["token.viewer"], before["token.reporter"]}) == 3


def test_celery_knows_the_password_of_its_broker(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets")
    texts = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    assert texts["celery_broker"].split(":")[2].split("@")[0] in texts["redis_config"]


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_containers_know_the_index_but_not_its_password(name: str) -> None:
    assert index_url({name: "https://me:word@mirror.example/simple"}) == "https://mirror.example/simple"
    assert index_url({"UV_INDEX_URL": ""}) == ""
