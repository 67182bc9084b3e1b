"""Versions are appended to, compared and searched; notebooks put and load them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.datasets import (
    DatasetVersion,
    append,
    diff,
    facts,
    fetch,
    get,
    history,
    load,
    put,
    remote,
    repository,
    search,
    snapshot,
)
from taxiway.datasets.facts import Origin
from taxiway.errors import DataChangedError, InvalidSpecError, ToolFailedError
from taxiway.provenance import Provenance
from taxiway.settings import Settings
from taxiway.tools import remove
from tests.datasets.conftest import Clone, contents, settings_in, write


def test_append_makes_the_next_version_and_leaves_the_other(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    first = snapshot(data, "digits", settings)
    told: list[str] = []
    more = write(tmp_path / "more", {"d.txt": "four", "a.txt": "one"})
    second = append(more, "digits", settings, log=told.append)
    assert (second.version, second.files, second.size_bytes) == (2, 4, first.size_bytes + 4)
    assert contents(fetch(first, settings)) == contents(data)
    assert contents(fetch(second, settings)) == contents(data) | {"d.txt": b"four"}
    assert "1 added, 0 removed, 0 changed, 3 kept; 11 -> 15 bytes (+4)" in told[-1]
    assert "+ d.txt" in told[-1]
    origin = facts(second, settings).origin
    assert origin is not None
    assert (origin.kind, origin.parents) == ("append", {first.tag: first.hash})


def test_append_needs_no_byte_of_the_other_version(data: Path, settings: Settings, tmp_path: Path) -> None:
    first = snapshot(data, "digits", settings)
    remove(remote.cache(settings.data_repository).root)
    second = append(write(tmp_path / "more", {"d.txt": "four"}), "digits", settings)
    cached = remote.cache(settings.data_repository)
    listing = cached.listing(second.hash)
    assert listing is not None
    assert len(cached.missing(listing)) == 3
    other = settings_in(tmp_path / "other", tmp_path / "remote")
    assert contents(fetch(second, other)) == contents(data) | {"d.txt": b"four"}
    assert contents(fetch(first, other)) == contents(data)


def test_append_of_what_is_there_makes_no_version(data: Path, settings: Settings, tmp_path: Path) -> None:
    first = snapshot(data, "digits", settings)
    assert append(write(tmp_path / "more", {"a.txt": "one"}), "digits", settings) == first


def test_append_over_other_files_is_refused_with_each_unless_asked_for(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    snapshot(data, "digits", settings)
    more = write(tmp_path / "more", {"a.txt": "ONE!", "b.txt": "TWO!"})
    with pytest.raises(InvalidSpecError) as caught:
        append(more, "digits", settings)
    assert len(caught.value.faults) == 2
    made = append(more, "digits", settings, replace=True)
    assert contents(fetch(made, settings)) == contents(data) | contents(more)
    assert made.size_bytes == sum(len(content) for content in contents(fetch(made, settings)).values())


def test_append_to_an_older_version(data: Path, settings: Settings, tmp_path: Path) -> None:
    first = snapshot(data, "digits", settings)
    write(data, {"a.txt": "changed"})
    snapshot(data, "digits", settings)
    third = append(write(tmp_path / "more", {"d.txt": "four"}), "digits", settings, base="v1")
    assert third.version == 3
    assert diff(first, third, settings).added == ("d.txt",)


def test_difference_names_what_was_added_removed_and_changed(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    first = snapshot(data, "digits", settings)
    (data / "b.txt").unlink()
    write(data, {"a.txt": "other bytes", **{f"new/{number:02}": "x" for number in range(12)}})
    second = snapshot(data, "digits", settings)
    other = settings_in(tmp_path / "other", tmp_path / "remote")
    repository.ensure(other)
    found = diff(first, second, other)
    assert (found.removed, found.changed, found.kept, len(found.added)) == (("b.txt",), ("a.txt",), 1, 12)
    assert found.text.splitlines()[-4:] == [
        "  + new/09",
        "  + and 2 more added",
        "  - b.txt",
        "  ~ a.txt",
    ]
    assert json.loads(json.dumps(found.to_json()))["bytes_after"] == second.size_bytes
    # Nobody's bytes were brought for it.
    assert not (other.data_repository / ".dvc" / "cache").exists()


def test_difference_of_what_nobody_knows_is_refused(data: Path, settings: Settings, tmp_path: Path) -> None:
    first = snapshot(data, "digits", settings)
    with pytest.raises(ToolFailedError, match="neither"):
        diff(first, replace(first, hash="0" * 32 + ".dir"), settings)


def test_snapshot_explains_itself(data: Path, settings: Settings, clone: Clone) -> None:
    """A prepared dataset names its raw data and the transform, in every clone."""
    host = clone("one")
    raw = snapshot(data, "raw", host)
    prepared = write(data.parent / "prepared", {"x.txt": "prepared"})
    details = {"handle": "digits", "code": "ab" * 32, "params": {"size": 8}}
    origin = Origin(kind="transform", parents={raw.tag: raw.hash}, details=details)
    task = Provenance(dag_id="d", run_id="r", task_id="t", try_number=2)
    made = snapshot(prepared, "digits", host, origin=origin, provenance=task)
    for where in (host, clone("two")):
        found = facts(get("digits", "latest", where), where)
        assert found.origin == origin
        assert found.made_by == task.identity()
        assert found.made_at.endswith("+00:00")
    assert made.to_json() == DatasetVersion.from_json(made.to_json() | {"more": 1}).to_json()


def test_snapshot_of_other_bytes_than_the_origin_left_is_refused(data: Path, settings: Settings) -> None:
    with pytest.raises(DataChangedError):
        snapshot(data, "digits", settings, origin=Origin(kind="transform", output="0" * 32 + ".dir"))
    assert history("digits", settings) == ()


def test_facts_of_a_tag_that_a_person_set_are_not_those_of_other_bytes(
    data: Path, settings: Settings
) -> None:
    made = snapshot(data, "digits", settings, card={"licence": "mit"})
    assert facts(replace(made, hash="1" * 32 + ".dir"), settings).card.licence == ""


def test_history_is_newest_first(data: Path, settings: Settings) -> None:
    first = snapshot(data, "digits", settings)
    write(data, {"a.txt": "changed"})
    second = snapshot(data, "digits", settings)
    assert history("digits", settings) == (second, first)
    assert history("letters", settings) == ()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return settings of a host with two datasets, which tests read and do not change."""
    tmp_path = tmp_path_factory.mktemp("shelf")
    settings, data = (
        settings_in(tmp_path / "home", tmp_path / "remote"),
        write(tmp_path / "data", {"a.txt": "one"}),
    )
    said = {"licence": "CC-BY-4.0", "description": "Scanned envelopes", "keywords": ["images", "post"]}
    snapshot(data, "digits", settings, card=said)
    table = write(tmp_path / "table", {"people.csv": "age,city\n31,Oslo\n44,Rome\n"})
    snapshot(table, "census", settings, card={"owner": "statistics team", "licence": "mit"})
    return settings


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["census", "digits"]),
        ({"name": "dig"}, ["digits"]),
        ({"keyword": "Post"}, ["digits"]),
        ({"text": "envelopes scanned"}, ["digits"]),
        ({"text": "statistics"}, ["census"]),
        ({"column": "age"}, ["census"]),
        ({"licence": "cc-by-4.0"}, ["digits"]),
        ({"licence": "mit", "name": "digits"}, []),
    ],
    ids=["all", "name", "keyword", "text", "owner", "column", "licence", "both"],
)
def test_search_finds_by_what_is_said_and_by_what_is_in_it(
    shelf: Settings, asked: dict[str, str], names: list[str]
) -> None:
    found = search(shelf, **asked)
    assert [each.version.name for each in found] == names
    assert all(each.version.tag in each.text for each in found)


def test_search_without_a_repository_finds_nothing(settings: Settings) -> None:
    assert search(settings) == ()


def test_put_and_load_from_a_notebook(
    data: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXIWAY_HOME", str(settings.home))
    made = put(data, "digits", licence="mit")
    assert put(str(data), "digits") == made
    assert contents(load("digits@v1")) == contents(load("digits")) == contents(data)
    files = put([data / "a.txt", data / "b.txt"], "some")
    assert sorted(contents(load(files.tag))) == ["a.txt", "b.txt"]


def test_put_of_two_files_of_one_name_is_refused(data: Path, settings: Settings) -> None:
    with pytest.raises(InvalidSpecError, match="put the folder"):
        put([data / "a.txt", data / "deep" / ".." / "a.txt"], "some", settings=settings)
