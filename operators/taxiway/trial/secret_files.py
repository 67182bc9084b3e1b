"""The secrets of the trial in containers: one file each, for their owner alone, made once. None is ever printed.

Containers see them as files as well. They run as the user that owns them, so that nobody else has to be let in.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from taxiway.tools import fresh_folder, write_atomically

USER_ID: Final = 10001
"""Whom containers run as where root starts them."""


def user_id() -> int:
    """Return whom containers run as: whoever starts them, but never root."""
    return os.getuid() or USER_ID


def make_secrets(folder: Path) -> None:
    """Make all secrets, in one step, unless they are there.

    Args:
        folder: Where they are; only its owner may look into it.
    """
    if folder.exists():
        return
    with fresh_folder(folder) as draft:
        draft.chmod(0o700)
        for name, text in _texts().items():
            # Programs read a file to its end: a line's end would be part of a password.
            write_atomically(draft / name, text, mode=0o600)
            if os.getuid() == 0:
                os.chown(draft / name, USER_ID, -1)


def _texts() -> Mapping[str, str]:
    key, password, broker = _word(), _word(), _word()
    store = {"accessKey": "taxiway", "secretKey": key}
    identity = {
        "name": "taxiway",
        "credentials": [store],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return {
        "airflow_database": f"postgresql+psycopg2://airflow:{password}@postgres:5432/airflow",
        "api_secret_key": _word(),
        "celery_broker": f"redis://:{broker}@redis:6379/0",
        "controller_database": f"postgresql+psycopg://controller:{_word()}@postgres:5432/controller",
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": _word(),
        "mlflow_database": f"postgresql+psycopg2://mlflow:{_word()}@postgres:5432/mlflow",
        "postgres_password": _word(),
        "redis_config": f"requirepass {broker}\nappendonly no\nsave ''\ndir /tmp",
        "s3_config": json.dumps({"identities": [identity]}),
        "s3_credentials": f"[default]\naws_access_key_id = taxiway\naws_secret_access_key = {key}",
        "token": _word(),
        "token.reporter": _word(),
        "token.viewer": _word(),
    }


def _word() -> str:
    return secrets.token_urlsafe(32)
