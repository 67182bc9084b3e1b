"""The worker that empties the outbox into a webhook. What is told is decided in `events.py`."""

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from taxiway_serving.controller.alongside import alongside
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.outbox import Delivery, Due, Outbox
from taxiway_serving.ledger.outbox_sql import SqlOutbox
from taxiway_serving.ledger.term import Term
from taxiway_serving.settings import ServingSettings

MOST_TRIES: Final = 15
LONGEST_WAIT_S: Final = 3600.0
"""With doubling waits from one second on, a webhook may be away for some four hours before anything is given up."""
TIMEOUT_S: Final = 5.0
BATCH: Final = 100
HEADER_DELIVERY: Final = "x-taxiway-delivery"
HEADER_EVENT: Final = "x-taxiway-event"
HEADER_SIGNATURE: Final = "x-taxiway-signature"

log = logging.getLogger(__name__)


class Postman:
    """Posts what is due as JSON, each at least once. One thread calls it.

    The address of a webhook is a secret as often as not: logs name its host alone.
    """

    def __init__(
        self, *, outbox: Outbox, url: str, clock: Callable[[], float], secret: bytes | None = None
    ) -> None:
        """Remember where to post; nothing is sent yet.

        Args:
            outbox: What waits.
            url: Where it goes.
            clock: Seconds since the epoch.
            secret: Key of the signature in `x-taxiway-signature`; None signs nothing.
        """
        self._outbox, self._url, self._clock, self._secret = outbox, url, clock, secret
        self._host = httpx.URL(url).host

    def deliver(self) -> None:
        """Try what is due, oldest first, until something fails: a webhook that is down is not called in bursts."""
        with httpx.Client(timeout=TIMEOUT_S) as client:
            for due in self._outbox.due(self._clock(), limit=BATCH):
                trouble = self._trouble(client, due.delivery)
                if trouble:
                    self._failed(due, trouble)
                    return
                self._outbox.delivered([due.delivery.id])

    def _trouble(self, client: httpx.Client, delivery: Delivery) -> str:
        """Post one delivery and return what was wrong; "" if it was accepted."""
        content = json.dumps({"id": delivery.id, **delivery.body}).encode()
        headers = {
            "content-type": "application/json",
            HEADER_DELIVERY: delivery.id,
            HEADER_EVENT: delivery.event,
        }
        if self._secret is not None:
            headers[HEADER_SIGNATURE] = signature(self._secret, content)
        try:
            answer = client.post(self._url, content=content, headers=headers)
        except httpx.HTTPError as error:
            return type(error).__name__
        return "" if answer.is_success else f"HTTP {answer.status_code}"

    def _failed(self, due: Due, trouble: str) -> None:
        name, tries = f"{due.delivery.event} {due.delivery.id}", due.tries + 1
        if tries >= MOST_TRIES:
            self._outbox.given_up(due.delivery.id)
            log.error("webhook at %s: %s: %s, given up after %d tries", self._host, name, trouble, tries)
            return
        wait_s = min(LONGEST_WAIT_S, 2.0**due.tries)
        self._outbox.postponed(due.delivery.id, until_s=self._clock() + wait_s)
        log.warning("webhook at %s: %s: %s, tried again in %g s", self._host, name, trouble, wait_s)


def signature(secret: bytes, content: bytes) -> str:
    """Return the signature of a posted body, such as `sha256=5d41…`: HMAC-SHA256 in hexadecimal digits."""
    return f"sha256={hmac.new(secret, content, hashlib.sha256).hexdigest()}"


@contextmanager
def telling(settings: ServingSettings, term: Term | None = None) -> Iterator[None]:
    """Deliver to the webhook of the settings while the context lasts; nothing where there is none.

    Args:
        settings: Where the webhook and the database are.
        term: In which one delivers; None is the only controller.

    Raises:
        InvalidSpecError: If the secret's file holds none.
    """
    if not settings.webhook_url:
        yield
        return
    secret = read_secret(settings.webhook_secret_file) if settings.webhook_secret_file else None
    with closing(SqlOutbox(settings.database_url, term=term)) as outbox:
        postman = Postman(outbox=outbox, url=settings.webhook_url, clock=time.time, secret=secret)
        with delivering(postman):
            yield


def read_secret(path: Path) -> bytes:
    """Return the key that posts are signed with.

    Raises:
        InvalidSpecError: If there is no such file, or nothing in it: an empty key signs nothing.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise InvalidSpecError((f"{path} cannot be read: {error.strerror}",), "webhook secret") from error
    if not secret:
        raise InvalidSpecError((f"{path} is empty; write the webhook's secret into it",), "webhook secret")
    return secret


def delivering(postman: Postman, every_s: float = 1.0) -> AbstractContextManager[None]:
    """Deliver in a thread of its own while the context lasts."""
    return alongside("outbox", partial(_deliver_until, postman, every_s), patience_s=2 * TIMEOUT_S)


def _deliver_until(postman: Postman, every_s: float, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            postman.deliver()
        except Exception:
            # Whoever waits for a message of a rollback must get it, whatever went wrong with this pass.
            log.exception("the outbox could not be emptied; it is tried again")
        stopped.wait(every_s)
