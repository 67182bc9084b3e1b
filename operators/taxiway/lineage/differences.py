"""The difference between a commit and the dirty tree that a model's code was packaged from, as its package keeps it."""

import tempfile
from pathlib import Path

from taxiway.errors import InvalidSpecError, NotFoundError
from taxiway.packaging.package import DIFF, FILES
from taxiway.registry import tracking
from taxiway.settings import Settings


def differences(handle: str, version: int | str, settings: Settings) -> dict[str, str]:
    """Return the kept differences of a model version's code, by `training` and `inference`; empty for a clean tree.

    Args:
        handle: The handle.
        version: A number or an alias.
        settings: Which MLflow.

    Raises:
        InvalidSpecError: If no version is given.
        NotFoundError: If there is no such version, or its difference is no longer there.
        TransportError: If MLflow does not answer.
    """
    if not str(version):
        raise InvalidSpecError((f"a difference is of one version, such as {handle}/7; got none",), handle)
    found = tracking.version(handle, int(version) if str(version).isdigit() else version, settings)
    if found is None:
        raise NotFoundError("model version", f"{handle}/{version}", "train the handle first")
    places = {kind: found.tags.get(f"taxiway.{kind}.diff") for kind in ("training", "inference")}
    return {kind: _text(place, settings) for kind, place in places.items() if place}


def _text(place: str, settings: Settings) -> str:
    run_id = place.removeprefix("runs:/").partition("/")[0]
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = tracking.download(run_id, f"{FILES}/{DIFF}", Path(folder), settings)
        except OSError as error:
            raise NotFoundError("difference", place, "restore the package's artifacts in MLflow") from error
        return path.read_text(encoding="utf-8", errors="surrogateescape")
