"""How traffic is moved. `chosen` gives the router of a controller's settings; each is a file of its own."""

from collections.abc import Callable
from importlib.util import find_spec

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.routing.ads import AdsRouter
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.router import always_may
from taxiway_serving.settings import ServingSettings


def chosen(settings: ServingSettings, *, may_act: Callable[[], None] = always_may) -> EnvoyRouter | AdsRouter:
    """Return the router that the settings name.

    Args:
        settings: Of the controller.
        may_act: Called before a gateway is told anything; raises if another controller leads.

    Raises:
        InvalidSpecError: If there is none of that name, or what it needs is not installed.
    """
    if settings.router == "files":
        return EnvoyRouter(settings, may_act=may_act)
    if settings.router == "ads":
        missing = [name for name in ("envoy_data_plane", "grpc") if find_spec(name) is None]
        if missing:
            fault = f"a fleet needs {', '.join(missing)}: pip install 'taxiway-serving[ads]'"
            raise InvalidSpecError((fault,), "settings")
        return AdsRouter(settings, may_act=may_act)
    raise InvalidSpecError((f"no router is named {settings.router!r}",), "settings")
