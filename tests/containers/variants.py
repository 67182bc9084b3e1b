"""Variants in containers, on one engine or in a Swarm: the toy server as their image, and the contract's look at them.

A test module takes `make_spec` from here, and has fixtures of its own for what differs: `toy_image`, the image's id;
`client`, of the engine where the containers are; `running`, which names them.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving import archive
from taxiway_serving.archive import Entry
from taxiway_serving.contracts import Ask, Crash, MakeSpec, Running, RuntimeContract
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.engine import Engine
from taxiway_serving.runtimes.images import SEALED
from taxiway_serving.runtimes.runtime import VariantSpec
from tests.serving.conftest import TOY, slow_call

FIRST = VariantId(handle="digits", version=1)
TOY_IMAGE = "taxiway-tests/toy"


def build_toy(engine: Engine, base: str) -> str:
    """Build an inference image of the toy server on a base image with Python, and return its id."""
    recipe = (
        f"FROM {base}\nCOPY toy_server.py /toy/\n"
        f'ENV TOY_HOST=0.0.0.0\nCMD ["python", "/toy/toy_server.py", "3000"]\n'
    )
    entries = [
        Entry(name="Dockerfile", content=recipe.encode(), mode=0o644),
        Entry(name="toy_server.py", path=TOY),
    ]
    with archive.stream(entries) as pieces:
        return engine.build(pieces, TOY_IMAGE, {SEALED: "true", "taxiway.base": "toy"}, {}, "none")


@pytest.fixture
def make_spec(tmp_path: Path, toy_image: str) -> MakeSpec:
    """Return a function that specifies a version of a model of one file, which nobody but its owner may read here."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "weight.txt").write_text("7 kg")
    (model / "weight.txt").chmod(0o600)

    def make(version: int, **changes: object) -> VariantSpec:
        usual: dict[str, object] = {
            "handle": "digits",
            "version": version,
            "model": f"digits/{version}",
            "image": toy_image,
            "model_dir": model,
        }
        return VariantSpec(**{**usual, **changes})  # type: ignore[arg-type]

    return make


class ContainersContract(RuntimeContract):
    """The contract of a runtime whose replicas are containers of the toy's image; a subclass gives `heir`."""

    @pytest.fixture
    def never_ready(self) -> Callable[[VariantSpec], VariantSpec]:
        return lambda spec: replace(spec, environment={"TOY_NEVER_READY": "1"})

    @pytest.fixture
    def crash(self, client: Any, running: Running) -> Crash:
        return lambda variant: client.kill(min(running(variant)))

    @pytest.fixture
    def limits_of(self, client: Any, running: Running) -> Callable[[VariantId], tuple[float, int]]:
        def limits(variant: VariantId) -> tuple[float, int]:
            held = client.inspect_container(*running(variant))["HostConfig"]
            return held["NanoCpus"] / 1e9, held["Memory"]

        return limits

    @pytest.fixture
    def ask(self) -> Iterator[Ask]:
        with ThreadPoolExecutor(1) as pool:
            yield lambda state: slow_call(pool, state)
