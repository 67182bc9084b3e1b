"""What an Envoy of a fleet is told, in any order of subscribing, confirming, refusing and coming back."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxiway_serving.routing.ads_conversation import (
    CLUSTERS,
    KINDS,
    ROUTES,
    SCOPES,
    Conversation,
    Goal,
    Heard,
    Said,
)
from taxiway_serving.routing.ads_encoding import Resource

NAMES = ("a", "b", "c")


def goal_of(number: int, content: Mapping[str, int], *, removes: bool = True) -> Goal:
    """Each handle has a cluster and routes of one version; its routes need the cluster of that version."""
    clusters = {f"{name}/{version}": _resource(f"{name}/{version}") for name, version in content.items()}
    scopes = {name: _resource(name) for name in content}
    routes = {name: _resource(f"{name}/{version}") for name, version in content.items()}
    return Goal(
        number=number,
        revision=str(number),
        resources={CLUSTERS: clusters, SCOPES: scopes, ROUTES: routes},
        needs={name: frozenset({f"{name}/{version}"}) for name, version in content.items()},
        removes=removes,
    )


def _resource(version: str) -> Resource:
    return Resource(version=version, body=b"")


class Envoy:
    """An Envoy as far as it speaks ADS: what it has outlives its streams."""

    def __init__(self) -> None:
        self.has: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        self.connect()

    def connect(self) -> None:
        self.talk = Conversation()
        self.inbox: list[Said] = []
        self.talk.hear(Heard(kind=CLUSTERS, has=dict(self.has[CLUSTERS])))
        self.talk.hear(Heard(kind=SCOPES, has=dict(self.has[SCOPES])))
        if self.has[SCOPES]:
            names = tuple(self.has[SCOPES])
            self.talk.hear(Heard(kind=ROUTES, subscribe=names, has=dict(self.has[ROUTES])))
            self.asked = set(names)
        else:
            self.asked = set()

    def listen(self, goal: Goal) -> None:
        self.inbox += self.talk.say(goal)

    def confirm(self) -> None:
        said = self.inbox.pop(0)
        self._take(said)
        self.talk.hear(Heard(kind=said.kind, nonce=said.nonce))
        self.talk.warming.clear()
        self._follow_scopes()

    def refuse(self) -> None:
        """Take some of it all the same, as Envoy does with clusters."""
        said = self.inbox.pop(0)
        if said.kind == CLUSTERS:
            self.has[CLUSTERS] |= {name: each.version for name, each in list(said.resources.items())[:1]}
        self.talk.hear(Heard(kind=said.kind, nonce=said.nonce, error="no"))

    def _take(self, said: Said) -> None:
        self.has[said.kind] |= {name: each.version for name, each in said.resources.items()}
        for name in said.removed:
            self.has[said.kind].pop(name, None)

    def _follow_scopes(self) -> None:
        wanted = set(self.has[SCOPES])
        if wanted != self.asked:
            new, old = wanted - self.asked, self.asked - wanted
            for name in old:
                self.has[ROUTES].pop(name, None)
            self.talk.hear(Heard(kind=ROUTES, subscribe=tuple(sorted(new)), unsubscribe=tuple(sorted(old))))
            self.asked = wanted

    def ask_again(self, name: str) -> None:
        if name in self.asked:
            self.talk.hear(Heard(kind=ROUTES, subscribe=(name,)))

    def is_safe(self) -> bool:
        """Tell whether every route that is followed leads to a cluster that is there."""
        return all(version in self.has[CLUSTERS] for version in self.has[ROUTES].values())


def settle(envoy: Envoy, goal: Goal) -> None:
    for _ in range(50):
        envoy.listen(goal)
        if not envoy.inbox:
            return
        while envoy.inbox:
            envoy.confirm()
            assert envoy.is_safe()
    pytest.fail("it never comes to an end")


contents = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3))
steps = st.one_of(
    st.tuples(st.just("goal"), contents),
    st.tuples(st.sampled_from(["listen", "confirm", "refuse", "connect"]), st.none()),
    st.tuples(st.just("ask_again"), st.sampled_from(NAMES)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=30), contents)
def test_any_order_ends_in_the_goal_and_never_leads_to_a_missing_cluster(
    walk: list[tuple[str, object]], last: dict[str, int]
) -> None:
    envoy, number = Envoy(), 1
    goal = goal_of(number, {"a": 1})
    for what, value in walk:
        if what == "goal":
            number += 1
            goal = goal_of(number, value)  # type: ignore[arg-type]
        elif what == "ask_again":
            envoy.ask_again(str(value))
        elif what == "listen":
            envoy.listen(goal)
        elif what == "connect":
            envoy.connect()
        elif envoy.inbox:
            getattr(envoy, what)()
        assert envoy.is_safe()
    final = goal_of(number + 1, last)
    while envoy.inbox:
        envoy.confirm()
    settle(envoy, final)
    assert envoy.talk.is_settled(final)
    for kind in KINDS:
        wished = {name: each.version for name, each in final.resources[kind].items()}
        assert envoy.has[kind] == wished


def test_what_an_envoy_has_is_not_sent_again() -> None:
    envoy = Envoy()
    settle(envoy, goal_of(1, {"a": 1, "b": 1}))
    envoy.connect()
    goal, said = goal_of(1, {"a": 1, "b": 2}), []
    envoy.listen(goal)
    while envoy.inbox:
        said.append((envoy.inbox[0].kind, [*envoy.inbox[0].resources], envoy.inbox[0].removed))
        envoy.confirm()
        envoy.listen(goal)
    assert said == [
        (CLUSTERS, ["b/2"], ()),
        (SCOPES, [], ()),
        (ROUTES, ["b"], ()),
        (CLUSTERS, [], ("b/1",)),
    ]


def test_goal_that_was_refused_is_not_said_again() -> None:
    envoy = Envoy()
    bad = goal_of(1, {"a": 1})
    envoy.listen(bad)
    envoy.refuse()
    assert envoy.talk.say(bad) == []
    assert not envoy.talk.is_settled(bad)


def test_routes_wait_until_their_clusters_are_warm() -> None:
    envoy = Envoy()
    settle(envoy, goal_of(1, {"a": 1}))
    goal = goal_of(2, {"a": 2})
    envoy.listen(goal)
    said = envoy.inbox.pop(0)
    envoy.talk.hear(Heard(kind=CLUSTERS, nonce=said.nonce))
    assert envoy.talk.warming == {"a/2"}
    assert envoy.talk.say(goal) == []
    envoy.talk.warming.clear()
    assert [each.kind for each in envoy.talk.say(goal)] == [ROUTES]


def test_goal_that_removes_nothing_leaves_what_is_there() -> None:
    envoy = Envoy()
    settle(envoy, goal_of(1, {"a": 1}))
    envoy.connect()
    settle(envoy, goal_of(1, {}, removes=False))
    assert envoy.has[CLUSTERS] == {"a/1": "a/1"}
    assert envoy.has[SCOPES] == {"a": "a"}
