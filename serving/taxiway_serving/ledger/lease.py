"""The Protocol of what makes one controller of several the leader. No database is touched here."""

from typing import Protocol

from taxiway_serving.ledger.term import Term


class Lease(Protocol):
    """Gives the lead to one at a time.

    No clock of a controller's host is trusted: whether a lease is over, the database's clock says, or that nobody has
    renewed it while a standby watched for its whole length. One thread takes, one renews.
    """

    @property
    def leader(self) -> str:
        """Address of who led when that was seen last; "" for nobody."""
        ...

    def take(self) -> Term | None:
        """Begin a term if nobody leads, else return None.

        Raises:
            TransportError: If the database cannot be asked.
        """
        ...

    def renew(self, term: Term) -> None:
        """Let a term go on; one that another has followed is ended.

        Raises:
            TransportError: If the database cannot be asked.
        """
        ...

    def release(self, term: Term) -> None:
        """Give the lead back, so that nobody has to wait. A term that another has followed changes nothing.

        Raises:
            TransportError: If the database cannot be asked.
        """
        ...
