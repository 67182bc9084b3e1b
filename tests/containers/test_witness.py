"""The first program of a container: what it started ends as it would alone, and an end from outside is seen."""

import signal
import subprocess
import sys

import pytest

from taxiway.runners import witness

SAVES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("begun", flush=True)
time.sleep(600)
"""


def start(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-I", "-S", witness.__file__, *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [("", 0), ("raise SystemExit(3)", 3), ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139)],
    ids=["well", "error", "signal"],
)
def test_exit_code_is_that_of_a_container(script: str, code: int) -> None:
    with start(sys.executable, "-c", script) as process:
        process.communicate(timeout=60)
    assert process.returncode == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_component_that_ends_its_group_leaves_its_witness_alone(number: int) -> None:
    """As one does that started workers, and knows no better way to be rid of them."""
    script = f"import os; os.killpg(os.getpgrp(), {int(number)})"
    with start(sys.executable, "-c", script) as process:
        process.communicate(timeout=60)
    assert process.returncode == 128 + number


def test_component_that_is_asked_to_end_did_not_end_well_whatever_it_says() -> None:
    with start(sys.executable, "-c", SAVES) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def test_program_that_is_not_there_is_named() -> None:
    with start("no-such-program") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == witness.NOT_FOUND
    assert "no-such-program cannot be started" in said
