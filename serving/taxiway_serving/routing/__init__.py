"""How traffic is moved. `chosen` gives the router of a controller's settings; each is a file of its own."""

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.router import Router
from taxiway_serving.settings import ServingSettings


def chosen(settings: ServingSettings) -> Router:
    """Return the router that the settings name.

    Raises:
        InvalidSpecError: If there is none of that name.
    """
    if settings.router == "files":
        return EnvoyRouter(settings)
    raise InvalidSpecError((f"no router is named {settings.router!r}",), "settings")
