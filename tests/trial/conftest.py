"""One trial for all tests: played once, looked at while it serves, ended with Ctrl-C, then played again to its end.

It costs minutes, so tests only read what was seen. The order in which they run does not matter.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from taxiway.trial.layout import Layout
from tests.ports import keep_ports

ROOT = Path(__file__).parents[2]
STORY_DEADLINE_S = 1_500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a trial showed.

    Attributes:
        home: Its folder, which is still there: the data repository is `home/datasets` in it.
        exit_code: Of its process, after Ctrl-C or by itself.
        output: Everything that it printed.
        summary: `summary.json`.
        answers: By name: to an image, to a tensor, of the pages that its screen names. Empty when it ended by itself.
        curl: What the screen's own curl command printed; None without curl.
        left: Command lines of the processes that it left running.
    """

    home: Path
    exit_code: int
    output: str
    summary: dict[str, Any]
    answers: dict[str, httpx.Response]
    curl: str | None
    left: list[str]


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Play a trial from nothing, ask it while it serves, and end it with Ctrl-C."""
    home = tmp_path_factory.mktemp("trial") / ".trial"
    keep_ports(Layout(checkout=ROOT, home=home))
    process = start(home)
    try:
        wait_for_the_closing_screen(process, home)
        answers, curl = ask(home), run_curl(read_output(home))
        process.send_signal(signal.SIGINT)
        process.wait(300.0)
    finally:
        process.terminate()
        process.wait(300.0)
    return seen(home, process, answers, curl)


@pytest.fixture(scope="session")
def played_again(played: Played) -> Played:
    """Play a second trial, from what the first left, that ends by itself."""
    process = start(played.home, "--exit")
    process.wait(STORY_DEADLINE_S)
    return seen(played.home, process, {}, None)


def start(home: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "taxiway.trial", "--home", str(home), *options]
    with output_file(home).open("wb") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def output_file(home: Path) -> Path:
    return home.with_name("output.txt")


def read_output(home: Path) -> str:
    return output_file(home).read_text(encoding="utf-8")


def wait_for_the_closing_screen(process: subprocess.Popen[bytes], home: Path) -> None:
    deadline = time.monotonic() + STORY_DEADLINE_S
    while "  Next " not in read_output(home):
        assert process.poll() is None, read_output(home)
        assert time.monotonic() < deadline, read_output(home)
        time.sleep(0.5)


def ask(home: Path) -> dict[str, httpx.Response]:
    ports = json.loads((home / "ports.json").read_text())
    samples = ROOT / "examples" / "visual_recognition" / "samples"
    predict = f"http://127.0.0.1:{ports['gateway']}/visual_recognition/predict"
    tensor = {"content": (samples / "six.json").read_bytes(), "headers": {"content-type": "application/json"}}
    with httpx.Client(trust_env=False, timeout=60.0) as client:
        return {
            "image": client.post(predict, files={"image": (samples / "seven.png").read_bytes()}),
            "tensor": client.post(predict, **tensor),  # type: ignore[arg-type]
            "airflow": client.get(f"http://127.0.0.1:{ports['airflow']}/dags/taxiway_visual_recognition"),
            "events": client.get(f"http://127.0.0.1:{ports['airflow']}/api/v2/assets/events"),
            "mlflow": client.get(f"http://127.0.0.1:{ports['mlflow']}/"),
            "api": client.get(f"http://127.0.0.1:{ports['controller']}/docs"),
        }


def run_curl(output: str) -> str | None:
    if shutil.which("curl") is None:
        return None
    line = next(line for line in output.splitlines() if line.startswith("  Ask it"))
    command = line.removeprefix("  Ask it").split()
    return subprocess.run([*command, "-s"], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def seen(
    home: Path, process: subprocess.Popen[bytes], answers: dict[str, httpx.Response], curl: str | None
) -> Played:
    return Played(
        home=home,
        exit_code=process.returncode,
        output=read_output(home),
        summary=json.loads((home / "summary.json").read_text()),
        answers=answers,
        curl=curl,
        left=left_running(home),
    )


def left_running(home: Path) -> list[str]:
    """Return the processes that have anything to do with a folder, this one excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            command, variables = process.cmdline(), process.environ().values()
        except psutil.Error:
            continue
        if str(home) in " ".join([*command, *variables]) and process.pid != os.getpid():
            found.append(" ".join(command))
    return found
