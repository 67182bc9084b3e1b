"""What versioning 10,000 files costs, beside bare DVC and a plain copy: `python -m benchmarks.datasets`.

Each round measures all of them in turn, so that a busy machine slows all alike; the figures are ratios of medians.

A snapshot is held to bare DVC (copy into the repository, `dvc add`, `dvc push`, commit): it does as much and more. A
fetch on another host is held to `dvc get`. A fetch of what is here already is held to half a plain copy: what it saves
must be worth more than what the check costs. A snapshot of bytes that are versioned is held to a third of making one.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.report import Figure, report
from taxiway.datasets import DatasetVersion, bring, snapshot
from taxiway.settings import Settings
from taxiway.tools import program, remove

FILES, FILE_BYTES, A_FOLDER, ROUNDS = 10_000, 4096, 500, 2
QUIET = {"DVC_NO_ANALYTICS": "1", "DVC_STUDIO_OFFLINE": "true"}


def main() -> int:
    """Measure in turn, and return 1 where a bar was missed."""
    with tempfile.TemporaryDirectory() as scratch:
        source = make_source(Path(scratch) / "source")
        rounds = [measured(Path(scratch) / f"round{number}", source) for number in range(ROUNDS)]
        took_s = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    return report("datasets", list(figures(took_s)))


def figures(took_s: dict[str, float]) -> Iterator[Figure]:
    """Return the seconds of each, and the ratios that are held."""
    yield from (Figure(name=f"{name}, s", value=value) for name, value in took_s.items())
    for ours, other, bar in (
        ("snapshot", "bare DVC, add and push", 1.0),
        ("snapshot", "plain copy", None),
        ("snapshot again", "snapshot", 1 / 3),
        ("fetch", "dvc get", 0.5),
        ("fetch on another host", "dvc get", 1.0),
        ("fetch on another host", "plain copy", None),
        ("fetch again", "plain copy", 0.5),
    ):
        yield Figure(name=f"{ours} / {other}", value=took_s[ours] / took_s[other], bar=bar)


def measured(folder: Path, source: Path) -> dict[str, float]:
    """Return the seconds that each way takes, each from nothing."""
    home = folder / "home"
    settings = Settings(home=home, data_repository=home / "datasets", data_remote=str(folder / "remote"))
    other = replace(settings, home=folder / "other", data_repository=folder / "other" / "datasets")
    made: list[DatasetVersion] = []
    bare = make_bare(folder / "bare")
    ways: dict[str, Callable[[], object]] = {
        "plain copy": lambda: shutil.copytree(source, folder / "copy"),
        "bare DVC, add and push": lambda: add_and_push(bare, source),
        "dvc get": lambda: command(folder, program("dvc"), "get", "--quiet", bare, "digits", "--out", "got"),
        "snapshot": lambda: made.append(snapshot(source, "digits", settings, log=lambda _line: None)),
        "snapshot again": lambda: snapshot(source, "digits", settings, log=lambda _line: None),
        "fetch": lambda: bring(made[0], settings),
        "fetch on another host": lambda: bring(made[0], other),
        # The first check after copying reads the youngest files once more; what is measured is every later one.
        "first check": lambda: bring(made[0], settings),
        "fetch again": lambda: bring(made[0], settings),
    }
    took_s = {name: seconds(way) for name, way in ways.items()}
    remove(folder)
    return {name: value for name, value in took_s.items() if name != "first check"}


def seconds(way: Callable[[], object]) -> float:
    began = time.monotonic()
    way()
    return time.monotonic() - began


def make_source(folder: Path) -> Path:
    for number in range(FILES):
        path = folder / f"{number // A_FOLDER:03}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(FILE_BYTES))
    return folder


def make_bare(root: Path) -> Path:
    root.mkdir(parents=True)
    command(root, "git", "init", "--quiet")
    command(root, program("dvc"), "init", "--quiet")
    command(root, program("dvc"), "config", "cache.type", "hardlink,copy")
    command(
        root, program("dvc"), "remote", "add", "--quiet", "--default", "store", root.with_name("bare-remote")
    )
    return root


def add_and_push(root: Path, source: Path) -> None:
    shutil.copytree(source, root / "digits")
    command(root, program("dvc"), "add", "--quiet", "digits")
    command(root, program("dvc"), "push", "--quiet", "digits")
    command(root, "git", "add", "digits.dvc", ".gitignore")
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    command(root, "git", *who, "commit", "--quiet", "--message", "digits")


def command(folder: Path, *argv: str | Path) -> None:
    site = {"DVC_SITE_CACHE_DIR": str(folder / "site")}
    subprocess.run(argv, cwd=folder, env=os.environ | QUIET | site, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
