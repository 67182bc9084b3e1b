"""What tests of a real Envoy share: tables of toys, requests of users, and what the attempt log tells of them."""

from collections.abc import Iterable
from typing import Any

import httpx

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import Until
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.names import VariantId
from taxiway_serving.routing.router import Route, Router, Table
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split
from tests.serving.conftest import Toy


def table(split: Split | None, *toys: Toy, **changes: Any) -> Table:
    backends = tuple(toy.backend for toy in toys)
    return Table(routes=(Route(**{"handle": "digits", "split": split, "backends": backends, **changes}),))


def put(router: Router, wished: Table, until: Until) -> None:
    """Publish a table and wait until it runs and all of it is warm."""
    revision = router.publish(wished)
    until(lambda: router.applied(revision) is Answer.YES)
    for route in wished.routes:
        for backend in route.backends:
            variant = VariantId(handle=route.handle, version=backend.version)
            until(lambda variant=variant: router.warm(variant) is Answer.YES)  # type: ignore[misc]


def predict(client: httpx.Client, user: int | str, **headers: str) -> httpx.Response:
    return client.post("/digits/predict", content=b"{}", headers={"x-user-id": str(user), **headers})


def versions_of(client: httpx.Client, users: Iterable[int]) -> dict[int, str]:
    return {user: predict(client, user).headers["x-taxiway-version"] for user in users}


def attempts(settings: ServingSettings, count: int, until: Until) -> tuple[Attempt, ...]:
    log = AttemptLog(settings.attempt_log)
    until(lambda: len(log.read("").attempts) >= count)
    batch = log.read("")
    assert batch.is_complete
    return batch.attempts
