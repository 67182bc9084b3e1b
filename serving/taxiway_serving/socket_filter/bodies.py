"""What the body that creates a container may ask for. Values in, faults out; nothing is read or called.

A key that is not known here may only be left open: the engine takes keys in any case, and new ones with each version.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

LABEL_PREFIX: Final = "taxiway."
"""Every label of a container that is made through the filter begins so."""
MARKS: Final = frozenset({"taxiway.job", "taxiway.home"})
"""One of them is on each container of a component or a variant. No build may ask for one: containers inherit labels."""

MOST_BYTES: Final = 1 << 20
_MOUNT_KEYS: Final = frozenset({"Type", "Target", "Source", "ReadOnly", "VolumeOptions", "TmpfsOptions"})
_LOG_DRIVERS: Final = frozenset({"", "json-file", "local", "none"})
_FREE: Final = frozenset(
    {
        *("Image", "Entrypoint", "Cmd", "Env", "User", "WorkingDir", "StopSignal", "StopTimeout"),
        *("ExposedPorts", "Healthcheck", "Tty", "OpenStdin", "AttachStdin", "AttachStdout", "AttachStderr"),
    }
)
_FREE_HOST: Final = frozenset(
    {
        *("NanoCpus", "CpuShares", "CpuQuota", "CpuPeriod", "Memory", "MemorySwap", "MemoryReservation"),
        *(
            "PidsLimit",
            "ShmSize",
            "Init",
            "CapDrop",
            "ReadonlyRootfs",
            "RestartPolicy",
            "Tmpfs",
            "AutoRemove",
        ),
    }
)

Check = Callable[[Any], Iterable[str]]


def faults_of(body: bytes, networks: frozenset[str]) -> tuple[str, ...]:
    """Return everything that a body asks for and may not have; an empty tuple when the container may be created.

    Args:
        body: As it was sent.
        networks: Networks that a container may be in, beside none at all.
    """
    try:
        content = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return (f"the body is not JSON that this filter reads: {error}",)
    if not isinstance(content, dict):
        return ("the body is no JSON object",)
    checks: dict[str, Check] = {
        "Labels": _labels,
        "HostConfig": lambda host: _host(host, networks),
        "NetworkingConfig": lambda given: _networking(given, networks),
        "Volumes": _anonymous,
    }
    faults = [*_looked_over(content, _FREE, checks, "")]
    labels = content.get("Labels")
    if not isinstance(labels, dict) or not MARKS & set(labels):
        faults.append(f"Labels must hold one of {', '.join(sorted(MARKS))}")
    # Without one the engine takes its default network, which leads out of this machine.
    host = content.get("HostConfig")
    mode = host.get("NetworkMode") if isinstance(host, dict) else None
    return tuple(faults) if mode else (*faults, "HostConfig.NetworkMode must be named")


def _looked_over(
    given: Mapping[str, Any], free: frozenset[str], checks: Mapping[str, Check], where: str
) -> Iterable[str]:
    for key, value in given.items():
        if key in checks:
            yield from checks[key](value)
        # An empty list says something: without paths to keep read-only, root in a container sets the host's kernel.
        elif key not in free and value not in (None, "", 0, False):
            yield f"{where}{key} is not allowed"


def _host(host: Any, networks: frozenset[str]) -> Iterable[str]:
    if not isinstance(host, dict):
        return ("HostConfig must be an object",)
    checks: dict[str, Check] = {
        "NetworkMode": lambda mode: _network(mode, networks, "HostConfig.NetworkMode"),
        "Mounts": lambda mounts: (fault for mount in _list(mounts) for fault in _mount(mount)),
        "SecurityOpt": _security,
        "DeviceRequests": lambda asked: (fault for each in _list(asked) for fault in _device(each)),
        "LogConfig": _log,
    }
    return [*_looked_over(host, _FREE_HOST, checks, "HostConfig."), *_least(host)]


def _least(host: Mapping[str, Any]) -> Iterable[str]:
    if "ALL" not in _list(host.get("CapDrop")):
        yield "HostConfig.CapDrop must hold ALL"
    if not {"no-new-privileges", "no-new-privileges:true"} & {
        each for each in _list(host.get("SecurityOpt")) if isinstance(each, str)
    }:
        yield "HostConfig.SecurityOpt must hold no-new-privileges"


def _security(options: Any) -> Iterable[str]:
    for option in _list(options):
        if option not in ("no-new-privileges", "no-new-privileges:true"):
            yield f"HostConfig.SecurityOpt {option!r} is not allowed"


def _mount(mount: Any) -> Iterable[str]:
    if not isinstance(mount, dict):
        return ("a mount must be an object",)
    faults = [f"Mounts.{key} is not allowed" for key in mount if key not in _MOUNT_KEYS and mount[key]]
    if mount.get("Type") == "volume":
        if mount.get("Source"):
            faults.append(f"Mounts: the volume {mount['Source']!r} has a name, so it may be somebody else's")
        return faults + _volume_faults(mount.get("VolumeOptions"))
    if mount.get("Type") == "tmpfs":
        return faults
    return [*faults, f"Mounts: a mount of type {mount.get('Type')!r} is not allowed"]


def _volume_faults(options: Any) -> list[str]:
    """Refuse drivers, but for a volume of memory: the local driver can also bind a folder of the host."""
    if not options:
        return []
    driver = options.get("DriverConfig") if isinstance(options, dict) else None
    if not isinstance(options, dict) or any(options[key] for key in options if key != "DriverConfig"):
        return ["Mounts.VolumeOptions may hold DriverConfig only"]
    if not driver:
        return []
    is_known = (
        isinstance(driver, dict) and set(driver) <= {"Name", "Options"} and driver.get("Name") == "local"
    )
    given = driver.get("Options") if is_known else None
    if not isinstance(given, dict) or not {"type", "device"} <= set(given) <= {"type", "device", "o"}:
        return ["Mounts.VolumeOptions.DriverConfig is not allowed"]
    flags = str(given.get("o", "")).split(",")
    is_memory = given["type"] == given["device"] == "tmpfs"
    if not is_memory or any(
        flag.partition("=")[0] not in ("", "size", "mode", "uid", "gid") for flag in flags
    ):
        return ["Mounts.VolumeOptions.DriverConfig may only be of memory"]
    return []


def _device(asked: Any) -> Iterable[str]:
    if not isinstance(asked, dict):
        return ("a device request must be an object",)
    known = {"Driver", "Count", "DeviceIDs", "Capabilities"}
    faults = [f"DeviceRequests.{key} is not allowed" for key in asked if key not in known and asked[key]]
    if asked.get("Driver") not in (None, "", "nvidia"):
        faults.append(f"DeviceRequests.Driver {asked['Driver']!r} is not allowed")
    if any(group != ["gpu"] for group in _list(asked.get("Capabilities"))):
        faults.append("DeviceRequests.Capabilities may be gpu only")
    return faults


def _log(config: Any) -> Iterable[str]:
    if isinstance(config, dict) and config.get("Type", "") in _LOG_DRIVERS:
        return ()
    return ("HostConfig.LogConfig must keep the log on the engine: json-file, local or none",)


def _network(mode: Any, networks: frozenset[str], where: str) -> Iterable[str]:
    if mode == "none" or (isinstance(mode, str) and mode in networks):
        return ()
    return (f"{where} must be one of {', '.join(sorted(networks | {'none'}))}, got {mode!r}",)


def _networking(given: Any, networks: frozenset[str]) -> Iterable[str]:
    endpoints = given.get("EndpointsConfig") if isinstance(given, dict) else None
    if not given or (isinstance(given, dict) and set(given) == {"EndpointsConfig"} and not endpoints):
        return
    if not isinstance(endpoints, dict) or set(given) != {"EndpointsConfig"}:
        yield "NetworkingConfig may hold EndpointsConfig only"
        return
    for name, settings in endpoints.items():
        yield from _network(name, networks, "NetworkingConfig")
        # An alias is how another service of the network is found.
        if settings is not None and (not isinstance(settings, dict) or any(settings.values())):
            yield f"NetworkingConfig of {name} may hold nothing"


def _labels(labels: Any) -> Iterable[str]:
    names = list(labels) if isinstance(labels, dict) else []
    if labels and not names:
        yield "Labels must be an object"
    for name in names:
        if not name.startswith(LABEL_PREFIX):
            yield f"the label {name!r} must begin with {LABEL_PREFIX}"


def _anonymous(volumes: Any) -> Iterable[str]:
    if volumes and not (isinstance(volumes, dict) and not any(volumes.values())):
        yield "Volumes must name paths only"


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if not value else [value]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    # The engine takes the last of two, and `a` for `A`: what was looked at must be what it reads.
    if len({key.casefold() for key in found}) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
