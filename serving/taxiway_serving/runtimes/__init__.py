"""Where variants run. `chosen` gives the runtime of a controller's settings; each is a file of its own."""

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.runtimes.process import ProcessRuntime
from taxiway_serving.runtimes.runtime import Runtime
from taxiway_serving.settings import ServingSettings


def chosen(settings: ServingSettings) -> Runtime:
    """Return the runtime that the settings name.

    Raises:
        InvalidSpecError: If there is none of that name.
    """
    if settings.runtime == "process":
        return ProcessRuntime(settings.home)
    raise InvalidSpecError((f"no runtime is named {settings.runtime!r}",), "settings")
