"""The two kinds of variant that the benchmarks serve: a real Bento, and a plain upstream for load that no Bento bears.

Both are started by the controller's own runtime with its own command, and both do wrong what `conduct.json` in their
model's folder says, from the moment it is replaced. What runs them is `plane.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from uv import find_uv_bin

ROOT = Path(__file__).parents[1]

SERVICE = """
import asyncio
import json
import os
import random
from pathlib import Path

import bentoml


@bentoml.service
class Digits:
    def __init__(self) -> None:
        self.conduct = Path(os.environ["TAXIWAY_MODEL_DIR"], "conduct.json")

    @bentoml.api
    async def predict(self, x: int = 0) -> dict:
        conduct = json.loads(self.conduct.read_bytes())
        await asyncio.sleep(conduct["delay_ms"] / 1e3)
        if random.random() < conduct["error_rate"]:
            raise RuntimeError("this version fails as it was told to")
        return {"label": "seven", "version": os.environ["TAXIWAY_MODEL_VERSION"]}
"""

BUILD = """
import sys

import bentoml

unlocked = {"lock_packages": False}
bento = bentoml.build("service:Digits", name="digits", version="bench", build_ctx=sys.argv[1], python=unlocked)
sys.stderr.write(f"bento at {bento.path}")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a variant's specification names, all of it inside the controller's home.

    Attributes:
        bento: Folder of the Bento.
        python: Interpreter that serves it.
        environment: Variables that it needs.
    """

    bento: Path
    python: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Kind(Protocol):
    """Makes what a kind of variant is served from. Called once for a home, before any variant runs."""

    def __call__(self, home: Path) -> Files: ...


def plain(home: Path) -> Files:
    """Return a plain upstream: this interpreter without its packages, and a `bentoml` that is `plain_upstream.py`."""
    package = home / "plain" / "bentoml"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "benchmarks" / "plain_upstream.py", package / "__main__.py")
    python = home / "plain" / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.executable).resolve())
    return Files(bento=package, python=python, environment={"PYTHONPATH": str(package.parent)})


def bento(home: Path) -> Files:
    """Return a real Bento and an environment with BentoML, as constraints.txt pins it."""
    uv, folder = find_uv_bin(), home / "bento-env"
    python = folder / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True, timeout=60)
    install = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(python)]
    # Without bytecode every worker would compile BentoML anew.
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pinned = ["-c", str(ROOT / "constraints.txt"), "bentoml"]
    subprocess.run([*install, *pinned], check=True, timeout=280, env=kept)
    source = home / "bento-source"
    source.mkdir()
    (source / "service.py").write_text(SERVICE)
    path = os.pathsep.join((str(Path(uv).parent), kept["PATH"]))
    env = {**kept, "BENTOML_HOME": str(home / "bentoml"), "BENTOML_DO_NOT_TRACK": "True", "PATH": path}
    build = [str(python), "-c", BUILD, str(source)]
    subprocess.run(build, env=env, cwd=source, check=True, timeout=120, capture_output=True)
    return Files(bento=home / "bentoml" / "bentos" / "digits" / "bench", python=python)


def behave(
    model: Path, *, error_rate: float = 0.0, delay_ms: float = 0.0, starts_after_s: float = 0.0
) -> None:
    """Let the variants of a model behave so from now on.

    Args:
        model: Folder of the model.
        error_rate: Share of its answers that are a 500, 0 to 1.
        delay_ms: How long each answer takes, at least.
        starts_after_s: How long a plain upstream says that it is not ready, after its start.
    """
    model.mkdir(parents=True, exist_ok=True)
    conduct = {"error_rate": error_rate, "delay_ms": delay_ms, "starts_after_s": starts_after_s}
    draft = model / ".conduct.json"
    draft.write_text(json.dumps(conduct))
    draft.replace(model / "conduct.json")
