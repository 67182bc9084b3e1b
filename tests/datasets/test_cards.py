"""What was said of a version stays on record, is inherited, and may stand in the way of promotion."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.datasets import append, describe, facts, get, promotion_faults, repository, snapshot
from taxiway.datasets.cards import sayings
from taxiway.datasets.facts import UNTRACEABLE, Card, Origin
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import DataChangedError, InvalidSpecError, ToolFailedError
from taxiway.registry.doubts import of_data
from taxiway.settings import Settings
from tests.datasets.conftest import Clone, write


def forbid(settings: Settings, *rules: str, text: str = "") -> None:
    """Commit the rules of promotion, as a person would."""
    root = repository.ensure(settings)
    listed = ", ".join(f'"{rule}"' for rule in rules)
    (root / "policy.toml").write_text(text or f"[promotion]\nforbidden = [{listed}]\n")
    repository.git(root, "add", "policy.toml")
    repository.git(root, "-c", "user.name=Law", "-c", "user.email=law@example.com", "commit", "-qm", "Rules")


def values(version: DatasetVersion, key: str, settings: Settings) -> list[tuple[str, str]]:
    return [(said.value, said.tag) for said in sayings(version, key, settings)]


def test_card_with_faults_is_refused_with_every_fault() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        Card.from_json({"license": "mit", "personal_data": "maybe", "owner": 3, "keywords": "one"})
    assert len(caught.value.faults) == 4


def test_what_is_said_later_is_on_record_with_who_when_and_why(data: Path, clone: Clone) -> None:
    here, there = clone("here"), clone("there")
    made = snapshot(data, "digits", here, card={"licence": "mit", "owner": "ana"})
    describe(made, here, by="Bo", why="the source was relicensed", licence="cc-by-nc-4.0")
    describe(get("digits", 1, there), there, by="Cy", why="faces are in it", personal_data="special")
    found = facts(get("digits", "latest", here), here)
    assert (found.card.licence, found.card.owner, found.card.personal_data) == (
        "cc-by-nc-4.0",
        "ana",
        "special",
    )
    assert [(each.by, each.why) for each in found.records] == [
        ("Bo", "the source was relicensed"),
        ("Cy", "faces are in it"),
    ]
    assert all(each.at for each in found.records)


def test_nobody_says_nothing(data: Path, settings: Settings) -> None:
    made = snapshot(data, "digits", settings)
    with pytest.raises(InvalidSpecError) as caught:
        describe(made, settings, by="", why=" ")
    assert len(caught.value.faults) == 3


def test_snapshot_of_the_same_bytes_adds_to_the_card_and_changes_nothing(
    data: Path, settings: Settings
) -> None:
    made = snapshot(data, "digits", settings, card={"licence": "mit"})
    describe(made, settings, by="Bo", why="a lawyer looked", personal_data="personal")
    told: list[str] = []
    card = {"licence": "mit", "personal_data": "none", "owner": "ana"}
    assert snapshot(data, "digits", settings, card=card, log=told.append) == made
    found = facts(made, settings)
    assert (found.card.personal_data, found.card.owner, len(found.records)) == ("personal", "ana", 2)
    assert any("keeps its personal_data 'personal'" in line for line in told)
    snapshot(data, "digits", settings, card=card)
    assert len(facts(made, settings).records) == 2


def test_version_says_what_its_parents_say(data: Path, settings: Settings, tmp_path: Path) -> None:
    raw = snapshot(data, "raw", settings, card={"personal_data": "personal"})
    origin = Origin(kind="transform", parents={raw.tag: raw.hash})
    prepared = snapshot(write(tmp_path / "p", {"x": "1"}), "digits", settings, origin=origin)
    assert values(prepared, "personal_data", settings) == [("personal", raw.tag)]
    more = append(write(tmp_path / "more", {"y": "2"}), "digits", settings)
    assert values(more, "personal_data", settings) == [("personal", raw.tag)]
    describe(prepared, settings, by="Bo", why="names were removed", personal_data="none")
    assert values(more, "personal_data", settings) == [("none", prepared.tag)]


def test_version_of_outside_data_follows_the_version_before(data: Path, settings: Settings) -> None:
    first = snapshot(data, "digits", settings, card={"licence": "mit"})
    write(data, {"a.txt": "changed"})
    second = snapshot(data, "digits", settings)
    assert values(second, "licence", settings) == [("mit", first.tag)]
    assert values(second, "owner", settings) == []


@pytest.mark.parametrize(
    ("rules", "card", "reason"),
    [
        (["personal_data"], {"personal_data": "pseudonymous"}, "has the personal data 'pseudonymous'"),
        (["personal_data"], {"personal_data": "none"}, None),
        (["personal_data:special"], {"personal_data": "personal"}, None),
        (["licence:cc-by-nc-4.0"], {"licence": "CC-BY-NC-4.0"}, "has the licence 'cc-by-nc-4.0'"),
        (["licence:unknown"], {"owner": "ana"}, "nobody said of digits@v1 what its licence is"),
        (["licence:unknown"], {"licence": "mit"}, None),
        (["purpose:research"], {"purpose": "Research"}, "has the purpose 'Research'"),
        ([], {"personal_data": "special"}, None),
    ],
)
def test_policy_forbids_with_the_reason(
    data: Path, settings: Settings, rules: list[str], card: dict[str, str], reason: str | None
) -> None:
    made = snapshot(data, "digits", settings, card=card)
    forbid(settings, *rules)
    faults = promotion_faults(made, settings)
    assert len(faults) == (0 if reason is None else 1)
    assert all(reason in fault and "policy.toml" in fault for fault in faults if reason)


def test_policy_without_a_file_forbids_nothing(data: Path, settings: Settings) -> None:
    assert promotion_faults(snapshot(data, "digits", settings), settings) == ()


def test_policy_holds_for_what_a_version_was_made_of_and_names_who_said_it(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    raw = snapshot(data, "raw", settings)
    origin = Origin(kind="transform", parents={raw.tag: raw.hash})
    made = snapshot(write(tmp_path / "p", {"x": "1"}), "digits", settings, origin=origin)
    forbid(settings, "personal_data")
    assert promotion_faults(made, settings) == ()
    describe(raw, settings, by="Bo", why="a name was found", personal_data="personal")
    (fault,) = promotion_faults(made, settings)
    assert "because raw@v1 has (said by Bo: a name was found)" in fault


POLICIES = {
    "no TOML": "[promotion",
    "a text": '[promotion]\nforbidden = "licence"\n',
    "a key that is none": '[promotion]\nforbidden = ["colour:red"]\n',
    "no table": "promotion = 1\n",
    "a word misspelt": '[promotion]\nforbiden = ["licence:mit"]\n',
    "a table misspelt": '[promotions]\nforbidden = ["licence:mit"]\n',
    "a value that is none": '[promotion]\nforbidden = ["personal_data:yes"]\n',
}


@pytest.mark.parametrize("text", POLICIES.values(), ids=POLICIES)
def test_policy_that_cannot_be_read_as_it_was_meant_forbids(
    data: Path, settings: Settings, text: str
) -> None:
    made = snapshot(data, "digits", settings)
    forbid(settings, text=text)
    assert len(promotion_faults(made, settings)) == 1


def test_policy_forbids_what_has_parents_that_nobody_knows(data: Path, settings: Settings) -> None:
    made = snapshot(data, "digits", settings, origin=Origin(kind="transform", parents={"raw@v7": "0" * 32}))
    forbid(settings, "personal_data")
    (fault,) = promotion_faults(made, settings)
    assert "raw@v7, which is not in this data repository" in fault


def test_policy_of_the_origin_applies_at_once(data: Path, clone: Clone, tmp_path: Path) -> None:
    here, there = clone("here"), clone("there")
    made = snapshot(data, "digits", here, card={"personal_data": "personal"})
    repository.catch_up(there)
    forbid(there, "personal_data")
    repository.git(there.data_repository, "push", "-q", "origin", "HEAD:main")
    assert len(promotion_faults(made, here)) == 1
    (tmp_path / "origin.git").rename(tmp_path / "away.git")
    with pytest.raises(ToolFailedError):
        promotion_faults(made, here)
    assert (
        subprocess.run(
            ["git", "status", "--porcelain"], cwd=here.data_repository, capture_output=True, check=True
        ).stdout
        == b""
    )


@pytest.mark.parametrize("rule", ["licence:CC-BY-NC-4.0", "Licence: cc-by-nc-4.0", "purpose:Research"])
def test_rule_and_card_may_be_spelt_in_either_case(rule: str, data: Path, settings: Settings) -> None:
    made = snapshot(data, "digits", settings, card={"licence": "CC-BY-NC-4.0", "purpose": "Research"})
    forbid(settings, rule)
    assert len(promotion_faults(made, settings)) == 1


def test_append_cannot_launder_what_it_adds_to(data: Path, settings: Settings, tmp_path: Path) -> None:
    """What is said with an append is said of the files that it adds; the whole is freed by `describe` alone."""
    base = snapshot(data, "digits", settings, card={"licence": "cc-by-nc-4.0", "personal_data": "personal"})
    forbid(settings, "licence:cc-by-nc-4.0", "personal_data")
    card = {"licence": "cc0-1.0", "personal_data": "none"}
    more = append(write(tmp_path / "more", {"x.txt": "x"}), "digits", settings, card=card)
    assert values(more, "licence", settings) == [("cc0-1.0", more.tag), ("cc-by-nc-4.0", base.tag)]
    assert len(promotion_faults(more, settings)) == 2
    describe(more, settings, by="Bo", why="its owner agreed", licence="cc0-1.0", personal_data="none")
    assert promotion_faults(more, settings) == ()


def test_equal_bytes_are_judged_under_every_name(data: Path, settings: Settings) -> None:
    snapshot(data, "theirs", settings, card={"licence": "cc-by-nc-4.0"})
    ours = snapshot(data, "ours", settings, card={"licence": "mit"})
    forbid(settings, "licence:cc-by-nc-4.0")
    (fault,) = promotion_faults(ours, settings)
    assert "theirs@v1" in fault


@pytest.mark.parametrize("said_of", ["first", "later"])
def test_equal_bytes_of_an_ancestor_are_judged_under_every_name(
    data: Path, settings: Settings, tmp_path: Path, said_of: str
) -> None:
    """Raw data that are called otherwise are no way round a rule, however far back, whoever came first."""
    names = {"theirs": "cc-by-nc-4.0", "raw": "mit"}
    order = ["theirs", "raw"] if said_of == "first" else ["raw", "theirs"]
    taken = {name: snapshot(data, name, settings, card={"licence": names[name]}) for name in order}
    origin = Origin(kind="transform", parents={taken["raw"].tag: taken["raw"].hash})
    snapshot(write(tmp_path / "p", {"x": "1"}), "digits", settings, origin=origin)
    more = append(write(tmp_path / "more", {"y": "2"}), "digits", settings)
    forbid(settings, "licence:cc-by-nc-4.0")
    (fault,) = promotion_faults(more, settings)
    assert "because theirs@v1 has" in fault
    describe(more, settings, by="Bo", why="bought", licence="mit")
    assert promotion_faults(more, settings) == ()


def test_bytes_that_a_person_tagged_have_a_name_too(data: Path, settings: Settings) -> None:
    """What DVC wrote and a person tagged is a dataset version; a tag of what is none says nothing."""
    theirs = snapshot(data, "theirs", settings, card={"licence": "cc-by-nc-4.0"})
    root = settings.data_repository
    repository.git(root, "update-ref", "refs/tags/theirs@v1", theirs.commit)
    repository.git(root, "update-ref", "refs/tags/release@v1", theirs.commit)
    ours = snapshot(data, "ours", settings, card={"licence": "mit"})
    forbid(settings, "licence:cc-by-nc-4.0")
    (fault,) = promotion_faults(ours, settings)
    assert "theirs@v1" in fault


def test_bytes_that_are_made_of_one_another_are_judged_by_all_that_is_said(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    raw = snapshot(data, "raw", settings)
    origin = Origin(kind="transform", parents={raw.tag: raw.hash})
    sorted_ = snapshot(write(tmp_path / "p", {"x": "1"}), "digits", settings, origin=origin)
    back = Origin(kind="transform", parents={sorted_.tag: sorted_.hash})
    restored = snapshot(data, "restored", settings, origin=back, card={"licence": "cc-by-nc-4.0"})
    for version in (raw, sorted_, restored):
        assert values(version, "licence", settings)[:1] == (
            [] if version == raw else [("cc-by-nc-4.0", restored.tag)]
        )
    forbid(settings, "licence:cc-by-nc-4.0")
    assert [len(promotion_faults(version, settings)) for version in (raw, sorted_, restored)] == [1, 1, 1]


def test_bytes_that_were_there_learn_what_they_were_made_of(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    raw = snapshot(
        write(tmp_path / "raw", {"r.csv": "name\nAnn\n"}), "raw", settings, card={"personal_data": "personal"}
    )
    made = snapshot(data, "digits", settings)
    origin = Origin(kind="transform", parents={raw.tag: raw.hash})
    for _ in range(2):
        assert snapshot(data, "digits", settings, origin=origin) == made
    assert values(made, "personal_data", settings) == [("personal", raw.tag)]
    assert (facts(made, settings).origins, len(facts(made, settings).records)) == ((origin,), 1)


SECRET = "Carl Secret"


def _next_snapshot(settings: Settings, folder: Path, _: DatasetVersion) -> DatasetVersion:
    return snapshot(write(folder, {"p.csv": f"name\n{SECRET}\nEve\n"}), "people", settings)


def _appended(settings: Settings, folder: Path, _: DatasetVersion) -> DatasetVersion:
    return append(write(folder, {"q.csv": f"name\n{SECRET}\nEve\n"}), "people", settings)


def _transformed(settings: Settings, folder: Path, people: DatasetVersion) -> DatasetVersion:
    origin = Origin(kind="transform", parents={people.tag: people.hash})
    return snapshot(write(folder, {"t.csv": f"name\n{SECRET}\nEve\n"}), "table", settings, origin=origin)


@pytest.mark.parametrize("make", [_next_snapshot, _appended, _transformed])
def test_values_of_people_stay_out_of_git_whoever_said_so(
    make: Callable[[Settings, Path, DatasetVersion], DatasetVersion], settings: Settings, tmp_path: Path
) -> None:
    first = write(tmp_path / "first", {"p.csv": "name\nBo\nAnn\n"})
    people = snapshot(first, "people", settings, card={"personal_data": "personal"})
    made = make(settings, tmp_path / "later", people)
    text = repository.git(settings.data_repository, "show", made.commit)
    assert SECRET not in text
    assert facts(made, settings).profile["tables"]


def test_values_of_people_stay_out_of_git_when_the_bytes_are_called_otherwise(
    settings: Settings, tmp_path: Path
) -> None:
    table = write(tmp_path / "people", {"p.csv": f"name\n{SECRET}\nEve\n"})
    snapshot(table, "people", settings, card={"personal_data": "personal"})
    again = snapshot(table, "guests", settings, card={"personal_data": "none"})
    assert SECRET not in repository.git(settings.data_repository, "show", again.commit)


def test_prepared_data_that_are_appended_keep_what_they_were_made_of(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    raw_card = {"personal_data": "personal", "licence": "cc-by-nc-4.0"}
    raw = snapshot(write(tmp_path / "raw", {"r.csv": "name\nAnn\n"}), "raw", settings, card=raw_card)
    snapshot(data, "digits", settings, card={"personal_data": "none", "licence": "mit"})
    prepared = write(tmp_path / "prepared", {"p.csv": f"name\n{SECRET}\n"})
    details = {"handle": "tiny", "code": "c0de", UNTRACEABLE: ["nobody watched"]}
    origin = Origin(kind="transform", parents={raw.tag: raw.hash}, details=details)
    made = append(prepared, "digits", settings, origin=origin)
    assert {value for value, _ in values(made, "licence", settings)} == {"mit", "cc-by-nc-4.0"}
    assert SECRET not in repository.git(settings.data_repository, "show", made.commit)
    assert of_data(made, settings) == (f"its data {made.tag}: nobody watched",)
    with pytest.raises(DataChangedError):
        append(prepared, "digits", settings, origin=replace(origin, output="f" * 32 + ".dir"))


def test_append_of_bytes_that_are_there_speaks_of_what_it_adds(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    base = snapshot(data, "digits", settings, card={"licence": "cc-by-nc-4.0"})
    more = write(tmp_path / "more", {"x.txt": "x"})
    whole = write(tmp_path / "whole", {**{path.name: path.read_text() for path in data.glob("*.txt")}})
    write(whole, {"deep/c.txt": (data / "deep" / "c.txt").read_text(), "x.txt": "x"})
    second = snapshot(whole, "digits", settings)
    assert append(more, "digits", settings, base=1, card={"licence": "cc0-1.0"}) == second
    assert ("cc-by-nc-4.0", base.tag) in values(second, "licence", settings)


def test_files_that_came_without_a_word_are_unknown_under_whatever_was_said_before(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    snapshot(data, "digits", settings, card={"licence": "mit"})
    forbid(settings, "licence:unknown")
    added = append(write(tmp_path / "more", {"x.txt": "x"}), "digits", settings)
    (fault,) = promotion_faults(added, settings)
    assert fault.startswith("nobody said of digits@v2 what its licence is")
    spoken = append(write(tmp_path / "most", {"y.txt": "y"}), "digits", settings, card={"licence": "mit"})
    (fault,) = promotion_faults(spoken, settings)
    assert fault.startswith("nobody said of digits@v2, of which digits@v3 was made, what its licence is")
    describe(added, settings, by="ana", why="asked the post office", licence="mit")
    assert promotion_faults(spoken, settings) == ()
    others = snapshot(write(tmp_path / "other", {"z.txt": "z"}), "digits", settings)
    assert len(promotion_faults(others, settings)) == 1


def test_silence_under_another_name_forbids_nothing(data: Path, settings: Settings) -> None:
    """Whoever takes the same public bytes once more, and says nothing of them, stops nobody."""
    ours = snapshot(data, "ours", settings, card={"licence": "mit"})
    theirs = snapshot(data, "theirs", settings)
    forbid(settings, "licence:unknown")
    assert promotion_faults(ours, settings) == promotion_faults(theirs, settings) == ()


def test_what_holds_is_known_however_often_was_appended(settings: Settings) -> None:
    """A dataset that grows daily is thousands of versions deep: nothing calls itself, and git is asked a few times."""
    root, deep = repository.ensure(settings), 1_500
    parents: dict[str, str] = {}
    commits = []
    for number in range(1, deep + 1):
        said = {"licence": "cc-by-nc-4.0"} if number == 1 else {}
        origin = {"kind": "append", "parents": parents, "details": {}, "output": ""} if parents else None
        facts_of = json.dumps({"hash": f"{number:032x}.dir", "card": said, "origin": origin})
        commits.append((number, facts_of))
        parents = {f"daily@v{number}": f"{number:032x}.dir"}
    stream = []
    for number, text in commits:
        message, tag = f"v{number}", json.dumps({"hash": f"{number:032x}.dir", "size_bytes": 1, "files": 1})
        stream += [
            "commit refs/heads/main",
            f"mark :{number}",
            f"committer T <t@localhost> {1_700_000_000 + number} +0000",
            f"data {len(message)}",
            message,
            *(["from refs/heads/main^0"] if number == 1 else []),
            "M 100644 inline daily.facts.json",
            f"data {len(text)}",
            text,
            f"tag daily@v{number}",
            f"from :{number}",
            "tagger T <t@localhost> 1700000000 +0000",
            f"data {len(tag)}",
            tag,
        ]
    repository.git(root, "fast-import", "--quiet", stdin="\n".join(stream) + "\n")
    newest = get("daily", deep, settings)
    assert values(newest, "licence", settings) == [("cc-by-nc-4.0", "daily@v1")]
    assert of_data(newest, settings) == ()
