"""The Airflow connection of type `taxiway`: where the controller, MLflow and the data repository are.

It only turns a connection into the library's settings. What a connection leaves out comes from the environment.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from taxiway.settings import Containers, Settings


class TaxiwayHook(BaseHook):
    """Read a `taxiway` connection.

    Host, port and schema are the controller's, the password is its token; extra takes `tracking_uri`,
    `data_repository`, `data_remote`, `gateway_url` and `home`.
    """

    conn_name_attr = "taxiway_conn_id"
    default_conn_name = "taxiway_default"
    conn_type = "taxiway"
    hook_name = "Taxiway"

    def __init__(self, taxiway_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.taxiway_conn_id = taxiway_conn_id

    def settings(self) -> "Settings":
        """Return the environment's settings with what the connection says laid over them.

        Raises:
            AirflowNotFoundException: If a connection was named that does not exist; only the default may be missing.
        """
        from taxiway.settings import Settings

        settings = Settings.from_environment()
        try:
            connection = self.get_connection(self.taxiway_conn_id)
        except AirflowNotFoundException:
            if self.taxiway_conn_id != self.default_conn_name:
                raise
            return settings
        return overlay(settings, connection)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the controller for its endpoints, with the connection's token."""
        from taxiway_serving.client import Controller
        from taxiway_serving.errors import TaxiwayError

        settings = self.settings()
        try:
            endpoints = Controller(settings.controller_url, settings.controller_token or "").endpoints()
        except TaxiwayError as error:
            return False, str(error)
        return True, f"The controller at {settings.controller_url} serves {len(endpoints)} endpoint(s)"


def docker_client(containers: "Containers", docker_conn_id: str | None) -> Any:
    """Return a client of the Docker engine, logged in to the registry of a connection if one is named.

    Args:
        containers: Where the engine is.
        docker_conn_id: Connection of type `docker`, or None.

    Raises:
        TransportError: If the engine does not answer.
    """
    from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException
    from airflow.providers.docker.hooks.docker import DockerHook

    from taxiway.errors import TransportError

    folder = containers.certificates
    files = {name: str(folder / f"{name}.pem") if folder else None for name in ("ca", "cert", "key")}
    tls = DockerHook.construct_tls_config(
        ca_cert=files["ca"], client_cert=files["cert"], client_key=files["key"]
    )
    try:
        return DockerHook(docker_conn_id=docker_conn_id, base_url=containers.url, tls=tls).get_conn()
    except AirflowNotFoundException:
        raise
    except AirflowException as error:
        raise TransportError(f"the Docker engine at {containers.url}", str(error)) from error


def overlay(settings: "Settings", connection: "Connection") -> "Settings":
    """Return the settings with every value that the connection carries in place of theirs."""
    extra = connection.extra_dejson
    said: dict[str, Any] = {name: extra.get(name) for name in ("tracking_uri", "data_remote", "gateway_url")}
    said |= {name: Path(extra[name]) for name in ("home", "data_repository") if extra.get(name)}
    said |= {"controller_token": connection.password, "controller_url": _controller_url(connection)}
    return replace(settings, **{name: value for name, value in said.items() if value})


def _controller_url(connection: "Connection") -> str | None:
    if not connection.host:
        return None
    port = f":{connection.port}" if connection.port else ""
    return f"{connection.schema or 'http'}://{connection.host}{port}"
