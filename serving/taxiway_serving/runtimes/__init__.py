"""Where variants run. `chosen` gives the runtime of a controller's settings; each is a file of its own."""

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.runtimes.docker import DockerRuntime
from taxiway_serving.runtimes.joined import JoinedRuntime
from taxiway_serving.runtimes.process import ProcessRuntime
from taxiway_serving.runtimes.remote import RemoteRuntime
from taxiway_serving.runtimes.runtime import Runtime
from taxiway_serving.runtimes.swarm import SwarmRuntime
from taxiway_serving.settings import ServingSettings


def chosen(settings: ServingSettings) -> Runtime:
    """Return the runtime that the settings name; what has a `url` is looked at beside it.

    Raises:
        InvalidSpecError: If there is none of that name.
    """
    return JoinedRuntime(_own(settings), RemoteRuntime(settings.home))


def _own(settings: ServingSettings) -> Runtime:
    if settings.runtime == "process":
        return ProcessRuntime(settings.home)
    if settings.runtime == "docker":
        return DockerRuntime.from_settings(settings)
    if settings.runtime == "swarm":
        return SwarmRuntime.from_settings(settings)
    raise InvalidSpecError((f"no runtime is named {settings.runtime!r}",), "settings")
