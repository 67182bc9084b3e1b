"""One controller of several leads; the others stand by. What leading means is the caller's: it is begun anew each time.

A term is led in a thread of its own, so that the port answers all the while. What the leader had in memory goes with
its term: the next one, of this process too, begins from the store, exactly as after a restart.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Final, Self

from starlette.types import ASGIApp, Receive, Scope, Send

from taxiway_serving.controller.alongside import alongside
from taxiway_serving.errors import TransportError
from taxiway_serving.ledger.lease import Lease
from taxiway_serving.ledger.term import Term

log = logging.getLogger(__name__)

MOST_POLL_S: Final = 0.5
_LOOK_S: Final = 0.1
_RENEWALS: Final = 3
"""So many times a lease is renewed in its length: two may fail."""


def _nothing() -> None:
    """Do nothing."""


class Candidacy:
    """Leads whenever it is this controller's turn; an ASGI application that is the leader's or the standby's.

    As a context manager it stands for the lead; when it is entered, it leads or knows that another does.
    """

    def __init__(
        self,
        lease: Lease,
        reign: Callable[[Term], AbstractContextManager[ASGIApp]],
        standby: ASGIApp,
        *,
        lease_s: float,
        on_fault: Callable[[], None] = _nothing,
    ) -> None:
        """Wire the parts; nothing is asked for yet.

        Args:
            lease: Who leads.
            reign: What leading is: an application that answers while the context lasts.
            standby: What answers otherwise.
            lease_s: Length of the lease in seconds.
            on_fault: Called when leading failed for good: what was raised is in `fault`.
        """
        self.fault: Exception | None = None
        self.on_fault = on_fault
        self._lease, self._reign, self._standby, self._lease_s = lease, reign, standby, lease_s
        self._app = standby
        self._settled, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._stand, name="lead", daemon=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def __enter__(self) -> Self:
        self._thread.start()
        self._settled.wait()
        if self.fault is not None:
            raise self.fault
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(timeout=60)

    def _stand(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self._take()
                except TransportError as error:
                    log.warning("this controller does not lead: %s", error)
                self._settled.set()
                self._stopped.wait(min(MOST_POLL_S, self._lease_s / 4))
        except Exception as error:  # noqa: BLE001  # it is raised again, where it ends the process
            # A fault of the settings, of the tables, of a part that cannot be wired: no later term would be another.
            self.fault = error
            if self._settled.is_set():
                self.on_fault()
        finally:
            self._settled.set()

    def _take(self) -> None:
        """Lead until the term ends, if nobody else does."""
        term = self._lease.take()
        if term is None:
            return
        log.info("term %d: this controller leads", term.fence)
        try:
            with renewing(self._lease, term):
                self._lead(term)
        finally:
            term.end("this controller stops")
            log.info("term %d: this controller leads no more: %s", term.fence, term.reason)
            self._lease.release(term)

    def _lead(self, term: Term) -> None:
        with self._reign(term) as app:
            self._app = app
            self._settled.set()
            try:
                # It is looked at here too: the renewal itself may hang.
                while not (term.is_over or self._stopped.wait(_LOOK_S)):
                    pass
            finally:
                self._app = self._standby


def renewing(lease: Lease, term: Term) -> AbstractContextManager[None]:
    """Renew a lease in a thread of its own while the context lasts."""
    return alongside("lease", partial(_renew_until, lease, term), patience_s=term.lease_s)


def _renew_until(lease: Lease, term: Term, stopped: threading.Event) -> None:
    while not stopped.wait(term.lease_s / _RENEWALS) and not term.is_over:
        try:
            lease.renew(term)
        except TransportError as error:
            log.warning("the lease is not renewed: %s", error)
