"""What a notebook's cell gives to Taxiway by mistake is refused in words, all at once, before anything is done."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pytest

from taxiway import datasets, history, lineage, reproduction, training, tuning
from taxiway import research as tw
from taxiway import transform as transforming
from taxiway.arguments import typed
from taxiway.errors import InvalidSpecError


class Sayer(Protocol):
    def say(self) -> str: ...


@typed
def told(
    what: str | Path,
    names: Sequence[str | Path] = (),
    *,
    count: int = 1,
    share: float | None = None,
    log: Callable[[str], None] = print,
    table: Mapping[str, Any] | None = None,
    kind: Literal["one", "two"] = "one",
    sayer: Sayer | None = None,
    rest: Any = None,
    **asked: str,
) -> str:
    """Say it."""
    return f"{what} {count}"


FIT = {
    "numbers of numpy": {"count": np.int64(3), "share": np.float32(0.5)},
    "a whole number for a number": {"share": 1},
    "a tuple for a list": {"names": ("a", Path("b"))},
    "nothing": {"share": None, "table": None, "sayer": None},
    "a value that the function judges": {"kind": "three"},
    "what no class can tell": {"sayer": 3, "rest": 3},
    "options": {"licence": "mit"},
}
UNFIT = {
    "a text for a number": ({"count": "3"}, "count must be a whole number, got '3'"),
    "nothing for a function": ({"log": None}, "log must be a function, got None"),
    "a list for a mapping": ({"table": [1]}, "table must be a mapping, got [1]"),
    "a text for a list": ({"names": "ab"}, "names must be a list (each a text or a Path), got 'ab'"),
    "a list of another thing": ({"names": ["a", 3]}, "got ['a', 3]"),
    "a number for a word": ({"kind": 1}, "kind must be one of 'one', 'two', got 1"),
    "an option": ({"licence": 3}, "licence must be a text, got 3"),
}


@pytest.mark.parametrize("given", FIT.values(), ids=FIT)
def test_argument_of_its_type_is_taken(given: dict[str, Any]) -> None:
    assert told("it", **given) == f"it {given.get('count', 1)}"


@pytest.mark.parametrize(("given", "fault"), UNFIT.values(), ids=UNFIT)
def test_argument_of_another_type_is_refused(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        told("it", **given)
    (said,) = caught.value.faults
    assert fault in said


def test_every_argument_of_a_wrong_type_is_named_at_once_and_none_at_length() -> None:
    wrong: Any = None
    with pytest.raises(InvalidSpecError) as caught:
        told(wrong, count="x" * 500)  # type: ignore[arg-type]
    assert caught.value.faults[0] == "what must be a text or a Path, got None"
    assert len(caught.value.faults) == 2
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("given", [{}, {"what": "it", "cuont": 3}], ids=["missing", "misspelt"])
def test_call_that_python_refuses_names_the_function(given: dict[str, Any]) -> None:
    strict: Any = typed(len_of)
    with pytest.raises(TypeError, match=r"len_of\(\)"):
        strict(**given)


def len_of(what: str) -> int:
    return len(what)


# As a person would mistake them: a path for a handle, a handle for a model, a number for a version, a forgotten value.
CELLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], tuple[str, ...]]] = {
    "register": (tw.register, (None,), {}, ("project",)),
    "transform": (tw.transform, (3,), {"log": None}, ("what", "log")),
    "put": (tw.put, (None, Path("digits")), {}, ("data", "name")),
    "put files": (tw.put, (["a", 3], "digits"), {}, ("data",)),
    "load": (tw.load, (3,), {}, ("reference",)),
    "search": (tw.search, (None,), {"licence": 3}, ("text", "licence")),
    "train": (tw.train, (None, 3), {"params": ["c"]}, ("what", "data", "params")),
    "train on a path": (tw.train, ("tiny", Path("digits")), {}, ("data",)),
    "tune": (tw.tune, ("tiny", "digits"), {"trials": "20"}, ("trials",)),
    "evaluate": (tw.evaluate, ("tiny",), {"data": 3}, ("model", "data")),
    "compare": (tw.compare, (Path("tiny"), ["score"]), {"kinds": "training"}, ("handle", "metric", "kinds")),
    "readiness": (tw.readiness, (3,), {"runs": "3"}, ("project", "runs")),
    "publish": (tw.publish, (3,), {"version": 1.0, "task": None}, ("folder", "version", "task")),
    "find libraries": (tw.find_libraries, (None,), {"task": 3}, ("text", "task")),
    "settings": (tw.find_libraries, (), {"settings": "http://127.0.0.1:5000"}, ("settings",)),
    "snapshot": (datasets.snapshot, ("images", "digits", None), {}, ("folder", "settings")),
    "append": (datasets.append, ("images", "digits"), {"settings": None, "base": None}, ("folder", "settings", "base")),
    "get": (datasets.get, ("digits", None, Path()), {}, ("revision", "settings")),
    "diff": (datasets.diff, ("digits@v1", "digits@v2", None), {}, ("before", "after", "settings")),
    "training": (training.train, ("tiny", "digits", None), {"seed": "7"}, ("dataset", "settings", "seed")),
    "tuning": (tuning.tune, ("tiny", "digits", None), {"trials": 3, "limits": {}}, ("dataset", "settings", "limits")),
    "transforming": (transforming.transform, (Path(), None), {"raw": "digits"}, ("handle", "settings", "raw")),
    "plot": (history.plot, ("tiny", None, None), {"since_s": "now"}, ("path", "settings", "since_s")),
    "explain": (lineage.explain, (7, None), {}, ("what", "settings")),
    "serving": (lineage.serving, (None, None), {}, ("what", "settings")),
    "bundle": (reproduction.bundle, ("tiny", 7.0, None), {"into": "here"}, ("version", "settings", "into")),
    "export": (history.export, (None, 3, None), {}, ("handle", "path", "settings")),
}  # fmt: skip


@pytest.mark.parametrize(("cell", "args", "options", "names"), CELLS.values(), ids=CELLS)
def test_function_for_cells_names_each_argument_of_a_wrong_type(
    cell: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], names: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        cell(*args, **options)
    assert tuple(fault.partition(" ")[0] for fault in caught.value.faults) == names
    assert caught.value.what == cell.__name__
