"""What was said of a version stays on record, is inherited, and may stand in the way of promotion."""

import subprocess
from pathlib import Path

import pytest

from taxiway.datasets import append, describe, facts, get, promotion_faults, repository, snapshot
from taxiway.datasets.cards import sayings
from taxiway.datasets.facts import Card, Origin
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import InvalidSpecError, ToolFailedError
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


@pytest.mark.parametrize(
    "text",
    [
        "[promotion",
        '[promotion]\nforbidden = "licence"\n',
        '[promotion]\nforbidden = ["colour:red"]\n',
        "promotion = 1\n",
    ],
)
def test_policy_that_cannot_be_read_forbids(data: Path, settings: Settings, text: str) -> None:
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
