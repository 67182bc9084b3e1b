"""Detached processes: adoption, whole trees, restarts, pauses. With a toy server that has a worker like BentoML's."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import Ask, Crash, Running, RuntimeContract, Until, answered
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.process import ProcessRuntime, serving_command
from taxiway_serving.runtimes.runtime import VariantSpec
from tests.serving.conftest import PATIENCE_S, TOY, answers, processes_of, slow_call

FIRST = VariantId(handle="digits", version=1)
MakeSpec = Callable[..., VariantSpec]


def toy_command(spec: VariantSpec, port: int) -> list[str]:
    return [sys.executable, str(TOY), str(port)]


def idle_command(spec: VariantSpec, port: int) -> list[str]:
    return [sys.executable, "-c", "import time; time.sleep(600)"]


def deaf_command(spec: VariantSpec, port: int) -> list[str]:
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    return [sys.executable, "-c", ignore + "print('deaf', flush=True); time.sleep(600)"]


STARTER = """
import json, os, sys
from pathlib import Path
from taxiway_serving.runtimes.process import ProcessRuntime
from taxiway_serving.runtimes.runtime import VariantSpec
from tests.serving.test_process_runtime import toy_command
runtime = ProcessRuntime(Path(sys.argv[1]), command=toy_command)
runtime.ensure(VariantSpec.from_json(json.loads(sys.argv[2])))
os.kill(os.getpid(), 9)
"""


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    for process in processes_of(tmp_path):
        process.kill()


@pytest.fixture
def runtime(folder: Path) -> Iterator[ProcessRuntime]:
    """A runtime whose questions about readiness are waited for: a machine that stood still is no fault."""
    runtime = ProcessRuntime(folder, command=toy_command)
    runtime._client.timeout = PATIENCE_S
    yield runtime
    runtime.close()


def arbiters_of(folder: Path, variant: VariantId) -> list[psutil.Process]:
    """Return the first process of each replica of a variant."""
    place = f"{folder / 'variants' / variant.handle / str(variant.version)}"
    own = [each for each in processes_of(folder) if "--worker" not in each.cmdline()]
    return [each for each in own if each.environ()["TAXIWAY_VARIANT"].startswith((f"{place}#", f"{place}/"))]


def serving(runtime: ProcessRuntime, spec: VariantSpec, until: Until) -> int:
    """Start a variant, wait until it serves, and return the id of its first process."""
    runtime.ensure(spec)
    until(lambda: runtime.ready(spec.variant) is Answer.YES)
    pid = runtime.observe()[spec.variant].pid
    assert pid is not None
    return pid


@pytest.mark.slow
class TestProcessRuntime(RuntimeContract):
    has_limits = False

    @pytest.fixture
    def heir(self, folder: Path) -> Iterator[Callable[[], ProcessRuntime]]:
        with ExitStack() as stack:
            yield lambda: stack.enter_context(closing(ProcessRuntime(folder, command=toy_command)))

    @pytest.fixture
    def never_ready(self) -> Callable[[VariantSpec], VariantSpec]:
        return lambda spec: replace(spec, environment={"TOY_NEVER_READY": "1"})

    @pytest.fixture
    def running(self, folder: Path) -> Running:
        return lambda variant: {str(process.pid) for process in arbiters_of(folder, variant)}

    @pytest.fixture
    def crash(self, folder: Path) -> Crash:
        def kill(variant: VariantId) -> None:
            for process in arbiters_of(folder, variant)[0].children(recursive=True):
                process.kill()

        return kill

    @pytest.fixture
    def limits_of(self) -> None:
        return None

    @pytest.fixture
    def ask(self) -> Iterator[Ask]:
        with ThreadPoolExecutor(1) as pool:
            yield lambda state: slow_call(pool, state)


@pytest.mark.slow
def test_variant_is_a_tree_in_sessions_of_its_own(
    runtime: ProcessRuntime, make_spec: MakeSpec, until: Until, folder: Path
) -> None:
    pid = serving(runtime, make_spec(1), until)
    sessions = {os.getsid(process.pid) for process in processes_of(folder)}
    assert len(sessions) == 2
    assert os.getsid(0) not in sessions
    assert pid in sessions


@pytest.mark.slow
def test_second_runtime_adopts_what_the_first_left(
    runtime: ProcessRuntime, make_spec: MakeSpec, until: Until, folder: Path
) -> None:
    pid = serving(runtime, make_spec(1), until)
    heir = ProcessRuntime(folder, command=toy_command)
    assert heir.observe()[FIRST].phase == "ready"
    heir.ensure(make_spec(1))
    assert heir.observe()[FIRST].pid == pid
    assert answered(heir, FIRST, until) is Answer.YES
    heir.stop(FIRST, grace_s=5)
    heir.close()
    assert processes_of(folder) == []


@pytest.mark.slow
def test_variant_survives_the_kill_of_who_started_it(
    runtime: ProcessRuntime, make_spec: MakeSpec, until: Until, folder: Path, root: Path
) -> None:
    spec = make_spec(1)
    script = [sys.executable, "-c", STARTER, str(folder), json.dumps(spec.to_json())]
    assert subprocess.run(script, cwd=root, check=False, timeout=60).returncode == -signal.SIGKILL
    until(lambda: runtime.ready(FIRST) is Answer.YES)
    pid = runtime.observe()[FIRST].pid
    runtime.ensure(spec)
    assert runtime.observe()[FIRST].pid == pid
    assert runtime.observe()[FIRST].restarts == 0


@pytest.mark.slow
def test_stop_ends_arbiter_and_worker(
    runtime: ProcessRuntime, make_spec: MakeSpec, until: Until, folder: Path
) -> None:
    serving(runtime, make_spec(1), until)
    assert len(processes_of(folder)) == 2
    runtime.stop(FIRST, grace_s=5)
    assert processes_of(folder) == []


@pytest.mark.slow
def test_killed_arbiter_is_started_again_and_its_orphan_ended(
    runtime: ProcessRuntime, make_spec: MakeSpec, until: Until, folder: Path
) -> None:
    pid = serving(runtime, make_spec(1), until)
    before = runtime.observe()[FIRST]
    (orphan,) = [process for process in processes_of(folder) if process.pid != pid]
    os.kill(pid, signal.SIGKILL)
    until(lambda: runtime.observe()[FIRST].phase == "failed")
    assert orphan in processes_of(folder)
    assert runtime.ready(FIRST) is Answer.NO
    assert "killed by signal 9" in runtime.observe()[FIRST].reason
    runtime.ensure(make_spec(1))
    until(lambda: runtime.ready(FIRST) is Answer.YES)
    after = runtime.observe()[FIRST]
    assert orphan not in processes_of(folder)
    assert (after.restarts, after.port) == (1, before.port)
    assert len(processes_of(folder)) == 2


@pytest.mark.slow
def test_orphans_of_a_killed_arbiter_are_ended_by_stop(
    runtime: ProcessRuntime, make_spec: MakeSpec, until: Until, folder: Path
) -> None:
    pid = serving(runtime, make_spec(1), until)
    os.kill(pid, signal.SIGKILL)
    runtime.stop(FIRST, grace_s=5)
    assert processes_of(folder) == []
    assert runtime.observe()[FIRST].phase == "stopped"


@pytest.mark.slow
def test_two_versions_run_side_by_side(runtime: ProcessRuntime, make_spec: MakeSpec, until: Until) -> None:
    serving(runtime, make_spec(1), until)
    serving(runtime, make_spec(2), until)
    ports = {state.port for state in runtime.observe().values()}
    assert len(ports) == 2
    runtime.stop(FIRST, grace_s=5)
    assert answered(runtime, VariantId(handle="digits", version=2), until) is Answer.YES


@pytest.mark.slow
def test_copy_is_a_process_in_a_folder_with_a_mark_of_its_own(
    runtime: ProcessRuntime, make_spec: MakeSpec, until: Until, folder: Path
) -> None:
    pids = [serving(runtime, make_spec(1, copy=number), until) for number in (0, 1)]
    marks = [psutil.Process(pid).environ()["TAXIWAY_VARIANT"].partition("#")[0] for pid in pids]
    assert marks == [str(folder / "variants" / "digits" / name) for name in ("1", "1+1")]
    heir = ProcessRuntime(folder, command=toy_command)
    heir.stop(FIRST, grace_s=5)
    assert heir.observe()[VariantId(handle="digits", version=1, copy=1)].phase == "ready"
    assert {process.pid for process in processes_of(folder)} >= {pids[1]}
    assert not psutil.pid_exists(pids[0]) or psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE
    heir.close()


@pytest.mark.slow
def test_variant_that_dies_at_once_is_started_with_growing_pauses(
    folder: Path, make_spec: MakeSpec, until: Until
) -> None:
    clock = Clock()
    runtime = ProcessRuntime(folder, command=toy_command, clock=clock)
    spec = make_spec(1, environment={"TOY_EXIT": "3"})
    restarts = []
    for pause_s in (0.0, 0.5, 0.9, 0.2, 1.9, 0.2):
        clock.now_s += pause_s
        runtime.ensure(spec)
        until(lambda: runtime.observe()[FIRST].phase == "failed")
        restarts.append(runtime.observe()[FIRST].restarts)
    # Again at once, then after 1 s, then after 2 s.
    assert restarts == [0, 1, 1, 2, 2, 3]
    assert "exited with code 3" in runtime.observe()[FIRST].reason
    assert "cannot load the model" in runtime.logs(FIRST, tail=1)
    runtime.close()


@pytest.mark.slow
def test_variant_that_is_never_ready_misses_its_deadline(
    folder: Path, make_spec: MakeSpec, until: Until
) -> None:
    clock = Clock()
    runtime = ProcessRuntime(folder, command=toy_command, clock=clock)
    runtime.ensure(make_spec(1, environment={"TOY_NEVER_READY": "1"}, ready_deadline_s=30.0))
    until(lambda: answers_503(runtime))
    clock.now_s += 29
    assert runtime.observe()[FIRST].phase == "starting"
    clock.now_s += 2
    state = runtime.observe()[FIRST]
    assert (state.phase, state.reason) == ("failed", "not ready within 30 s")
    assert state.pid is not None
    runtime.stop(FIRST, grace_s=5)
    assert processes_of(folder) == []
    runtime.close()


def answers_503(runtime: ProcessRuntime) -> bool:
    port = runtime.observe()[FIRST].port
    listening = any(f"listening on {port}" in text for text in runtime.logs(FIRST, tail=9).splitlines())
    return listening and not answers(f"http://127.0.0.1:{port}/readyz") and runtime.ready(FIRST) is Answer.NO


@pytest.mark.slow
def test_variant_that_hangs_is_unknown(
    runtime: ProcessRuntime, make_spec: MakeSpec, until: Until, folder: Path
) -> None:
    serving(runtime, make_spec(1), until)
    runtime._client.timeout = 0.5
    for process in processes_of(folder):
        process.suspend()
    until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in processes_of(folder)))
    assert runtime.ready(FIRST) is Answer.UNKNOWN
    for process in processes_of(folder):
        process.resume()


@pytest.mark.slow
def test_variant_that_ignores_the_polite_end_is_killed(
    folder: Path, make_spec: MakeSpec, until: Until
) -> None:
    runtime = ProcessRuntime(folder, command=deaf_command)
    runtime.ensure(make_spec(1))
    until(lambda: "deaf" in runtime.logs(FIRST, tail=1))
    runtime.stop(FIRST, grace_s=0.2)
    assert processes_of(folder) == []
    runtime.close()


@pytest.mark.slow
def test_other_programs_answer_on_its_port_is_not_its_own(
    folder: Path, make_spec: MakeSpec, until: Until, toy: Callable[..., object]
) -> None:
    runtime = ProcessRuntime(folder, command=idle_command)
    runtime.ensure(make_spec(1))
    toy(1, port=runtime.observe()[FIRST].port)
    assert runtime.ready(FIRST) is Answer.NO
    assert runtime.observe()[FIRST].phase == "starting"
    runtime.stop(FIRST, grace_s=1)
    runtime.close()


@pytest.mark.slow
def test_variant_sees_the_contract_and_no_secret(
    runtime: ProcessRuntime, make_spec: MakeSpec, until: Until, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXIWAY_TOKEN_FILE", "/secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    spec = make_spec(
        1, environment={"OMP_NUM_THREADS": "2", "TAXIWAY_MODEL_VERSION": "9", "GREETING": "hello"}
    )
    seen = psutil.Process(serving(runtime, spec, until)).environ()
    assert seen["TAXIWAY_HANDLE"] == "digits"
    assert seen["TAXIWAY_MODEL_VERSION"] == "1"
    assert seen["TAXIWAY_MODEL_DIR"] == str(spec.model_dir)
    assert seen["BENTOML_HOME"].startswith(str(folder))
    assert (seen["OMP_NUM_THREADS"], seen["GREETING"]) == ("2", "hello")
    assert not {"TAXIWAY_TOKEN_FILE", "AWS_SECRET_ACCESS_KEY", "PYTHONDONTWRITEBYTECODE"} & set(seen)


def test_specification_of_missing_files_is_refused_with_every_fault(
    runtime: ProcessRuntime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        runtime.ensure(make_spec(1, bento_dir=tmp_path / "none", model_dir=tmp_path / "none"))
    assert len(caught.value.faults) == 2
    assert runtime.observe() == {}


def test_broken_record_counts_as_none(runtime: ProcessRuntime, folder: Path) -> None:
    record = folder / "variants" / "digits" / "1" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"half')
    assert runtime.observe()[FIRST].phase == "stopped"


def test_command_serves_the_bento_on_loopback(make_spec: MakeSpec) -> None:
    spec = make_spec(1)
    assert serving_command(spec, 4321) == [
        *(str(spec.python), "-m", "bentoml", "serve", str(spec.bento_dir)),
        *("--host", "127.0.0.1", "--port", "4321"),
    ]


def test_digest_follows_content_and_not_deadline_or_rate(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(1)
    assert make_spec(1, ready_deadline_s=5.0, max_rps=3.0).digest() == spec.digest()
    assert make_spec(1, model_dir=tmp_path / "other").digest() != spec.digest()
    assert VariantSpec.from_json(spec.to_json()) == spec


def test_specification_that_is_no_copy_is_as_an_earlier_taxiway_wrote_it(make_spec: MakeSpec) -> None:
    # The hash marks processes that outlive the controller: if it changed, an upgrade would restart every variant.
    spec = VariantSpec(
        handle="digits",
        version=1,
        model="digits/1",
        bento_dir=Path("/bento"),
        python=Path("/python"),
        model_dir=Path("/model"),
    )
    assert spec.digest() == "fa53afc746f3d12032b109c05e7ad7df4a807417ec8c5d08cd7b79dc5f07da1a"
    assert "copy" not in spec.to_json()
    copy = make_spec(1, copy=1)
    assert VariantSpec.from_json(copy.to_json()) == copy
    assert copy.digest() != make_spec(1).digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"handle": "Digits"},
        {"copy": -1},
        {"version": 0},
        {"model": ""},
        {"model": 'a"b'},
        {"bento_dir": Path("relative")},
        {"ready_deadline_s": 0.0},
        {"max_rps": 0.0},
        {"environment": {"A": 1}},
    ],
    ids=str,
)
def test_specification_that_is_wrong_is_refused(make_spec: MakeSpec, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidSpecError):
        make_spec(**{"version": 1, **changes})


@pytest.mark.parametrize("value", [{}, {"handle": "digits"}, {"surprise": 1}], ids=str)
def test_specification_from_something_else_is_refused(make_spec: MakeSpec, value: dict[str, object]) -> None:
    whole = {**make_spec(1).to_json(), **value} if "surprise" in value else value
    with pytest.raises(InvalidSpecError):
        VariantSpec.from_json(whole)
