"""What an entry of the ledger says, so that every split of a handle can be explained from it."""

from dataclasses import replace
from typing import Any

import pytest

from taxiway_serving.split import Split
from tests.serving.operating import GATED, QUICK, until_pct
from tests.serving.plane import HANDLE, Plane

MADE_OF = {"dataset": "digits@v3", "dataset_hash": "0" * 32 + ".dir", "training": "a" * 64}


def bodies(plane: Plane, *kinds: str) -> list[dict[str, Any]]:
    found = plane.store.entries(HANDLE, after=0, limit=10_000)
    return [dict(entry.body) for entry in found if entry.kind in kinds]


def test_abort_says_what_is_wanted_before_it_is_read_back(slow: Plane) -> None:
    slow.begin(2, name="first", strategy=GATED)
    until_pct(slow, 50)
    slow.act("first", "abort")
    assert slow.weight_pct(2) == 50
    assert bodies(slow, "verb")[-1]["split"] == Split.whole(1).to_json()


@pytest.mark.parametrize("verb", ["promote", "promote-full"])
def test_promotion_by_hand_says_what_is_wanted(slow: Plane, verb: str) -> None:
    slow.begin(2, name="first", strategy=GATED)
    until_pct(slow, 50)
    slow.act("first", verb)
    slow.act("first", verb)
    last = [body["split"] for body in bodies(slow, "verb", "decision") if body.get("split")][-1]
    endpoint = slow.store.fleet().endpoint(HANDLE)
    assert endpoint is not None
    assert endpoint.split is not None
    assert last == endpoint.split.to_json() == Split.of(1, {2: 100}).to_json()


def test_every_wanted_split_is_in_the_ledger(slow: Plane) -> None:
    """Whatever changes what is wanted, the entry that says so is there when the change is."""
    slow.begin(2, name="first", strategy=GATED)
    for moment in range(40):
        if moment == 10:
            slow.act("first", "pause")
        if moment == 20:
            slow.begin(3, name="second", strategy=QUICK, on_running="supersede")
        slow.tick(requests=20)
        slow.router.step()
        endpoint = slow.store.fleet().endpoint(HANDLE)
        said = [body["split"] for body in bodies(slow, "verb", "decision", "rollout") if body.get("split")]
        assert endpoint is not None
        assert endpoint.split is not None
        assert said[-1] == endpoint.split.to_json()


def test_ledger_names_the_data_and_the_code_of_what_goes_live(plane: Plane) -> None:
    plane.commands.deploy(replace(plane.spec(1), lineage=MADE_OF), actor="ann")
    plane.tick(3)
    plane.begin(1, name="first", strategy=QUICK)
    plane.tick(20, requests=20)
    assert bodies(plane, "deployed")[0]["lineage"] == MADE_OF
    assert bodies(plane, "rollout")[0]["lineage"] == {"1": MADE_OF}
    assert bodies(plane, "live")[0]["lineage"] == {"1": MADE_OF}


def test_what_a_version_was_made_of_is_no_part_of_what_runs(plane: Plane) -> None:
    spec = plane.spec(1)
    assert replace(spec, lineage=MADE_OF).digest() == spec.digest()
    assert type(spec).from_json(replace(spec, lineage=MADE_OF).to_json()).lineage == MADE_OF
