"""What the trial's images are made of: for each a folder with its Dockerfile and, beside it, what uv installed here.

So a build asks no index, whoever runs it and whatever its base is: what it needs of one comes from this machine's uv,
which knows how to ask. Building them is compose's own affair.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taxiway.tools import digest, program, redact, remove, run, write_atomically

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_ENVIRONMENT = "/opt/taxiway"
_GROUPS = ("transform", "training", "inference")
_PROJECT = "examples/visual_recognition"
_OWN = ("taxiway", "taxiway_ui", "taxiway_serving", "airflow_provider_taxiway-*", "taxiway_serving-*")
_SHEBANG = re.compile(rb"\A#![^\n]*python[^\n]*\n")
_RECIPE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """One image of Taxiway's own: its folder below `images/`, and what is installed and copied of the checkout."""

    name: str
    distributions: tuple[str, ...]
    files: tuple[str, ...]
    requirements: str | None = None


_IMAGES = (
    _Made(
        name="airflow",
        distributions=(".[s3]", "./serving"),
        files=(
            "images/airflow/Dockerfile",
            "constraints.txt",
            "images/healthy.py",
            "images/airflow/prepare.py",
        ),
        requirements="images/airflow/requirements.txt",
    ),
    _Made(
        name="serving",
        distributions=("./serving[ads,docker,postgresql]",),
        files=("images/serving/Dockerfile", "images/healthy.py"),
    ),
)


def index_url(environment: Mapping[str, str]) -> str:
    """Return the index that this machine's uv is told to ask, without credentials; "" where it is told of none.

    What was fetched here is found in a container by it: uv keeps what it fetched by the address it came from.
    """
    told = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL") or ""
    return redact(told)


class Contexts:
    """The folders that images are built from.

    Args:
        checkout: The clone; only read.
        folder: Where the folders are, or shall be.
        say: Called with a line for each step that takes its time.
    """

    def __init__(self, checkout: Path, folder: Path, *, say: Callable[[str], None] = print) -> None:
        self._checkout, self._folder, self._say = checkout, folder, say

    def make(self) -> None:
        """Bring every folder up to date; libraries are installed again only where what they are of has changed."""
        for image in _IMAGES:
            folder = self._folder / image.name
            folder.mkdir(parents=True, exist_ok=True)
            self._install(image, folder)
            self._copy_own(image, folder)
            for name in image.files:
                shutil.copy2(self._checkout / name, folder)
        self._fetch(self._folder / "airflow" / "cache")

    def _install(self, image: _Made, folder: Path) -> None:
        """Install the libraries, and take out what is Taxiway's own: it changes more often."""
        further = [image.requirements] if image.requirements else []
        read = ["constraints.txt", "pyproject.toml", "serving/pyproject.toml", *further]
        texts = [(self._checkout / name).read_text(encoding="utf-8") for name in read]
        state = digest([_RECIPE, PYTHON, *image.distributions, *texts])
        mark = folder / ".installed"
        if mark.exists() and mark.read_text(encoding="utf-8") == state:
            return
        self._say(f"installing the libraries of the image {image.name}")
        mark.unlink(missing_ok=True)
        for name in ("site", "bin"):
            remove(folder / name)
        options = [part for name in further for part in ("-r", str(self._checkout / name))]
        self._uv(folder / "site", *image.distributions, *options, is_compiled=True)
        for path in _own(folder / "site"):
            remove(path)
        _take_programs(folder / "site" / "bin", folder / "bin")
        write_atomically(mark, state)

    def _copy_own(self, image: _Made, folder: Path) -> None:
        """Install Taxiway itself without what it needs, built from the checkout as it is now."""
        fresh, code = folder / "code.new", folder / "code"
        remove(fresh)
        names = [name.partition("[")[0] for name in image.distributions]
        self._uv(fresh, *names, "--no-deps", "--reinstall", is_compiled=True)
        remove(fresh / "bin")
        (fresh / ".lock").unlink(missing_ok=True)
        remove(code)
        fresh.rename(code)

    def _fetch(self, cache: Path) -> None:
        """Fill a cache of uv's with what the example's components need, so that nothing is fetched in a container."""
        project, mark = self._checkout / _PROJECT / "pyproject.toml", cache.with_name(".fetched")
        texts = [path.read_text(encoding="utf-8") for path in (project, self._checkout / "constraints.txt")]
        state = digest([_RECIPE, PYTHON, *texts])
        if mark.exists() and mark.read_text(encoding="utf-8") == state:
            return
        self._say("fetching what the example's components need")
        scratch = cache.with_name("scratch")
        for path in (cache, scratch):
            remove(path)
        groups = [part for group in _GROUPS for part in ("--group", f"{project}:{group}")]
        self._uv(scratch, *groups, cache=cache)
        remove(scratch)
        write_atomically(mark, state)

    def _uv(self, target: Path, *what: str, is_compiled: bool = False, cache: Path | None = None) -> None:
        command = [str(program("uv")), "pip", "install", "-q", "--python", sys.executable]
        command += ["--target", str(target), "-c", str(self._checkout / "constraints.txt"), *what]
        command += ["--compile-bytecode"] if is_compiled else []
        # Files that are checked by nothing stay valid when they are copied into an image.
        environment = {"PYC_INVALIDATION_MODE": "UNCHECKED_HASH"}
        if cache is not None:
            environment["UV_CACHE_DIR"] = str(cache)
        run(command, cwd=self._checkout, environment=environment)


def _own(site: Path) -> list[Path]:
    return [path for pattern in _OWN for path in site.glob(pattern)]


def _take_programs(installed: Path, programs: Path) -> None:
    """Move programs out of the way, and make them start the Python that the image has."""
    installed.replace(programs)
    python = f"#!{_ENVIRONMENT}/bin/python\n".encode()
    for path in programs.iterdir():
        content = path.read_bytes() if path.is_file() else b""
        if _SHEBANG.match(content):
            # uv links files from its cache: a new file leaves the cached one alone.
            path.unlink()
            path.write_bytes(_SHEBANG.sub(python, content, count=1))
            path.chmod(0o755)
