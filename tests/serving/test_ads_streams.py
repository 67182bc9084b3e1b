"""Who of a fleet may take a table back, what is gone back to, and who speaks no more."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from taxiway_serving.routing.ads_conversation import Heard
from taxiway_serving.routing.ads_streams import Session, Streams
from taxiway_serving.routing.fleet import Fleet
from tests.serving.test_ads_conversation import Envoy, goal_of, settle


class Connected(Envoy):
    """An Envoy whose stream is one of a fleet's."""

    def __init__(self, streams: Streams, name: str) -> None:
        self.streams, self.name = streams, name
        super().__init__()

    def connect(self) -> None:
        super().connect()
        number = len(self.streams._sessions) + 1
        self.session = Session(number=number, node=self.name, talk=self.talk)
        self.streams._sessions[number] = self.session

    def follow(self) -> None:
        """Take all there is to take."""
        assert self.streams.goal is not None
        settle(self, self.streams.goal)
        self.streams._note_progress(self.session)

    def reject(self) -> None:
        """Refuse what is said next."""
        self.inbox += self.streams._say(self.session)
        said = self.inbox.pop(0)
        self.inbox.clear()
        self.streams._hear(self.session, self.name, Heard(kind=said.kind, nonce=said.nonce, error="no"))


def revision(streams: Streams) -> str:
    assert streams.goal is not None
    return streams.goal.revision


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with closing(Fleet([])) as made:
        yield made


def test_table_is_taken_back_to_the_last_one_that_nobody_refused(fleet: Fleet) -> None:
    """The first bad table is refused late, when the second one, which has the same fault, is out already."""
    streams = Streams(fleet, leads=lambda: True)
    envoy = Connected(streams, "gate")
    streams.pursue(goal_of(1, {"a": 1}))
    envoy.follow()
    streams.pursue(goal_of(2, {"a": 2}))
    late = streams._say(envoy.session)[0]
    streams.pursue(goal_of(3, {"a": 2, "b": 1}))
    streams._hear(envoy.session, "gate", Heard(kind=late.kind, nonce=late.nonce, error="no"))
    assert revision(streams) == "3"
    envoy.reject()
    assert (revision(streams), sorted(streams.refused)) == ("1", ["2", "3"])
    envoy.follow()
    assert streams.goal is not None
    assert envoy.talk.is_settled(streams.goal)


def test_envoy_that_joins_and_refuses_moves_nobody(fleet: Fleet) -> None:
    """One of another release: what it does not take, the others have served by for long."""
    streams = Streams(fleet, leads=lambda: True)
    old = Connected(streams, "old")
    for number in (1, 2):
        streams.pursue(goal_of(number, {"a": number}))
        old.follow()
    new = Connected(streams, "new")
    new.reject()
    assert (revision(streams), streams.refused) == ("2", {})
    assert streams.goal is not None
    assert not new.talk.is_settled(streams.goal)

    # Nor does it keep the others from going on.
    streams.pursue(goal_of(3, {"a": 3}))
    new.reject()
    old.follow()
    assert (revision(streams), streams.refused) == ("3", {})


def test_new_table_that_one_who_serves_refuses_is_taken_back_from_all(fleet: Fleet) -> None:
    streams = Streams(fleet, leads=lambda: True)
    one, two = Connected(streams, "one"), Connected(streams, "two")
    streams.pursue(goal_of(1, {"a": 1}))
    one.follow()
    two.follow()
    streams.pursue(goal_of(2, {"a": 2}))
    one.follow()
    two.reject()
    assert (revision(streams), [*streams.refused]) == ("1", ["2"])


def test_table_that_the_only_envoy_refuses_is_refused(fleet: Fleet) -> None:
    streams = Streams(fleet, leads=lambda: True)
    envoy = Connected(streams, "gate")
    streams.pursue(goal_of(1, {"a": 1}))
    envoy.reject()
    assert streams.refused == {"1": "gate: no"}


def test_who_leads_no_more_says_nothing(fleet: Fleet) -> None:
    leads = True
    streams = Streams(fleet, leads=lambda: leads)
    envoy = Connected(streams, "gate")
    streams.pursue(goal_of(1, {"a": 1}))
    leads = False
    assert streams._say(envoy.session) == []
    leads = True
    assert streams._say(envoy.session) != []
