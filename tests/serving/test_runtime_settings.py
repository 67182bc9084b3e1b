"""Which runtime the settings choose, where its engine is, and what a home is called on it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway_serving import runtimes
from taxiway_serving.errors import InvalidSpecError, TransportError
from taxiway_serving.runtimes.docker import DockerRuntime, configuration, home_id
from taxiway_serving.runtimes.engine import Engine, connect_late
from taxiway_serving.runtimes.images import Image, content_hash, recipe
from taxiway_serving.runtimes.process import ProcessRuntime
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.settings import DOCKER_SOCKET, ServingSettings

MakeSpec = Callable[..., VariantSpec]


def read(**variables: str) -> ServingSettings:
    return ServingSettings.from_environment(variables)


def test_engine_is_dockers_own_unless_its_variables_say_otherwise() -> None:
    settings = read()
    assert (settings.engine_url, settings.engine_certificates) == (DOCKER_SOCKET, None)
    assert (settings.image_registry, settings.variant_network) == (None, "")
    settings = read(
        DOCKER_HOST="tcp://engine:2376",
        DOCKER_TLS_VERIFY="1",
        DOCKER_CERT_PATH="/certificates",
        TAXIWAY_IMAGE_REGISTRY="registry.example/team",
        TAXIWAY_VARIANT_NETWORK="taxiway",
    )
    assert (settings.engine_url, settings.engine_certificates) == ("tcp://engine:2376", Path("/certificates"))
    assert (settings.image_registry, settings.variant_network) == ("registry.example/team", "taxiway")
    assert read(DOCKER_CERT_PATH="/certificates").engine_certificates is None


@pytest.mark.parametrize(("name", "kind"), [("process", ProcessRuntime), ("docker", DockerRuntime)])
def test_runtime_is_chosen_by_its_name_and_needs_no_engine_to_begin(
    tmp_path: Path, name: str, kind: type
) -> None:
    settings = replace(ServingSettings.under(tmp_path), runtime=name, engine_url=f"unix://{tmp_path}/none")
    assert isinstance(runtimes._own(settings), kind)


def test_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="no runtime is named 'moon'"):
        runtimes.chosen(replace(ServingSettings.under(tmp_path), runtime="moon"))


def test_engine_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/none"
    with pytest.raises(TransportError, match=f"the Docker engine at {url}"):
        Engine(connect_late(url), url).find("x")


def test_home_keeps_its_id_and_no_other_has_it(tmp_path: Path) -> None:
    first = home_id(tmp_path / "a")
    assert home_id(tmp_path / "a") == first
    assert home_id(tmp_path / "b") != first
    assert len(first) == 32


def test_model_is_known_by_names_and_bytes_alone(tmp_path: Path) -> None:
    hashes = []
    for folder, name, text in (
        ("a", "w.txt", "7"),
        ("b", "w.txt", "7"),
        ("c", "v.txt", "7"),
        ("d", "w.txt", "8"),
    ):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / name).write_text(text)
        hashes.append(content_hash(tmp_path / folder))
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    with pytest.raises(InvalidSpecError, match="does not exist"):
        content_hash(tmp_path / "none")


def test_variant_image_adds_the_model_and_changes_nobody() -> None:
    assert recipe("sha256:1").splitlines() == [
        "FROM sha256:1",
        "COPY model/ /taxiway/model/",
        "ENV TAXIWAY_MODEL_DIR=/taxiway/model",
    ]


@pytest.mark.parametrize(
    ("user", "runs_as"),
    [("", "10001:10001"), ("root", "10001:10001"), ("0:0", "10001:10001"), ("1034", "1034")],
    ids=str,
)
def test_container_runs_as_its_images_user_but_never_as_root(
    make_spec: MakeSpec, user: str, runs_as: str
) -> None:
    spec = make_spec(1, image="served", cpus=0.25, memory_bytes=2**28)
    body = configuration(spec, Image(name="n", id="sha256:1", user=user), "")
    assert (body["User"], body["Image"]) == (runs_as, "sha256:1")
    host = body["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (250_000_000, 2**28, 2**28)
    assert not host["ReadonlyRootfs"]
    assert "NetworkMode" not in host
    inside = configuration(spec, Image(name="n", id="sha256:1", is_sealed=True), "taxiway")["HostConfig"]
    assert (inside["NetworkMode"], inside["ReadonlyRootfs"]) == ("taxiway", True)
    assert "PortBindings" not in inside
