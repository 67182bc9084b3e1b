"""A real Envoy under several candidates at once: who moves when weights change, and each one's shield."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from taxiway_serving.contracts import Until
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.layout import layout
from taxiway_serving.split import Split
from tests.serving.conftest import Gateway, Toy
from tests.serving.traffic import attempts, predict, put, table, versions_of

pytestmark = pytest.mark.slow

MakeToy = Callable[..., Toy]


def test_raising_two_candidates_in_any_order_moves_no_user_back_to_stable(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    """R64, with the users' shares within four standard errors of the weights."""
    toys, users = (toy(1), toy(2), toy(3)), range(2000)
    weights, raised = {2: 5, 3: 5}, [3, 2, 2, 3]
    before: dict[int, str] = {}
    with gateway.client() as client, ThreadPoolExecutor(4) as pool:
        for candidate in (None, *raised):
            if candidate is not None:
                weights[candidate] += 20
            put(router, table(Split.of(1, weights), *toys), until)
            seen: dict[int, str] = {}
            for found in pool.map(lambda some: versions_of(client, some), (users[i::4] for i in range(4))):
                seen |= found
            left = {user: seen[user] for user, version in before.items() if version != seen[user]}
            assert set(left.values()) <= {str(candidate)}
            assert all(before[user] == "1" for user in left)
            for version, weight_pct in weights.items():
                share = weight_pct / 100
                got = Counter(seen.values())[str(version)] / len(users)
                assert abs(got - share) < 4 * (share * (1 - share) / len(users)) ** 0.5
            before = seen


def test_each_candidate_has_its_own_shield(
    gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until
) -> None:
    toys = toy(1), toy(2, fail_every=1), toy(3, fail_every=1)
    split = Split.of(1, {2: 30, 3: 40})
    assert [run.version for run in layout(split)] != [2, 3, 1]
    put(router, table(split, *toys), until)
    assert router.observed("digits") == split
    with gateway.client() as client:
        answers = [predict(client, user) for user in range(200)]
    assert {(answer.status_code, answer.headers["x-taxiway-version"]) for answer in answers} == {(200, "1")}
    assigned = Counter(a.assigned for a in attempts(gateway.settings, 200, until) if a.number == 1)
    assert set(assigned) == {1, 2, 3}
