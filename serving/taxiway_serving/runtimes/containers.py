"""Containers and images as an engine tells of them, as plain values. Pure; who asks an engine is `engine.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

_STAMP_LENGTH: Final = len("2026-05-01T12:00:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container, as it was when it was looked at.

    Attributes:
        id: The engine's id.
        name: Its name.
        status: `created`, `running`, `exited`, or another word of the engine.
        exit_code: How it ended; 0 while it runs.
        is_out_of_memory: Whether the kernel ended something in it for its memory.
        error: What the engine says about its end, such as a start that failed.
        labels: Its labels.
        ports: The host's port on which each of its TCP ports is published.
        addresses: Its address in each of its networks.
    """

    id: str
    name: str
    status: str
    exit_code: int = 0
    is_out_of_memory: bool = False
    error: str = ""
    labels: Mapping[str, str]
    ports: Mapping[int, int] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        """Whether it runs, paused or not."""
        return self.status in ("running", "paused", "restarting")

    @classmethod
    def inspected(cls, found: Mapping[str, Any]) -> "Container":
        """Return what the engine tells of one container."""
        state = found["State"]
        return cls(
            id=found["Id"],
            name=found["Name"].lstrip("/"),
            status=state["Status"],
            exit_code=state["ExitCode"],
            is_out_of_memory=state["OOMKilled"],
            error=state["Error"],
            labels=found["Config"]["Labels"] or {},
            ports=_published(found["NetworkSettings"]["Ports"] or {}),
            addresses=_addresses(found["NetworkSettings"]),
        )

    @classmethod
    def listed(cls, item: Mapping[str, Any]) -> "Container":
        """Return what the engine tells of one of many, which leaves out how it ended."""
        ports = item["Ports"] or ()
        return cls(
            id=item["Id"],
            name=item["Names"][0].lstrip("/"),
            status=item["State"],
            labels=item["Labels"] or {},
            ports={each["PrivatePort"]: each["PublicPort"] for each in ports if "PublicPort" in each},
            addresses=_addresses(item.get("NetworkSettings") or {}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An image that is on the engine.

    Attributes:
        id: The engine's id, which is made of its content.
        user: Who its processes run as, "" for root.
        labels: Its labels.
    """

    id: str
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def inspected(cls, found: Mapping[str, Any]) -> "Found":
        """Return what the engine tells of one image."""
        config = found["Config"] or {}
        return cls(id=found["Id"], user=config.get("User") or "", labels=config.get("Labels") or {})


def carrying(labels: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the engine's filter for what carries the labels."""
    return {"label": [f"{name}={value}" for name, value in labels.items()]}


def seconds(stamp: str) -> float:
    """Return a time stamp of the engine, which is in UTC, in whole seconds since the epoch; 0.0 for none."""
    return datetime.fromisoformat(f"{stamp[:_STAMP_LENGTH]}+00:00").timestamp() if stamp else 0.0


def _published(ports: Mapping[str, Any]) -> dict[int, int]:
    """Return published ports from the engine's `{"3000/tcp": [{"HostPort": "32768"}]}`."""
    return {
        int(name.partition("/")[0]): int(bound[0]["HostPort"])
        for name, bound in ports.items()
        if bound and name.endswith("/tcp")
    }


def _addresses(settings: Mapping[str, Any]) -> dict[str, str]:
    networks = settings.get("Networks") or {}
    return {name: each["IPAddress"] for name, each in networks.items() if each.get("IPAddress")}
