"""Users who click: each sends a request, and for some answers the product reports a click."""

import itertools
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from taxiway.trial.samples import read_images
from taxiway_serving.names import HEADER_REQUEST_ID, HEADER_USER_ID, HEADER_VERSION
from tests.path.world import World

BATCH = 10
USERS = itertools.count()


@contextmanager
def rewarded(world: World, clicks: Mapping[int, float]) -> Iterator[None]:
    """Let users come while the context lasts, each once; a version's answers are clicked with its probability."""
    ended = threading.Event()
    threads = [threading.Thread(target=_come, args=(world, clicks, ended, seed)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _come(world: World, clicks: Mapping[int, float], ended: threading.Event, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - clicks, not secrets
    images = itertools.cycle(read_images(world.layout.samples))
    clicked: list[dict[str, Any]] = []
    with httpx.Client(base_url=world.addresses.endpoint, timeout=60, trust_env=False) as http:
        while not ended.wait(0.005):
            named = {"content-type": "image/png", HEADER_USER_ID: f"clicking-{next(USERS)}"}
            headers = http.post("/predict", content=next(images), headers=named).headers
            if dice.random() < clicks.get(int(headers.get(HEADER_VERSION, 0)), 0.0):
                clicked.append({"request_id": headers[HEADER_REQUEST_ID], "metric": "click", "value": 1})
            if len(clicked) >= BATCH:
                world.controller.feedback_batch(clicked)
                clicked.clear()
