"""A profile says what is in a version, in bounded time; two profiles say whether it moved."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from taxiway.datasets import append, drift, facts, snapshot, tables
from taxiway.datasets import profile as profile_module
from taxiway.datasets.drift import compare
from taxiway.datasets.profile import columns_in, profile_of
from taxiway.datasets.store import files_in
from taxiway.settings import Settings
from tests.datasets.conftest import write

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + struct.pack("<HH", 32, 16) + bytes(14)
JPEG = (
    b"\xff\xd8\xff\xe0"
    + struct.pack(">H", 16)
    + bytes(14)
    + b"\xff\xc0"
    + struct.pack(">HBHH", 17, 8, 100, 200)
    + bytes(12)
)


def profiled(folder: Path) -> dict[str, Any]:
    found = profile_of(files_in(folder))
    assert json.loads(json.dumps(found)) == found
    return found


def table_of(folder: Path) -> dict[str, Any]:
    (found,) = profiled(folder)["tables"].values()
    return dict(found)


ROWS = {"age": [31, 44, None, 50], "city": ["Oslo", "Rome", "Rome", None]}


def make_csv(path: Path) -> None:
    path.write_text("age,city\n31,Oslo\n44,Rome\n,Rome\n50,\n")


def make_jsonl(path: Path) -> None:
    rows = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_parquet(path: Path) -> None:
    parquet.write_table(pa.table(ROWS), path)


@pytest.mark.parametrize(
    ("name", "make"),
    [("t.csv", make_csv), ("t.jsonl", make_jsonl), ("t.parquet", make_parquet)],
    ids=["csv", "jsonl", "parquet"],
)
def test_table_has_schema_and_statistics(tmp_path: Path, name: str, make: Any) -> None:
    make(tmp_path / name)
    table = table_of(tmp_path)
    age, city = table["columns"]["age"], table["columns"]["city"]
    assert (table["rows"], age["type"], city["type"]) == (4, "int64", "string")
    assert (age["count"], age["missing"], age["min"], age["max"]) == (4, 1, 31.0, 50.0)
    assert age["mean"] == pytest.approx(125 / 3, rel=1e-5)
    assert city["values"]["Rome"] == 2


def test_arrays_have_shape_and_statistics(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(12.0).reshape(3, 4), y=np.array([0, 1, 1]))
    np.save(tmp_path / "e.npy", np.array([[1.0, np.nan]]))
    found = profiled(tmp_path)["tables"]
    assert found["d.npz"]["columns"]["x"]["shape"] == [3, 4]
    assert found["d.npz"]["columns"]["x"]["quantiles"][10] == 5.5
    assert found["d.npz"]["columns"]["y"]["values"] == {"1": 2, "0": 1}
    assert found["e.npy"]["columns"][""]["missing"] == 1
    assert columns_in({"tables": found}) == ("x", "y")


def test_images_are_counted_and_measured(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": PNG, "b.gif": GIF, "c.jpg": JPEG, "d.png": b"no image", "e.txt": "x"})
    found = profiled(tmp_path)
    assert found["images"]["count"] == 4
    assert found["images"]["looked_at"] == 3
    assert (found["images"]["width"], found["images"]["height"]) == ([32, 640], [16, 480])
    assert found["others"] == {".txt": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 is not all"),
        ("a.npz", b"PK not a zip"),
        ("a.npy", b"\x93NUMPY\x01\x00"),
        ("a.jsonl", b'{"a": 1\n{'),
        ("a.csv", b""),
    ],
)
def test_broken_file_is_named_and_stops_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    write(tmp_path, {name: content, "good.csv": "x\n1\n"})
    found = profiled(tmp_path)
    assert list(found["unreadable"]) == [name]
    assert list(found["tables"]) == ["good.csv"]


def test_pickled_array_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=np.array([{"a": 1}], dtype=object))
    assert list(profiled(tmp_path)["unreadable"]) == ["a.npy", "b.npz"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_big_file_is_sampled_over_its_length_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(tables, "SAMPLE_BYTES", 4000)
    form = "{}\n" if suffix == ".csv" else '{{"n": {}}}\n'
    title = "n\n" if suffix == ".csv" else ""
    (tmp_path / f"t{suffix}").write_text(title + "".join(form.format(number) for number in range(10_000)))
    table = table_of(tmp_path)
    assert "from 8 places" in table["part"]
    column = table["columns"]["n"]
    assert (column["type"], column["min"], column["max"]) == ("int64", 0.0, 9999.0)
    assert column["mean"] == pytest.approx(5000, rel=0.2)
    assert table["rows"] < 1000


def test_big_parquet_and_array_are_sampled_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SAMPLE_BYTES", 4000)
    values = np.random.default_rng(7).random(10_000)
    parquet.write_table(pa.table({"n": values}), tmp_path / "t.parquet", row_group_size=100)
    np.save(tmp_path / "a.npy", values)
    found = profiled(tmp_path)["tables"]
    assert found["t.parquet"]["rows"] == 10_000
    assert "row groups" in found["t.parquet"]["part"]
    assert "elements" in found["a.npy"]["part"]
    assert found["a.npy"]["columns"][""]["count"] == 500


def test_profile_stops_at_its_time_and_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"{number}.csv": "x\n1\n" for number in range(5)})
    times = iter([0.0, 1.0, 2.0, 30.0])
    found = profile_of(files_in(tmp_path), clock=lambda: next(times))
    assert (len(found["tables"]), found["unread"]) == (2, 3)
    monkeypatch.setattr(profile_module, "MOST_TABLES", 4)
    assert profiled(tmp_path)["unread"] == 1


def test_appended_version_has_the_profile_of_all_its_files(tmp_path: Path, settings: Settings) -> None:
    snapshot(write(tmp_path / "a", {"a.csv": "x\n1\n", "a.png": PNG}), "t", settings)
    made = append(write(tmp_path / "b", {"b.csv": "x\n2\n", "b.gif": GIF}), "t", settings)
    found = facts(made, settings).profile
    assert list(found["tables"]) == ["a.csv", "b.csv"]
    assert (found["images"]["count"], found["images"]["width"]) == (2, [32, 640])


def test_profile_of_personal_data_holds_no_word_of_them(tmp_path: Path, settings: Settings) -> None:
    folder = write(tmp_path / "a", {"a.csv": "name,age\nAda,36\nAlan,41\n"})
    made = snapshot(folder, "people", settings, card={"personal_data": "personal"})
    found = facts(made, settings).profile["tables"]["a.csv"]["columns"]
    assert "Ada" not in json.dumps(found)
    assert (found["name"]["distinct"], found["age"]["max"]) == (2, 41.0)


def test_text_of_many_values_is_only_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("w\n" + "".join(f"word{number}\n" for number in range(30)))
    assert "values" not in table_of(tmp_path)["columns"]["w"]


def numbers(folder: Path, values: Any) -> Path:
    folder.mkdir(parents=True)
    parquet.write_table(pa.table(values), folder / "t.parquet")
    return folder


def moved(tmp_path: Path, before: Any, after: Any) -> Any:
    one, other = (
        profiled(numbers(tmp_path / name, values)) for name, values in (("a", before), ("b", after))
    )
    return compare("t@v1", one, "t@v2", other)


@pytest.mark.parametrize("rows", [30, 300, 10_000])
def test_chance_is_no_drift(tmp_path: Path, rows: int) -> None:
    random = np.random.default_rng(11)
    for turn in range(20):
        draws = [{"n": random.normal(size=rows), "w": random.choice(["a", "b", "c"], rows)} for _ in range(2)]
        found = moved(tmp_path / str(turn), *draws)
        assert not found.has_moved, found.text


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"n": lambda random: random.normal(2.0, 1.0, 1000)}, "n: strong drift (index"),
        ({"n": lambda random: random.normal(0.0, 3.0, 1000)}, "n: strong drift (index"),
        ({"n": lambda random: random.normal(0.45, 1.0, 1000)}, "n: some drift (index"),
        ({"w": lambda random: random.choice(["a", "b"], 1000, p=[0.9, 0.1])}, "w: strong drift (index"),
        ({"w": lambda random: random.choice(["a", "z"], 1000)}, "w: strong drift (index"),
        ({"n": lambda random: [None] * 200 + list(random.normal(size=800))}, "n: missing 0% -> 20%"),
        ({"n": lambda random: random.integers(0, 5, 1000)}, "n: double -> int64"),
    ],
    ids=["mean", "spread", "a little", "shares", "new word", "missing", "type"],
)
def test_drift_is_said_in_words(tmp_path: Path, after: Any, words: str) -> None:
    random = np.random.default_rng(3)
    before = {"n": random.normal(size=1000), "w": random.choice(["a", "b"], 1000)}
    changed = {"n": random.normal(size=1000), "w": random.choice(["a", "b"], 1000)}
    found = moved(tmp_path, before, changed | {name: make(random) for name, make in after.items()})
    assert found.has_moved
    assert words in found.text
    assert "1 column(s) did not move" in found.text or "type" in words or "int64" in words


def test_schema_differences_are_named(tmp_path: Path) -> None:
    found = moved(tmp_path, {"a": [1], "b": [1]}, {"b": [1], "c": [1]})
    assert found.schema == ("a: removed", "c: added")
    assert json.loads(json.dumps(found.to_json()))["has_moved"]


def test_column_that_takes_many_new_values_has_changed(tmp_path: Path) -> None:
    found = moved(tmp_path, {"w": ["a", "b"] * 20}, {"w": [f"w{number}" for number in range(40)]})
    assert found.schema == ("w: at most 20 distinct values -> more",)


def test_what_nobody_can_tell_is_not_called_still(tmp_path: Path) -> None:
    before = {"w": [f"a{number}" for number in range(50)], "n": [1.0, 2.0] * 25}
    after = {"w": [f"b{number}" for number in range(50)], "n": [1.0, 2.0] * 25}
    found = moved(tmp_path, before, after)
    assert found.unknown == ("w",)
    assert "1 column(s) did not move" in found.text
    assert "1 column(s) not compared: w" in found.text
    assert found.to_json()["unknown"] == ["w"]


def test_tables_that_nobody_read_are_named(tmp_path: Path) -> None:
    whole, broken = numbers(tmp_path / "a", {"n": [1]}), numbers(tmp_path / "b", {"n": [1]})
    (broken / "more.parquet").write_bytes(b"none")
    found = compare("t@v1", profiled(whole), "t@v2", profiled(broken))
    (unread,) = found.unread
    assert unread.startswith("t@v2: more.parquet could not be read: ")
    assert unread in found.text


def test_drift_of_versions_is_read_from_what_is_kept_with_them(tmp_path: Path, settings: Settings) -> None:
    random = np.random.default_rng(5)
    first = snapshot(numbers(tmp_path / "a", {"n": random.normal(size=500)}), "t", settings)
    second = snapshot(numbers(tmp_path / "b", {"n": random.normal(3.0, 1.0, 500)}), "t", settings)
    found = drift(first, second, settings)
    assert (found.before, found.after, found.has_moved) == ("t@v1", "t@v2", True)
