"""What keeps a look's cost at what has changed: equal rows are one object, and a route is made once."""

import json
from dataclasses import replace
from pathlib import Path

from taxiway_serving.controller.ordering import TableMaker, table_of
from taxiway_serving.ledger.parsed import Parsed
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Variant, Wish
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.runtime import VariantState
from taxiway_serving.split import Split

HANDLES = ("digits", "letters", "signs")
STATES = {
    VariantId(handle=handle, version=1): VariantState(phase="ready", host="127.0.0.1", port=9)
    for handle in HANDLES
}


def fleet() -> Fleet:
    return Fleet(
        endpoints=tuple(Endpoint(handle=each, stable=1, split=Split.whole(1)) for each in HANDLES),
        variants=tuple(
            Variant(handle=each, version=1, spec={"model": f"{each}/1"}, host="127.0.0.1", port=9)
            for each in HANDLES
        ),
    )


def test_equal_texts_are_one_value_and_what_is_gone_is_forgotten() -> None:
    parsed: Parsed[dict[str, int]] = Parsed(dict)
    texts = [json.dumps({"n": number}) for number in range(3)]
    first = parsed.of(texts)
    assert first == ({"n": 0}, {"n": 1}, {"n": 2})
    again = parsed.of([*texts[1:], json.dumps({"n": 3})])
    assert again[0] is first[1]
    assert parsed.of(texts)[0] is not first[0]


def test_only_the_handle_that_changed_has_a_new_route() -> None:
    maker, before = TableMaker(), fleet()
    first = maker.table(before, STATES)
    assert maker.table(fleet(), dict(STATES)) is first
    moved = replace(before.endpoints[1], shield=False)
    after = replace(before, endpoints=(before.endpoints[0], moved, before.endpoints[2]))
    second = maker.table(after, STATES)
    assert [new is old for new, old in zip(second.routes, first.routes, strict=True)] == [True, False, True]
    assert second.revision() == table_of(after, STATES).revision() != first.revision()
    busy = {
        **STATES,
        VariantId(handle="signs", version=1): replace(
            STATES[VariantId(handle="signs", version=1)], phase="starting"
        ),
    }
    assert [backend.ready for route in maker.table(after, busy).routes for backend in route.backends] == [
        True,
        True,
        False,
    ]


def test_a_handle_that_leaves_leaves_the_table() -> None:
    maker, before = TableMaker(), fleet()
    maker.table(before, STATES)
    gone = tuple(
        replace(each, wish=Wish.STOPPED) if each.handle == "letters" else each for each in before.variants
    )
    assert [route.handle for route in maker.table(replace(before, variants=gone), STATES).routes] == [
        "digits",
        "signs",
    ]


def test_a_faulty_route_is_told_at_every_look() -> None:
    maker, told = TableMaker(("127.0.0.1", 9)), []
    bad = replace(
        fleet(),
        endpoints=(Endpoint(handle="digits", stable=1, split=Split.whole(1), closed={1: ("user:ann",)}),),
    )
    for _ in range(2):
        table = maker.table(bad, STATES, on_fault=lambda what, _fault: told.append(what))
        assert table.routes[0].members is None
    assert told == ["route of digits"] * 2


def test_rows_that_did_not_change_are_read_as_the_same_objects(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'controller.db'}")
    known = fleet()
    store.commit(Change(endpoints=known.endpoints, variants=known.variants))
    first = store.fleet()
    store.commit(Change(variants=(replace(known.variants[0], retire_at_s=5.0),)))
    second = store.fleet()
    assert second.endpoints[0] is first.endpoints[0]
    assert [new is old for new, old in zip(second.variants, first.variants, strict=True)] == [
        False,
        True,
        True,
    ]
    store.close()
