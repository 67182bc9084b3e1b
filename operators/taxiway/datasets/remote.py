"""Brings objects to and from the place that hosts share: a folder by copying, anything else by DVC.

DVC runs in a scratch repository of its own over the same cache, so that no person's working tree and no other run of it
is in the way. It is run as a command and never imported: it resolves targets against the working directory and prints.
"""

import json
from pathlib import Path

from taxiway.datasets import configuration
from taxiway.datasets.repository import Output
from taxiway.datasets.store import Listing, Store
from taxiway.settings import remote_environment
from taxiway.tools import program, run, scratch_folder

_QUIET = {"DVC_NO_ANALYTICS": "1", "DVC_STUDIO_OFFLINE": "true"}
_NAME = "data"


def cache(root: Path) -> Store:
    """Return the cache of a data repository."""
    return Store(root=configuration.cache_folder(root))


def push(root: Path, listing: Listing, data: Output) -> None:
    """Bring a dataset's bytes from the cache to the remote, if the repository names one.

    Raises:
        ToolFailedError: If dvc cannot; trying again is safe.
        DiskFullError: If a remote that is a folder has no room.
    """
    found = configuration.remote(root)
    if found is None:
        return
    if found.folder is None:
        _dvc(root, data, "push")
    elif found.folder != cache(root).root:
        shared = Store(root=found.folder)
        shared.take(listing, cache(root).sources(listing))


def pull(root: Path, data: Output) -> Listing | None:
    """Bring a dataset's bytes from the remote to the cache, and return its listing; None where they are nowhere.

    Raises:
        ToolFailedError: If dvc cannot; trying again is safe.
        DataChangedError: If a remote that is a folder holds other bytes than it says.
        DiskFullError: If there is no room.
    """
    found = configuration.remote(root)
    if found is None:
        return None
    if found.folder is None:
        _dvc(root, data, "fetch")
        return cache(root).listing(data.hash)
    listing = Store(root=found.folder).listing(data.hash)
    if listing is not None and not Store(root=found.folder).missing(listing):
        cache(root).take(listing, Store(root=found.folder).sources(listing))
        return listing
    return None


def listing(root: Path, name: str, commit: str, data: Output) -> Listing | None:
    """Return what a version holds without its bytes: from the cache, the remote's folder, or from DVC."""
    found = cache(root).listing(data.hash)
    place = configuration.remote(root)
    if found is not None or place is None:
        return found
    if place.folder is not None:
        return Store(root=place.folder).listing(data.hash)
    arguments = ("ls", "--recursive", "--show-hash", "--json", ".", name, "--rev", commit)
    shown = json.loads(run([program("dvc"), *arguments], cwd=root, environment=_environment()))
    read = Listing(files={entry["path"]: entry["md5"] for entry in shown if not entry["isdir"]})
    return read if read.hash == data.hash else None


def _dvc(root: Path, data: Output, verb: str) -> None:
    with scratch_folder(root / ".dvc" / "tmp") as scratch:
        _prepare(root, scratch, data)
        run([program("dvc"), verb, "--quiet", f"{_NAME}.dvc"], cwd=scratch, environment=_environment(scratch))


def _prepare(root: Path, scratch: Path, data: Output) -> None:
    """Make a repository of DVC's with one dataset in it, and the real one's cache, remote and secrets."""
    (scratch / ".dvc").mkdir()
    text = (root / configuration.CONFIG).read_text(encoding="utf-8")
    ours = {"core": {"no_scm": "true"}, "cache": {"dir": str(configuration.cache_folder(root))}}
    (scratch / configuration.CONFIG).write_text(configuration.with_values(text, ours), encoding="utf-8")
    if (root / configuration.SECRETS).exists():
        (scratch / configuration.SECRETS).symlink_to(root / configuration.SECRETS)
    (scratch / f"{_NAME}.dvc").write_text(data.text(_NAME), encoding="utf-8")


def _environment(scratch: Path | None = None) -> dict[str, str]:
    own = {"DVC_SITE_CACHE_DIR": str(scratch / "site")} if scratch else {}
    return _QUIET | own | remote_environment()
