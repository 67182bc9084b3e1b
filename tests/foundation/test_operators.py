"""The contract of every operator: it assigns, it calls the library, it says which failures are final."""

import ast
import importlib
import inspect
import socket
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from taxiway import errors
from taxiway.operators.base import TaxiwayOperator, provenance, refusals, task_name, version_number
from taxiway.operators.traffic import TrafficOperator
from taxiway.provenance import Provenance

FOLDER = Path(inspect.getfile(TaxiwayOperator)).parent
STEMS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in {"__init__", "base", "hooks"})

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
        if name.endswith("Operator") and name != "TaxiwayOperator"
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


@pytest.mark.parametrize("stem", STEMS)
def test_operator_takes_keywords_only(stem: str) -> None:
    arguments = method(stem, "__init__").args
    assert [argument.arg for argument in arguments.args] == ["self"]
    assert arguments.kwarg is not None


@pytest.mark.parametrize("stem", STEMS)
def test_operator_template_fields_are_its_arguments(stem: str) -> None:
    operator = operator_class(stem)
    own = {name for name in inspect.signature(operator.__init__).parameters if name not in {"self", "kwargs"}}
    assert set(operator.template_fields) == own | {"taxiway_conn_id"}


@pytest.mark.parametrize("stem", STEMS)
def test_operator_file_is_under_60_lines(stem: str) -> None:
    assert len((FOLDER / f"{stem}.py").read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.parametrize("stem", STEMS)
def test_operator_imports_the_library_inside_execute(stem: str) -> None:
    imported = [node for node in ast.walk(method(stem, "execute")) if isinstance(node, ast.ImportFrom)]
    assert imported
    assert all(node.module and node.module.startswith("taxiway.") for node in imported)


@pytest.mark.parametrize("error", FINAL.values(), ids=FINAL)
def test_refusals_are_final(error: errors.TaxiwayError) -> None:
    with pytest.raises(AirflowFailException, match=r".+") as caught, refusals():
        raise error
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


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


def test_traffic_on_kill_leaves_the_controller_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rollout goes on: nobody calls at the controller's address."""
    with socket.create_server(("127.0.0.1", 0)) as controller:
        controller.setblocking(False)
        monkeypatch.setenv("TAXIWAY_CONTROLLER_URL", f"http://127.0.0.1:{controller.getsockname()[1]}")
        TrafficOperator(task_id="traffic", handle="digits", version=1).on_kill()
        with pytest.raises(BlockingIOError):
            controller.accept()
