"""Which version is live: MLflow's aliases, made to say what the controller's ledger says.

The controller is the truth; the aliases are what is read where it is away. Nothing is moved here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from taxiway.errors import ModelNotFoundError, NotFoundError, TransportError
from taxiway.registry import models, tracking
from taxiway.registry.models import ModelVersion
from taxiway.settings import Settings
from taxiway_serving.client import Controller

TIMEOUT_S = 5.0


def project_aliases(handle: str, settings: Settings) -> int | None:
    """Make the aliases `champion` and `previous` in MLflow say what the controller's ledger says is live.

    Returns:
        The live version, or None where the controller has none.
    """
    controller = Controller(
        settings.controller_url, settings.controller_token or "", timeout_s=TIMEOUT_S, actor="airflow"
    )
    endpoint = controller.endpoint(handle)
    for alias, key in ((models.CHAMPION, "stable"), (models.PREVIOUS, "previous")):
        # One that was deleted in MLflow can have no alias; who asks for it is told.
        if endpoint[key] is not None and tracking.version(handle, endpoint[key], settings):
            models.set_alias(handle, alias, endpoint[key], settings)
    stable: int | None = endpoint["stable"]
    return stable


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """What is known of a handle's live version.

    Attributes:
        version: The live version, or None where none is.
        doubt: Why that is not sure, as a sentence; "" where the controller said so.
    """

    version: ModelVersion | None
    doubt: str = ""


def look(handle: str, settings: Settings) -> Champion:
    """Return the live version of a handle, as the controller says; where it does not answer, as the alias says.

    Raises:
        AuthenticationError: If the controller refuses the token: it answers, and is not heard.
        ModelNotFoundError: If the controller serves a version that MLflow does not have.
    """
    try:
        stable = project_aliases(handle, settings)
    except NotFoundError:
        # The controller knows no such endpoint; an alias may have been set by hand.
        stable = None
    except TransportError:
        found = _by_alias(handle, settings)
        said = f"{handle}/{found.version}, as the alias {models.CHAMPION} says" if found else "none"
        doubt = f"the controller did not answer, so the champion may be another than {said}"
        return Champion(version=found, doubt=doubt)
    return Champion(
        version=_by_alias(handle, settings) if stable is None else models.get(handle, stable, settings)
    )


def unknown(found: Champion, handle: str, settings: Settings, *, beside: int | None = None) -> str:
    """Return why nobody can tell whether a version is live, or "" where one is known, or none can be.

    Args:
        found: What `look` returned.
        handle: The handle.
        settings: Which MLflow.
        beside: Version that is no champion of itself: where it is the first and only one, there is none.
    """
    if found.version is not None or not found.doubt:
        return ""
    others = {each.number for each in tracking.find_versions(handle, {}, settings)} - {beside}
    # Versions before it may have been deleted in MLflow, and be served all the same.
    return found.doubt if others or (beside or 1) > 1 else ""


def find(handle: str, settings: Settings, log: Callable[[str], None]) -> ModelVersion | None:
    """Return the live version of a handle, or None where there is none; what is not sure of it is logged."""
    found = look(handle, settings)
    if found.doubt:
        log(f"note: {found.doubt}")
    return found.version


def _by_alias(handle: str, settings: Settings) -> ModelVersion | None:
    try:
        return models.get(handle, models.CHAMPION, settings)
    except ModelNotFoundError:
        return None
