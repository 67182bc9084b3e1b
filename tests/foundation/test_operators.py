"""The contract of every operator: it assigns, it calls the library, it says which failures are final."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, BaseOperator, TaskInstanceState
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from taxiway import errors
from taxiway import traffic as traffic_module
from taxiway.operators.append import AppendOperator
from taxiway.operators.base import (
    TaxiwayOperator,
    actor,
    digests,
    provenance,
    refusals,
    specification,
    step_number,
    task_name,
    truth,
    version_number,
)
from taxiway.operators.group import TrafficGroupOperator
from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.sensor import TrafficSensor
from taxiway.operators.traffic import TrafficOperator
from taxiway.operators.verb import RolloutVerbOperator
from taxiway.provenance import Provenance
from taxiway.provider import get_provider_info
from tests.library.scripted import Script, serving

FOLDER = Path(inspect.getfile(TaxiwayOperator)).parent
BESIDE = {"__init__", "base", "hooks", "lineage", "notifier", "tune_group"}
STEMS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in BESIDE)
WORK = {"sensor": "poke"}
VERSIONS = {"digits": 2, "letters": 5}

FINAL = {
    "specification": errors.InvalidSpecError(("a fault",), "a project"),
    "unregistered": errors.PackageNotRegisteredError("digits", "training"),
    "gate": errors.GateFailedError("digits", 3, ("accuracy 0.1 < 0.8",)),
    "verification": errors.VerificationFailedError("digits", 3, ("malformed: 500",)),
    "rolled_back": errors.RolledBackError("digits", 3, "RolledBack", "errors"),
}
PASSING = {
    "transport": errors.TransportError("http://127.0.0.1:9", "refused"),
    "component": errors.ComponentFailedError("training", "python train.py", -9, ""),
    "tool": errors.ToolFailedError("dvc push", 1, "busy"),
    "not_ready": errors.NotReadyError("digits/3", 60.0, "no answer"),
}


def operator_class(stem: str) -> type[BaseOperator]:
    module = importlib.import_module(f"taxiway.operators.{stem}")
    found = [
        value
        for name, value in vars(module).items()
        if name.endswith(("Operator", "Sensor")) and value.__module__ == module.__name__
    ]
    assert len(found) == 1, f"{stem}.py holds one operator, found {found}"
    return found[0]  # type: ignore[no-any-return]


def method(stem: str, name: str) -> ast.FunctionDef:
    tree = ast.parse((FOLDER / f"{stem}.py").read_text(encoding="utf-8"))
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)


@pytest.mark.parametrize("stem", STEMS)
def test_operator_only_assigns_in_init(stem: str) -> None:
    """Arguments may still be templates when an operator is made: nothing may read them there."""
    call, *rest = method(stem, "__init__").body
    assert ast.unparse(call) == "super().__init__(**kwargs)"
    for statement in rest:
        assert isinstance(statement, ast.Assign)
        name = ast.unparse(statement.value)
        assert ast.unparse(statement.targets[0]).replace("self.", "") == name


def test_notifier_only_assigns_in_init() -> None:
    call, *rest = method("notifier", "__init__").body
    assert ast.unparse(call) == "super().__init__(**kwargs)"
    assert [ast.unparse(each) for each in rest] == [
        f"self.{name} = {name}" for name in TaxiwayNotifier.template_fields
    ]


@pytest.mark.parametrize("stem", STEMS)
def test_operator_takes_keywords_only(stem: str) -> None:
    arguments = method(stem, "__init__").args
    assert [argument.arg for argument in arguments.args] == ["self"]
    assert arguments.kwarg is not None


@pytest.mark.parametrize("stem", STEMS)
def test_operator_template_fields_are_its_arguments(stem: str) -> None:
    operator = operator_class(stem)
    made = [vars(each).get("__init__") for each in operator.__mro__ if each.__module__.startswith("taxiway.")]
    arguments = {name for each in made if each for name in inspect.signature(each).parameters}
    assert set(operator.template_fields) == arguments - {"self", "kwargs"}


@pytest.mark.parametrize("stem", STEMS)
def test_operator_file_is_short(stem: str) -> None:
    assert len((FOLDER / f"{stem}.py").read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.parametrize("stem", STEMS)
def test_operator_imports_the_library_inside_execute(stem: str) -> None:
    work = method(stem, WORK.get(stem, "execute"))
    imported = [node for node in ast.walk(work) if isinstance(node, ast.ImportFrom)]
    assert imported
    assert all(node.module and node.module.startswith("taxiway.") for node in imported)


@pytest.mark.parametrize("error", FINAL.values(), ids=FINAL)
def test_refusals_are_final(error: errors.TaxiwayError) -> None:
    with pytest.raises(AirflowFailException, match=r".+") as caught, refusals():
        raise error
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


def test_superseded_rollout_is_a_skipped_task() -> None:
    gave_way = errors.SupersededError("digits", 3, "Superseded", "by rollout r2 of version 4")
    with pytest.raises(AirflowSkipException, match="by rollout r2 of version 4"), refusals():
        raise gave_way


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING)
def test_refusals_leave_the_rest_to_be_retried(error: errors.TaxiwayError) -> None:
    with pytest.raises(type(error)), refusals():
        raise error


@pytest.mark.parametrize(("value", "version"), [(7, 7), ("7", 7)], ids=["xcom", "template"])
def test_version_number_reads_both_forms(value: Any, version: int) -> None:
    assert version_number(value) == version


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "champion", None, 0, 2.0, True])
def test_version_number_refuses_anything_else(value: Any) -> None:
    with pytest.raises(errors.InvalidSpecError, match="whole number from 1"):
        version_number(value)


class Task:
    """The part of a running task instance that provenance reads."""

    dag_id, run_id, task_id, try_number = "a_dag", "manual__1", "traffic", 2

    def __init__(self, map_index: int | None) -> None:
        self.map_index = map_index


@pytest.mark.parametrize(("given", "recorded"), [(None, -1), (-1, -1), (4, 4)])
def test_provenance_records_the_map_index(given: int | None, recorded: int) -> None:
    found = provenance({"ti": Task(given)})  # type: ignore[typeddict-item]
    assert (found.map_index, found.try_number) == (recorded, 2)


def test_task_name_is_the_same_for_every_try_and_for_no_other_task() -> None:
    def name(**other: Any) -> str:
        return task_name(Provenance(**({"dag_id": "d", "run_id": "r", "task_id": "t"} | other)))

    assert name(try_number=1) == name(try_number=2)
    assert len({name(), name(run_id="r2"), name(task_id="t2"), name(map_index=0), name(dag_id="d2")}) == 5


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("canary", {"kind": "canary"}),
        ({"kind": "bandit", "rivals": ["3", 4]}, {"kind": "bandit", "rivals": [3, 4]}),
        ({"kind": "canary", "rivals": None}, {"kind": "canary", "rivals": None}),
    ],
    ids=["name", "rivals from a template", "no rivals"],
)
def test_specification_reads_what_a_dag_writes(given: Any, meant: dict[str, Any]) -> None:
    assert specification(given) == meant


def test_actor_names_person_and_task_in_a_headers_letters() -> None:
    context: Any = {"ti": Task(None)}
    assert actor(context) == "airflow a_dag.traffic manual__1"
    assert actor(context, "Zoë\n") == "Zo?? through airflow a_dag.traffic manual__1"


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Return a controller that answers what it is told, where the environment says that one is."""
    with serving() as made:
        monkeypatch.setenv("TAXIWAY_CONTROLLER_URL", made.url)
        yield made


def traffic(**options: Any) -> TrafficOperator:
    made = TrafficOperator(task_id="traffic", handle="digits", version=1, **options)
    made.rollout_id = "r1"
    return made


def test_killed_traffic_task_leaves_its_rollout_alone(controller: Script) -> None:
    """The rollout goes on: nobody calls at the controller's address."""
    traffic().on_kill()
    assert controller.seen == []


@pytest.mark.usefixtures("airflow_home")
def test_killed_traffic_task_takes_its_rollout_back_when_told_to(controller: Script) -> None:
    traffic(abort_on_kill=True).on_kill()
    assert controller.asked("POST") == ["/v1/endpoints/digits/rollouts/r1/abort"]


def test_traffic_task_killed_before_it_began_calls_nobody(controller: Script) -> None:
    TrafficOperator(task_id="traffic", handle="digits", version=1, abort_on_kill=True).on_kill()
    assert controller.seen == []


@pytest.mark.usefixtures("airflow_home")
def test_killed_group_takes_every_rollout_back_when_told_to(controller: Script) -> None:
    """One that cannot be taken back does not keep the next from it."""
    controller.answers = [(503, {}), (200, {})]
    made = TrafficGroupOperator(task_id="group", versions={"a": 1, "b": 2}, abort_on_kill=True)
    made.rollout_ids = {"a": "ra", "b": "rb"}
    made.on_kill()
    assert controller.asked("POST") == [
        "/v1/endpoints/a/rollouts/ra/abort",
        "/v1/endpoints/b/rollouts/rb/abort",
    ]


ROLLOUT = {"id": "r1", "status": "progressing", "phase": "Paused", "outcome": None, "reason": "at its gate"}
END = {"status": "ended", "phase": "Degraded", "outcome": "RolledBack", "reason": "errors"}
ROLLED_BACK = ROLLOUT | END | {"handle": "digits", "version": 2, "step": 3}


def endpoint(rollout: dict[str, Any]) -> dict[str, Any]:
    return {"stable": 1, "previous": None, "phase": rollout["phase"], "rollout": rollout}


@pytest.mark.usefixtures("airflow_home")
@pytest.mark.parametrize(("phase", "is_done"), [("Paused", True), ("Healthy", False)])
def test_sensor_pokes(controller: Script, phase: str, is_done: bool) -> None:
    controller.answers = [(200, endpoint(ROLLOUT))]
    found = TrafficSensor(task_id="wait", handle="digits", phase=phase).poke({})
    assert found.is_done is is_done
    assert found.xcom_value == ROLLOUT


@pytest.mark.usefixtures("airflow_home")
def test_sensor_waits_for_an_endpoint_that_is_not_known_yet(controller: Script) -> None:
    error = {"reason": "NotFoundError", "facts": ["endpoint", "digits", "deploy a model version first"]}
    controller.answers = [(404, {"error": error}), (200, endpoint(ROLLOUT))]
    sensor = TrafficSensor(task_id="wait", handle="digits", version=1)
    assert [sensor.poke({}).is_done for _ in range(2)] == [False, True]


@pytest.mark.usefixtures("airflow_home")
def test_sensor_fails_for_good_when_its_rollout_ended_otherwise(controller: Script) -> None:
    controller.by_path = {"GET /v1/endpoints/digits/rollouts/r1": (200, ROLLED_BACK)}
    controller.answers = [(200, endpoint(ROLLED_BACK))]
    sensor = TrafficSensor(task_id="wait", handle="digits", rollout="r1", outcome="Promoted")
    with pytest.raises(AirflowFailException, match="RolledBack: errors"):
        sensor.poke({})


class Events(dict[Any, Any]):
    """The events of assets, as Airflow's context has them: made when they are asked for."""

    def __missing__(self, asset: Any) -> Any:
        self[asset] = SimpleNamespace(extra=None)
        return self[asset]


@pytest.mark.usefixtures("airflow_home")
def test_group_announces_the_version_of_each_handle(
    controller: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_module, "_request", lambda handle, version, *_: {"version": version})
    monkeypatch.setattr(traffic_module, "project_aliases", lambda handle, settings: None)
    context: Any = {"ti": Task(None), "run_id": "manual__1", "outlet_events": Events()}
    group = traffic_module.names_of_group(task_name(provenance(context)), VERSIONS)
    promoted = ROLLOUT | {"status": "ended", "outcome": "Promoted", "phase": "Healthy", "step": 5}
    ended = {"stable": 1, "started_at_s": 1.0, "ended_at_s": 2.0}
    controller.by_path = {"POST /v1/groups": (200, {"rollouts": []})} | {
        f"GET /v1/endpoints/{handle}/rollouts/{group[handle]}": (
            200,
            promoted | ended | {"handle": handle, "version": version},
        )
        for handle, version in VERSIONS.items()
    }
    assets = [Asset(name) for name in ("digits", "release")]
    made = TrafficGroupOperator(task_id="group", versions=VERSIONS, outlets=assets)
    assert set(made.execute(context)) == set(VERSIONS)
    told = {"versions": VERSIONS, "outcome": "Promoted", "run_id": "manual__1"}
    assert {asset.name: event.extra for asset, event in context["outlet_events"].items()} == {
        "digits": told | {"version": 2},
        "release": told | {"version": None},
    }


@pytest.mark.parametrize(
    ("value", "step"), [(3, 3), ("3", 3), (0, 0), ("0", 0), (None, None), ("", None)], ids=repr
)
def test_step_number_reads_both_forms(value: Any, step: int | None) -> None:
    assert step_number(value) == step


@pytest.mark.parametrize("value", ["-1", "last", 1.5])
def test_step_number_refuses_anything_else(value: Any) -> None:
    with pytest.raises(errors.InvalidSpecError, match="whole number from 0"):
        step_number(value)


def test_digests_are_those_that_the_run_registered_of_the_handle() -> None:
    def made(kind: str, digest: str, handle: str = "digits") -> dict[str, str]:
        return {"handle": handle, "kind": kind, "digest": digest}

    code, inference = [made("training", "a"), made("evaluation", "b")], [made("inference", "c")]
    assert digests([code, inference, None], "digits") == {
        "training": "a",
        "evaluation": "b",
        "inference": "c",
    }
    assert digests([*code, made("training", "z", "letters")], "digits") == {
        "training": "a",
        "evaluation": "b",
    }
    assert digests(None, "digits") == digests([], "digits") == {}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, True),
        ("True", True),
        (" true ", True),
        *((no, False) for no in (False, "False", "false", "", None)),
    ],
    ids=repr,
)
def test_truth_reads_both_forms(value: Any, said: bool) -> None:
    assert truth(value, "replace") is said


@pytest.mark.parametrize("value", ["maybe", "0", 1, "{{ params.replace }}"])
def test_truth_refuses_anything_else(value: Any) -> None:
    with pytest.raises(errors.InvalidSpecError, match=r"replace: got .*; say true or false"):
        truth(value, "replace")


@pytest.mark.usefixtures("airflow_home")
def test_template_that_says_no_replaces_nothing_and_aborts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controller: Script
) -> None:
    asked: list[Any] = []

    def stop(*_: Any, **said: Any) -> None:
        asked.append(said["replace"])
        raise errors.InvalidSpecError(("enough is known",), "the test")

    monkeypatch.setattr("taxiway.datasets.versions.append", stop)
    context: Any = {"ti": Task(None)}
    for text in ("False", "True", "perhaps"):
        with pytest.raises(AirflowFailException):
            AppendOperator(task_id="add", name="d", folder=str(tmp_path), replace=text).execute(context)
    assert asked == [False, True]
    for kind in (TrafficOperator, TrafficGroupOperator):
        said: dict[str, Any] = (
            {"versions": VERSIONS} if kind is TrafficGroupOperator else {"handle": "a", "version": 1}
        )
        with pytest.raises(AirflowFailException, match="abort_on_kill: got 'perhaps'"):
            kind(task_id="shift", abort_on_kill="perhaps", **said).execute(context)
    assert not controller.seen


@pytest.mark.usefixtures("airflow_home")
def test_verb_is_said_on_behalf_of_who_decided(controller: Script) -> None:
    controller.answers = [(200, ROLLED_BACK)]
    verb = RolloutVerbOperator(task_id="say", handle="digits", rollout="r1", verb="abort", on_behalf_of="ann")
    context: Any = {"ti": Task(None)}
    assert verb.execute(context)["outcome"] == "RolledBack"
    assert controller.asked("POST") == ["/v1/endpoints/digits/rollouts/r1/abort"]
    assert controller.headers[0]["x-taxiway-actor"] == "ann through airflow a_dag.traffic manual__1"


@pytest.mark.usefixtures("airflow_home")
def test_verb_has_one_name_for_every_try_and_another_for_another_task(controller: Script) -> None:
    controller.answers = [(200, ROLLED_BACK)]
    said: list[str] = []
    for task in (Task(None), Task(None), Task(4)):
        context: Any = {"ti": task}
        verb = RolloutVerbOperator(task_id="say", handle="digits", rollout="r1", verb="promote", step="3")
        verb.execute(context)
        body = controller.seen[-1][2]
        assert body["step"] == 3
        said.append(body["command_id"])
    assert said[0] == said[1] != said[2]


class Failed(Task):
    """A task instance whose task has failed."""

    state, log_url = TaskInstanceState.FAILED, "http://airflow/log"


@pytest.mark.usefixtures("airflow_home")
def test_notifier_posts_the_rollout_of_its_task(controller: Script) -> None:
    controller.by_path = {"GET /v1/endpoints/digits/rollouts/r1": (200, ROLLED_BACK)}
    context: Any = {"ti": Failed(None), "task": traffic(), "exception": ValueError("no")}
    TaxiwayNotifier(url=f"{controller.url}/hook").notify(context)
    (sent,) = [body for verb, path, body in controller.seen if path == "/hook"]
    assert sent["text"] == ("digits version 2: RolledBack: errors (a_dag.traffic failed) http://airflow/log")
    assert sent["task"]["error"] == "no"


@pytest.mark.usefixtures("airflow_home")
def test_notifier_tells_of_each_handle_of_a_group(controller: Script) -> None:
    controller.by_path = {
        "GET /v1/endpoints/digits/rollouts/rd": (200, ROLLED_BACK),
        "GET /v1/endpoints/letters/rollouts/rl": (200, ROLLED_BACK | {"handle": "letters", "version": 5}),
    }
    made = TrafficGroupOperator(task_id="group", versions=VERSIONS)
    made.rollout_ids = {"digits": "rd", "letters": "rl"}
    context: Any = {"ti": Failed(None), "task": made, "exception": ValueError("no")}
    TaxiwayNotifier(url=f"{controller.url}/hook").notify(context)
    sent = [body["text"].split(":")[0] for _, path, body in controller.seen if path == "/hook"]
    assert sent == ["digits version 2", "letters version 5"]


def test_provider_lists_every_operator_sensor_and_notifier() -> None:
    info = get_provider_info()
    listed = [
        name for kind in ("operators", "sensors") for each in info[kind] for name in each["python-modules"]
    ]
    assert sorted(listed) == [f"taxiway.operators.{stem}" for stem in STEMS]
    assert info["notifications"] == [f"{TaxiwayNotifier.__module__}.{TaxiwayNotifier.__name__}"]
