"""With a registry of images: what one engine built is what every other one runs, by its digest. A real registry.

It is Debian's `docker-registry`, which `.ci/engine` brings; the test is skipped where there is none, or where the
engine is elsewhere.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.engine import Engine
from taxiway.errors import ToolFailedError
from taxiway.packaging import image as images
from taxiway.packaging.image import Image
from taxiway.registry import packages, tracking
from taxiway.settings import Settings
from taxiway.tools import digest
from taxiway.training import train
from tests.containers.conftest import URL, registered, silent

pytestmark = [pytest.mark.docker, pytest.mark.slow]
LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")


@pytest.fixture
def registry(tmp_path: Path, until: Callable[..., None]) -> Iterator[str]:
    """Start a registry on loopback, which an engine of this host needs no certificate for; return its name."""
    program = shutil.which("docker-registry")
    if program is None or not URL.startswith("unix:"):
        why = "no docker-registry on the path, or an engine that does not share our loopback"
        pytest.skip(f"{why}: no test of this run pushes an image and runs it by its digest")
    config, log = tmp_path / "registry.yml", tmp_path / "registry.log"
    storage = f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}"
    config.write_text(f"version: 0.1\nlog: {{level: info}}\n{storage}\nhttp: {{addr: '127.0.0.1:0'}}\n")
    with log.open("wb") as file:
        server = subprocess.Popen([program, "serve", config], stdout=file, stderr=file)
    try:
        until(lambda: server.poll() is not None or LISTENING.search(log.read_text()), 60)
        found = LISTENING.search(log.read_text())
        assert found, log.read_text()
        yield f"{found[1]}/team"
    finally:
        server.terminate()
        server.wait(60)


def test_image_is_pushed_once_and_brought_by_its_digest(
    boxed: Settings,
    handled: Path,
    handle: str,
    dataset: DatasetVersion,
    engine: Engine,
    client: Any,
    registry: str,
    plain_image: Image,
) -> None:
    settings = replace(boxed, containers=replace(boxed.containers, registry=registry))
    registered(handled, settings, ("training", "inference"))
    train(handle, dataset, settings, log=silent)
    training = packages.lookup(handle, "training", settings)
    key = f"taxiway.image.{digest(registry)[:12]}"
    own = {"taxiway.digest": training.digest}
    (version,) = tracking.find_versions(f"{handle}.training", own, settings)
    name, _, hashed = version.tags[key].partition("@")
    assert name == f"{registry}/{images.repository_of(training)}"
    assert re.fullmatch("sha256:[0-9a-f]{64}", hashed)

    # Somebody moves the tag there, and this engine forgets: as if it were another one.
    tag = f"{registry}/{images.tag_of(training)}"
    engine.push(plain_image.name, tag)
    for each in (tag, images.tag_of(training), version.tags[key]):
        client.remove_image(each, force=True)
    assert engine.image_id(version.tags[key]) is None
    lines: list[str] = []
    assert train(handle, dataset, settings, seed=1, log=lines.append).version == 2
    assert any(version.tags[key] in line and "was started" in line for line in lines)

    tracking.tag_version(f"{handle}.training", version.number, {key: f"{name}@sha256:{'0' * 64}"}, settings)
    with pytest.raises(ToolFailedError, match="pull"):
        train(handle, dataset, settings, seed=2, log=silent)
