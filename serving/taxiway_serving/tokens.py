"""Tokens in files that only their owner can read: made where there is none, and never an empty one.

Whose token it is, and what it allows, is known where it is asked for.
"""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from taxiway_serving.errors import InvalidSpecError

TOKEN_LENGTH: Final = 32


def ensure_token(path: Path) -> str:
    """Return the token that callers must show; make one, readable by its owner alone, where there is none.

    Raises:
        InvalidSpecError: If the file holds no token: with an empty one, everybody would be let in.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_token(path)
    token = path.read_text().strip()
    if len(token) < TOKEN_LENGTH:
        fault = f"{path} holds {len(token)} characters, {TOKEN_LENGTH} are needed; remove it, and a new one is made"
        raise InvalidSpecError((fault,), "token")
    return token


def _write_token(path: Path) -> None:
    """Write a token beside its place, and link it there: whoever is first wins, and nobody sees half of it."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(TOKEN_LENGTH))
            file.flush()
            os.fsync(file.fileno())
        # Another process was first: its token holds, and is read by both.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
