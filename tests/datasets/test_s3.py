"""The same on an S3-compatible remote: a real server, DVC's own S3, credentials that stay where they are."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.datasets import append, bring, diff, remote, repository, snapshot
from taxiway.datasets.configuration import with_values
from taxiway.errors import ToolFailedError
from taxiway.settings import Settings
from taxiway.tools import remove
from tests.datasets.conftest import contents, settings_in, write
from tests.ports import free_port

pytest.importorskip("dvc_s3", reason="the extra `s3` is not installed")
pytest.importorskip("moto")

pytestmark = pytest.mark.slow

KEY, SECRET = "AKIATAXIWAY", "wJalrXUtnFEMIsecret"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Start an S3-compatible server with one bucket."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        sys.executable,
        "-c",
        "from moto.server import main; main()",
        "-H",
        "127.0.0.1",
        "-p",
        url.rpartition(":")[2],
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 240
        while not made_bucket(url):
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(60)


def made_bucket(url: str) -> bool:
    request = urllib.request.Request(f"{url}/data", method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def host(
    tmp_path: Path, endpoint: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Return a host whose remote is the bucket, with credentials in its environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return host_at(tmp_path / "home", endpoint, request.node.name)


def host_at(home: Path, endpoint: str, prefix: str) -> Settings:
    settings = replace(settings_in(home, home), data_remote=f"s3://data/{prefix}")
    root = repository.ensure(settings)
    config = root / ".dvc" / "config"
    config.write_text(with_values(config.read_text(), {"'remote \"store\"'": {"endpointurl": endpoint}}))
    repository.git(root, "add", ".dvc/config")
    repository.git(
        root, "-c", "user.name=T", "-c", "user.email=t@example.com", "commit", "-qm", "Our endpoint"
    )
    return settings


def test_versions_go_to_the_bucket_and_come_back(host: Settings, data: Path, tmp_path: Path) -> None:
    first = snapshot(data, "digits", host)
    remove(remote.cache(host.data_repository).root)
    second = append(write(tmp_path / "more", {"d.txt": "four"}), "digits", host)
    remove(remote.cache(host.data_repository).root)
    assert diff(first, second, host).added == ("d.txt",)
    assert not remote.cache(host.data_repository).root.exists()
    found = bring(second, host)
    assert (found.source, contents(found.path)) == ("remote", contents(data) | {"d.txt": b"four"})


def test_credentials_are_nowhere_on_disk(host: Settings, data: Path) -> None:
    told: list[str] = []
    snapshot(data, "digits", host, log=told.append)
    kept = (path for path in host.home.rglob("*") if path.is_file())
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert SECRET not in "".join(told)


def test_bucket_that_is_not_there_makes_no_version_and_tells_no_secret(host: Settings, data: Path) -> None:
    repository.git(host.data_repository, "config", "user.name", "T")
    config = host.data_repository / ".dvc" / "config"
    config.write_text(config.read_text().replace("s3://data", "s3://nowhere"))
    with pytest.raises(ToolFailedError) as caught:
        snapshot(data, "digits", replace(host, data_remote="s3://nowhere/x"))
    assert SECRET not in str(caught.value)
    assert repository.tagged(host.data_repository, "digits") == {}
