"""The names that every part agrees on: validated ids, HTTP headers and TAXIWAY_* variables.

Only constants and checks live here. Reading the environment belongs to `settings.py`.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from taxiway_serving.errors import InvalidNameError

HANDLE_PATTERN: Final = r"^[a-z][a-z0-9_]{0,62}$"
_HANDLE: Final = re.compile(HANDLE_PATTERN)
_CLUSTER: Final = re.compile(r"^[a-z][a-z0-9_]*/([1-9][0-9]*)(?:~[1-9][0-9]*)?$")

HEADER_HANDLE: Final = "x-taxiway-handle"
HEADER_VERSION: Final = "x-taxiway-version"
HEADER_MODEL: Final = "x-taxiway-model"
HEADER_REQUEST_ID: Final = "x-request-id"
HEADER_USER_ID: Final = "x-user-id"
HEADER_UNIT: Final = "x-taxiway-unit"
HEADER_REASON: Final = "x-taxiway-reason"
HEADER_CONTRACT: Final = "x-taxiway-contract"
CONTRACT_KEPT: Final = "kept"
CONTRACT_BROKEN: Final = "broken"
USER_COOKIE: Final = "taxiway_uid"

# A traced request may change a nibble of its id after this many characters; what must stay stable reads only these.
UNIT_ID_LENGTH: Final = 13

READY_PATH: Final = "/readyz"

Via = Literal["split", "header", "member", "pin"]
"""Who chose a request's version: chance, a routed header or cookie, the list of exposed users, or a tester."""

ENV_HOME: Final = "TAXIWAY_HOME"
ENV_RUNTIME: Final = "TAXIWAY_RUNTIME"
ENV_DOCKER_HOST: Final = "DOCKER_HOST"
ENV_DOCKER_TLS_VERIFY: Final = "DOCKER_TLS_VERIFY"
ENV_DOCKER_CERT_PATH: Final = "DOCKER_CERT_PATH"
ENV_IN_FLIGHT_PER_REPLICA: Final = "TAXIWAY_IN_FLIGHT_PER_REPLICA"
ENV_IMAGE_REGISTRY: Final = "TAXIWAY_IMAGE_REGISTRY"
ENV_VARIANT_NETWORK: Final = "TAXIWAY_VARIANT_NETWORK"
ENV_ROUTER: Final = "TAXIWAY_ROUTER"
ENV_DATABASE_URL: Final = "TAXIWAY_DATABASE_URL"
ENV_DATABASE_PASSWORD_FILE: Final = "TAXIWAY_DATABASE_PASSWORD_FILE"
ENV_LEASE_S: Final = "TAXIWAY_LEASE_S"
ENV_TOKEN_FILE: Final = "TAXIWAY_TOKEN_FILE"
ENV_CONTROLLER_HOST: Final = "TAXIWAY_CONTROLLER_HOST"
ENV_CONTROLLER_PORT: Final = "TAXIWAY_CONTROLLER_PORT"
ENV_CONTROLLER_URL: Final = "TAXIWAY_CONTROLLER_URL"
ENV_ENVOY_DIR: Final = "TAXIWAY_ENVOY_DIR"
ENV_ENVOY_ADMIN_PORT: Final = "TAXIWAY_ENVOY_ADMIN_PORT"
ENV_ENVOY_SPARE_ADMIN_PORT: Final = "TAXIWAY_ENVOY_SPARE_ADMIN_PORT"
ENV_ENVOY_ADMIN_URLS: Final = "TAXIWAY_ENVOY_ADMIN_URLS"
ENV_ENVOY_READ_PORT: Final = "TAXIWAY_ENVOY_READ_PORT"
ENV_ADS_HOST: Final = "TAXIWAY_ADS_HOST"
ENV_ADS_PORT: Final = "TAXIWAY_ADS_PORT"
ENV_ADS_ADDRESSES: Final = "TAXIWAY_ADS_ADDRESSES"
ENV_GATEWAY_TOKEN_FILE: Final = "TAXIWAY_GATEWAY_TOKEN_FILE"
ENV_GATEWAY_HOST: Final = "TAXIWAY_GATEWAY_HOST"
ENV_GATEWAY_PORT: Final = "TAXIWAY_GATEWAY_PORT"
ENV_GATEWAY_URL: Final = "TAXIWAY_GATEWAY_URL"
ENV_SHADOW_HOST: Final = "TAXIWAY_SHADOW_HOST"
ENV_TICK_S: Final = "TAXIWAY_TICK_S"
ENV_FEEDBACK_RETENTION_S: Final = "TAXIWAY_FEEDBACK_RETENTION_S"
ENV_MOST_ROLLOUTS: Final = "TAXIWAY_MOST_ROLLOUTS"
ENV_ROLLBACK_WINDOW: Final = "TAXIWAY_ROLLBACK_WINDOW"
ENV_METRIC_SOURCES_FILE: Final = "TAXIWAY_METRIC_SOURCES_FILE"
ENV_WEBHOOK_URL: Final = "TAXIWAY_WEBHOOK_URL"
ENV_WEBHOOK_SECRET_FILE: Final = "TAXIWAY_WEBHOOK_SECRET_FILE"

ENV_HANDLE: Final = "TAXIWAY_HANDLE"
ENV_MODEL_DIR: Final = "TAXIWAY_MODEL_DIR"
ENV_MODEL_VERSION: Final = "TAXIWAY_MODEL_VERSION"
ENV_VARIANT: Final = "TAXIWAY_VARIANT"


def is_version(value: object) -> bool:
    """Tell whether a value is a model version: a whole number from 1, and not True."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_handle(text: str) -> str:
    """Return the handle unchanged if it is one.

    Args:
        text: What should be a handle: a lower-case letter, then up to 62 letters, digits or underscores.
            It is a path segment, a registered model's name and a folder's name at once.

    Raises:
        InvalidNameError: If it is anything else.
    """
    if not _is_handle(text):
        raise InvalidNameError("handle", text, f"must match {HANDLE_PATTERN}, such as visual_recognition")
    return text


def check_version(number: int) -> int:
    """Return the model version unchanged if it is one.

    Args:
        number: An MLflow model version, a whole number from 1.

    Raises:
        InvalidNameError: If it is not an integer, or below 1.
    """
    if not is_version(number):
        raise InvalidNameError("version", number, "must be a whole number from 1, as MLflow counts them")
    return number


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class VariantId:
    """Which variant: a model version of a handle. Written `visual_recognition/7`.

    Attributes:
        handle: The handle.
        version: The model version.
        copy: 0 for the variant that has live traffic; from 1 for a further copy of it, written
            `visual_recognition/7+1`, which runs beside it and is never routed to.
    """

    handle: str
    version: int
    copy: int = 0

    def __post_init__(self) -> None:
        check_handle(self.handle)
        check_version(self.version)
        if not _is_copy(self.copy):
            raise InvalidNameError("copy", self.copy, "must be a whole number from 0")

    def __str__(self) -> str:
        return f"{self.handle}/{self.version}" + (f"+{self.copy}" if self.copy else "")


def cluster_name(variant: VariantId, stable: int | None = None) -> str:
    """Return the gateway's name for where a request is sent.

    Args:
        variant: The version that a request is assigned to.
        stable: The version that answers when the assigned one fails; None if none does.

    Returns:
        `visual_recognition/7`, or `visual_recognition/8~7` for canary 8 that fails over to stable 7.

    Raises:
        InvalidNameError: If the variant is a further copy: no live request is ever sent to one.
    """
    if variant.copy:
        raise InvalidNameError("variant", str(variant), "is a copy, which has no live traffic")
    return str(variant) if stable is None else f"{variant}~{stable}"


def assigned_version(cluster: str) -> int | None:
    """Return the version that a gateway's cluster name assigns: 8 for `h/8` and `h/8~7`; None for any other name."""
    match = _CLUSTER.match(cluster)
    return int(match[1]) if match else None


def _is_copy(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_handle(value: object) -> bool:
    return isinstance(value, str) and _HANDLE.fullmatch(value) is not None
