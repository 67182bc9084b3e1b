"""Which version is live: MLflow's aliases, made to say what the controller's ledger says.

The controller is the truth; the aliases are what is read where it is away. Nothing is moved here.
"""

from collections.abc import Callable

from taxiway.errors import AuthenticationError, ModelNotFoundError, NotFoundError, TransportError
from taxiway.registry import models
from taxiway.registry.models import ModelVersion
from taxiway.settings import Settings
from taxiway_serving.client import Controller

TIMEOUT_S = 5.0


def project_aliases(handle: str, settings: Settings) -> None:
    """Make the aliases `champion` and `previous` in MLflow say what the controller's ledger says is live."""
    controller = Controller(
        settings.controller_url, settings.controller_token or "", timeout_s=TIMEOUT_S, actor="airflow"
    )
    endpoint = controller.endpoint(handle)
    for alias, key in ((models.CHAMPION, "stable"), (models.PREVIOUS, "previous")):
        if endpoint[key] is not None:
            models.set_alias(handle, alias, endpoint[key], settings)


def find(handle: str, settings: Settings, log: Callable[[str], None]) -> ModelVersion | None:
    """Return the live version of a handle, or None where there is none.

    A controller that does not answer, or knows neither us nor the handle, fails nothing: the alias is taken as it is.

    Args:
        handle: The handle.
        settings: Which controller and which MLflow.
        log: Called with a line where the alias was taken as it is.
    """
    try:
        project_aliases(handle, settings)
    except (TransportError, AuthenticationError, NotFoundError) as exc:
        log(f"the alias {models.CHAMPION} of {handle} is taken as it is: {exc}")
    try:
        return models.get(handle, models.CHAMPION, settings)
    except ModelNotFoundError:
        return None
