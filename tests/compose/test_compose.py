"""What a trial's project has on a real engine, and what of it is removed: nothing of anybody else."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taxiway.trial.compose import Compose
from taxiway.trial.contained import end
from taxiway.trial.errors import StrangeVolumesError
from taxiway.trial.naming import Names
from taxiway.trial.needs import check_engine
from tests.containers import base_image
from tests.containers.conftest import BASE_IMAGE

pytestmark = [pytest.mark.docker, pytest.mark.slow]

OWN = Names(project="taxiway-tests-own", owner="owncomposetrial")
WITH_A_VOLUME = "taxiway-tests/with-a-volume:1"
FILE = f"""
x-service: &service
  image: {WITH_A_VOLUME}
  init: true
  network_mode: none
  command: [sleep, "600"]
services:
  controller: *service
  airflow-scheduler: *service
  airflow-worker:
    <<: *service
    profiles: [celery]
"""


@pytest.fixture
def compose(client: Any, tmp_path: Path) -> Iterator[Compose]:
    """Return a project of two services."""
    (tmp_path / "docker-compose.yml").write_text(FILE)
    made = Compose(tmp_path, OWN, {}, tmp_path / "log")
    yield made
    made.client.close()


@pytest.fixture
def with_a_volume(client: Any) -> Iterator[None]:
    """Have an image that declares a volume, as public ones of databases do."""
    build(client, WITH_A_VOLUME, BASE_IMAGE.format(python=base_image.VERSION), "VOLUME /data")
    yield
    client.remove_image(WITH_A_VOLUME)


def build(client: Any, tag: str, base: str, line: str) -> None:
    recipe = io.BytesIO(f"FROM {base}\n{line}\n".encode())
    for answer in client.build(fileobj=recipe, tag=tag, rm=True, decode=True):
        assert "error" not in answer, answer


def volumes(client: Any) -> set[str]:
    return {each["Name"] for each in client.volumes()["Volumes"] or ()}


@pytest.mark.usefixtures("with_a_volume")
def test_end_leaves_no_volume_that_only_a_base_knows(compose: Compose, client: Any) -> None:
    before = volumes(client)
    compose.run("up", "-d")
    seen = compose.services()
    assert {name: each.status for name, each in seen.items()} == {
        "controller": "running",
        "airflow-scheduler": "running",
    }
    assert len(volumes(client) - before) == 2

    end(compose)

    assert compose.services() == {}
    assert volumes(client) == before


def test_images_of_this_trial_are_removed_and_no_others(compose: Compose, client: Any) -> None:
    own = {OWN.images["s3"]: "LABEL a=b", "taxiway/variant.own:1": f"LABEL taxiway.variant-owner={OWN.owner}"}
    others = {
        "taxiway-tests-other-compose/s3:local": "LABEL a=c",
        "taxiway/variant.other:1": "LABEL taxiway.variant-owner=other",
        "taxiway/other.training:1": "LABEL taxiway.handle=other",
        "taxiway/environment:other": "LABEL taxiway.lock=other",
    }
    for tag, line in {**own, **others}.items():
        build(client, tag, "scratch", line)
    try:
        compose.remove_images()

        assert [tag for tag in own if client.images(tag)] == []
        assert [tag for tag in others if client.images(tag)] == list(others)
    finally:
        for tag in others:
            client.remove_image(tag)


def test_volumes_whose_passwords_are_not_here_are_left_alone(client: Any, tmp_path: Path) -> None:
    name, secrets_dir = f"{OWN.project}_postgres", tmp_path / "secrets"
    client.create_volume(name, labels={"com.docker.compose.project": OWN.project})
    try:
        with pytest.raises(StrangeVolumesError, match=rf"docker volume rm {name}$"):
            check_engine(OWN.project, secrets_dir)
        check_engine("taxiway-tests-other", secrets_dir)
        secrets_dir.mkdir()
        check_engine(OWN.project, secrets_dir)
    finally:
        client.remove_volume(name)
