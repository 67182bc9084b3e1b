"""What of a handle's traffic does not go by its split: named headers and cookies, listed users, mirrored copies.

Pure values. How they reach Envoy is told in `routing/resources.py`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import USER_COOKIE, check_version

MAX_MEMBERS: Final = 1000
MAX_UNIT_LENGTH: Final = 200

_HEADER: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_COOKIE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HEADER_VALUE: Final = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")
_COOKIE_VALUE: Final = re.compile(r"[!#-+\--:<-\[\]-~]{1,200}")
_UNIT: Final = re.compile(rf"(user|cookie):[!-~]([ -~]{{0,{MAX_UNIT_LENGTH - 2}}}[!-~])?")
_RESERVED: Final = ("x-taxiway-", "x-envoy-", "x-forwarded-", "cookie", "host", "x-request-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRoute:
    """Requests that carry a header, or a cookie, of exactly this value go to a version of their own.

    A client chooses its headers, so such a request is not left to chance and is compared with nothing.

    Attributes:
        value: The exact value, up to 200 characters of printable ASCII.
        version: The version that answers.
        header: Name of the header, in any case and without underscores. Exactly one of `header` and `cookie` is given.
        cookie: Name of the cookie.
    """

    value: str
    version: int
    header: str = ""
    cookie: str = ""

    def __post_init__(self) -> None:
        check_version(self.version)
        object.__setattr__(self, "header", self.header.lower())
        faults = _header_faults(self)
        if faults:
            raise InvalidSpecError(faults, "header route")

    @property
    def key(self) -> tuple[str, str, str]:
        """What a request is recognised by: two routes of a handle never share it."""
        return self.header, self.cookie, self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A sample of the split's traffic is also sent elsewhere, and what comes back from there is thrown away.

    A copy has the path and body that a variant gets, the request's id and the handle in `x-taxiway-handle`; `-shadow`
    is added to its host. At most 64 are under way at once, and the rest is not sent: no client waits for any of them.

    Attributes:
        host: Address of who gets the copies.
        port: Its port, 1 to 65535.
        sample_pct: Share of the requests, above 0 and at most 100, in steps of 0.01.
    """

    host: str
    port: int
    sample_pct: float

    def __post_init__(self) -> None:
        faults = []
        if not self.host or not 1 <= self.port <= 65535:
            faults.append(f"needs an address, got {self.host!r}:{self.port!r}")
        if not 0.005 <= self.sample_pct <= 100:
            faults.append(f"sample_pct must be from 0.01 to 100, got {self.sample_pct!r}")
        if faults:
            raise InvalidSpecError(tuple(faults), "mirror")
        # What is read back is what was asked for, to the last digit.
        object.__setattr__(self, "sample_pct", round(self.sample_pct, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The units that keep a candidate when the cap on exposed users is reached. Everybody else goes by the split.

    Attributes:
        version: The candidate.
        units: `user:<x-user-id>` or `cookie:<taxiway_uid>`, at most 1,000, in any order. Units of single requests
            cannot be known again, so they cannot be members.
    """

    version: int
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        check_version(self.version)
        object.__setattr__(self, "units", tuple(sorted(set(self.units))))
        faults = [
            f"not a unit that can be known again: {unit!r}" for unit in self.units if not can_stay(unit)
        ]
        if len(self.units) > MAX_MEMBERS:
            faults.append(f"at most {MAX_MEMBERS} units, got {len(self.units)}")
        if faults:
            raise InvalidSpecError(tuple(faults), "members")

    @classmethod
    def of(cls, version: int, units: Iterable[str]) -> Self:
        """Return the members among the units that a candidate has had, leaving out who cannot be known again.

        Raises:
            InvalidSpecError: If there are more than 1,000.
        """
        return cls(version=version, units=tuple(unit for unit in units if can_stay(unit)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRoutes:
    """All that goes beside the split of one handle, as wished or as read back.

    Attributes:
        headers: First match wins.
        mirror: Who gets copies.
        members: Who keeps a candidate.
    """

    headers: tuple[HeaderRoute, ...] = ()
    mirror: Mirror | None = None
    members: Members | None = None


def can_stay(unit: str) -> bool:
    """Tell whether a unit can be listed as a member: a user or a cookie, of up to 200 printable characters."""
    return _UNIT.fullmatch(unit) is not None


def _header_faults(route: HeaderRoute) -> tuple[str, ...]:
    if bool(route.header) == bool(route.cookie):
        return (f"needs either a header or a cookie, got {route.header!r} and {route.cookie!r}",)
    faults = []
    if route.header and not _is_free_header(route.header):
        faults.append(
            f"header must be letters, digits and hyphens, and not Taxiway's own, got {route.header!r}"
        )
    if route.cookie and (not _COOKIE.fullmatch(route.cookie) or route.cookie == USER_COOKIE):
        faults.append(f"cookie must be a cookie's name other than {USER_COOKIE}, got {route.cookie!r}")
    if not (_HEADER_VALUE if route.header else _COOKIE_VALUE).fullmatch(route.value):
        faults.append(f"value must be 1 to 200 printable characters that it can hold, got {route.value!r}")
    return tuple(faults)


def _is_free_header(name: str) -> bool:
    return _HEADER.fullmatch(name) is not None and not name.startswith(_RESERVED)
