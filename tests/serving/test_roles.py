"""Tokens and what whoever shows one may do."""

from pathlib import Path

import pytest

from taxiway_serving.controller.roles import Right, Role, Tokens, ensure_tokens, token_file
from taxiway_serving.errors import AuthenticationError, InvalidSpecError, RoleError

TOKENS = Tokens(operator="o" * 32, viewer="v" * 32, reporter="r" * 32)


@pytest.mark.parametrize(
    ("token", "rights"),
    [
        (TOKENS.operator, {Right.ACT, Right.READ, Right.REPORT}),
        (TOKENS.viewer, {Right.READ}),
        (TOKENS.reporter, {Right.REPORT}),
    ],
    ids=["operator", "viewer", "reporter"],
)
def test_role_has_its_rights_and_no_others(token: str, rights: set[Right]) -> None:
    for right in Right:
        if right in rights:
            TOKENS.check(token, right, "url")
        else:
            with pytest.raises(RoleError):
                TOKENS.check(token, right, "url")


@pytest.mark.parametrize("right", Right)
def test_role_without_a_token_has_no_way_in(right: Right) -> None:
    with pytest.raises(AuthenticationError):
        Tokens(operator="o" * 32).check("", right, "url")


def test_tokens_stay_out_of_what_is_logged() -> None:
    assert "o" * 32 not in repr(TOKENS)


def test_tokens_are_made_once_each_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "token"
    tokens = ensure_tokens(path)
    assert tokens == ensure_tokens(path)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["token", "token.reporter", "token.viewer"]
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    assert token_file(path, Role.VIEWER).read_text() == tokens.viewer


def test_two_roles_with_one_token_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    ensure_tokens(path)
    token_file(path, Role.REPORTER).write_text(path.read_text())
    with pytest.raises(InvalidSpecError, match="the same token twice"):
        ensure_tokens(path)


def test_empty_token_file_of_a_role_lets_nobody_in(tmp_path: Path) -> None:
    token_file(tmp_path / "token", Role.REPORTER).touch()
    with pytest.raises(InvalidSpecError, match="remove it"):
        ensure_tokens(tmp_path / "token")
