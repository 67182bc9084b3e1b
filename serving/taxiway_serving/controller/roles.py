"""Who may ask what of the controller: a token for each role, in a file of its own.

Where the tokens lie is a setting; which route asks for which right is said at the route.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from taxiway_serving.errors import AuthenticationError, InvalidSpecError, RoleError
from taxiway_serving.tokens import ensure_token


class Role(StrEnum):
    """Whom a token belongs to."""

    OPERATOR = "operator"
    VIEWER = "viewer"
    REPORTER = "reporter"


class Right(StrEnum):
    """What a route asks for."""

    ACT = "act"
    READ = "read"
    REPORT = "report"


RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    Role.OPERATOR: frozenset(Right),
    Role.VIEWER: frozenset({Right.READ}),
    Role.REPORTER: frozenset({Right.REPORT}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The token of each role; kept out of `repr`. A role without one has no way in.

    Attributes:
        operator: May do all.
        viewer: May read.
        reporter: May report feedback, and nothing else: what a product keeps in its pockets moves no traffic.
    """

    operator: str = field(repr=False)
    viewer: str = field(default="", repr=False)
    reporter: str = field(default="", repr=False)

    def role_of(self, token: str) -> Role | None:
        """Return whose token it is, in the same time whoever's it is; None if it is nobody's."""
        found = None
        for role in Role:
            own = getattr(self, role.value)
            is_same = secrets.compare_digest(token.encode(), own.encode())
            found = role if own and is_same else found
        return found

    def check(self, token: str, right: Right, url: str) -> Role:
        """Return the role of a token that has a right.

        Args:
            token: What the caller showed; "" for nothing.
            right: What the route asks for.
            url: What was asked for, for the refusal.

        Raises:
            AuthenticationError: If nobody has this token.
            RoleError: If its role has not that right.
        """
        role = self.role_of(token)
        if role is None:
            raise AuthenticationError(url)
        if right not in RIGHTS[role]:
            able = ", ".join(each.value for each in Role if right in RIGHTS[each])
            raise RoleError(url, role.value, right.value, able)
        return role


def allowed(tokens: Tokens, right: Right) -> Callable[..., str]:
    """Return what a route depends on: it lets in who has the right, and returns who that says to be."""
    bearer = HTTPBearer(auto_error=False)

    def actor(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> str:
        tokens.check(given.credentials if given else "", right, str(request.url))
        return request.headers.get("x-taxiway-actor", "api")[:250]

    return actor


def ensure_tokens(path: Path) -> Tokens:
    """Return the tokens of all roles; make those that are missing, each readable by its owner alone.

    Args:
        path: File of the operator's token. The others lie beside it, as `<name>.viewer` and `<name>.reporter`.

    Raises:
        InvalidSpecError: If a file holds no token, or two hold the same.
    """
    tokens = Tokens(
        operator=ensure_token(path),
        viewer=ensure_token(token_file(path, Role.VIEWER)),
        reporter=ensure_token(token_file(path, Role.REPORTER)),
    )
    if len({tokens.operator, tokens.viewer, tokens.reporter}) < len(Role):
        fault = (
            f"{path} and its neighbours hold the same token twice; remove one file, and a new token is made"
        )
        raise InvalidSpecError((fault,), "tokens")
    return tokens


def token_file(path: Path, role: Role) -> Path:
    """Return where the token of a role lies, beside the operator's."""
    return path if role is Role.OPERATOR else path.with_name(f"{path.name}.{role.value}")
