"""The command lines and environments of what a trial runs: MLflow, the controller, Envoy and Airflow.

Pure: reads neither the environment nor the disk, and starts nothing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taxiway.trial.layout import Layout
from taxiway.trial.supervisor import Service

HANDLE = "visual_recognition"
DAG_ID = "taxiway_visual_recognition"

# A caller's own Airflow, MLflow or Git must not reach into the trial; without bytecode, imports cost 3-4 times as much.
_DROPPED = (
    "AIRFLOW",
    "BENTOML",
    "DVC_",
    "GIT_",
    "MLFLOW",
    "OPTUNA",
    "TAXIWAY_",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
)
_QUIET = {
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "SCARF_ANALYTICS": "false",
}
_LOOPBACK = "127.0.0.1,localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the services of one trial answer."""

    ports: Mapping[str, int]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def endpoint(self) -> str:
        """The address of the handle, which never changes."""
        return f"{self.url('gateway')}/{HANDLE}"


class Services:
    """What a trial runs.

    Args:
        layout: Where it keeps its files.
        addresses: Where it listens.
        token: The controller's token, which Airflow's connection carries.
        environment: Variables that the trial was started with.
    """

    def __init__(
        self, layout: Layout, addresses: Addresses, token: str, environment: Mapping[str, str]
    ) -> None:
        self._layout, self._addresses, self._token = layout, addresses, token
        self._base = _clean(environment) | _QUIET

    def mlflow(self) -> Service:
        home, port = self._layout.mlflow, self._addresses.ports["mlflow"]
        options = {
            "--host": "127.0.0.1",
            "--port": str(port),
            "--workers": "1",
            "--backend-store-uri": f"sqlite:///{home / 'mlflow.db'}",
            "--artifacts-destination": str(home / "artifacts"),
        }
        command = (
            sys.executable,
            "-m",
            "mlflow",
            "server",
            *(part for pair in options.items() for part in pair),
        )
        return Service(
            name="mlflow",
            command=command,
            environment=self._base | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=home,
            health_url=f"{self._addresses.url('mlflow')}/health",
            stop_rank=2,
        )

    def controller(self) -> Service:
        return Service(
            name="controller",
            command=(sys.executable, "-m", "taxiway_serving.controller.main"),
            environment=self._base | self._taxiway(),
            cwd=self._layout.home,
            health_url=f"{self._addresses.url('controller')}/healthz",
            stop_rank=1,
        )

    def envoy(self) -> Service:
        return Service(
            name="envoy",
            command=(sys.executable, "-m", "taxiway_serving.routing.bootstrap"),
            environment=self._base | self._taxiway(),
            cwd=self._layout.home,
            health_url=f"{self._addresses.url('gateway_admin')}/ready",
            stop_rank=1,
        )

    def airflow_migrate(self) -> Service:
        return self._airflow("airflow-migrate", "db", "migrate")

    def airflow_api(self) -> Service:
        port = self._addresses.ports["airflow"]
        health_url = f"{self._addresses.url('airflow')}/api/v2/version"
        return self._airflow("airflow-api", "api-server", "--port", str(port), health_url=health_url)

    def airflow_scheduler(self) -> Service:
        # --skip-serve-logs: the log server would listen on every interface, and the API server reads the files itself.
        return self._airflow("airflow-scheduler", "scheduler", "--skip-serve-logs")

    def airflow_dag_processor(self) -> Service:
        return self._airflow("airflow-dag-processor", "dag-processor")

    def _airflow(self, name: str, *arguments: str, health_url: str | None = None) -> Service:
        return Service(
            name=name,
            command=(sys.executable, "-m", "airflow", *arguments),
            environment=self._base | self._taxiway() | self._airflow_settings() | self._connection(),
            cwd=self._layout.airflow,
            health_url=health_url,
        )

    def _taxiway(self) -> dict[str, str]:
        layout, ports = self._layout, self._addresses.ports
        return {
            "MLFLOW_TRACKING_URI": self._addresses.url("mlflow"),
            "TAXIWAY_CONSTRAINTS": str(layout.checkout / "constraints.txt"),
            "TAXIWAY_CONTROLLER_HOST": "127.0.0.1",
            "TAXIWAY_CONTROLLER_PORT": str(ports["controller"]),
            "TAXIWAY_CONTROLLER_URL": self._addresses.url("controller"),
            "TAXIWAY_DATA_REPOSITORY": str(layout.taxiway / "datasets"),
            "TAXIWAY_ENVOY_ADMIN_PORT": str(ports["gateway_admin"]),
            "TAXIWAY_GATEWAY_PORT": str(ports["gateway"]),
            "TAXIWAY_GATEWAY_URL": self._addresses.url("gateway"),
            "TAXIWAY_HOME": str(layout.taxiway),
            "TAXIWAY_TOKEN_FILE": str(layout.token_file),
        }

    def _connection(self) -> dict[str, str]:
        connection = {
            "conn_type": "taxiway",
            "host": "127.0.0.1",
            "port": self._addresses.ports["controller"],
            "password": self._token,
        }
        return {"AIRFLOW_CONN_TAXIWAY_DEFAULT": json.dumps(connection)}

    def _airflow_settings(self) -> dict[str, str]:
        """Airflow as lean as it goes: three processes, one parser, three workers, and short waits."""
        url, ports = self._addresses.url("airflow"), self._addresses.ports
        settings = {
            "API__BASE_URL": url,
            "API__HOST": "127.0.0.1",
            "API__PORT": ports["airflow"],
            "API__WORKERS": 1,
            "CORE__DAGS_FOLDER": self._layout.bundle / "dags",
            "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__LOAD_EXAMPLES": False,
            "CORE__PARALLELISM": 3,
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
            # The trial changes no DAG file; reading them all again and again would keep a core busy.
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 60,
            "DAG_PROCESSOR__PARSING_PROCESSES": 1,
            "DAG_PROCESSOR__REFRESH_INTERVAL": 5,
            "LOGGING__TRIGGER_LOG_SERVER_PORT": ports["airflow_trigger_log"],
            "LOGGING__WORKER_LOG_SERVER_PORT": ports["airflow_worker_log"],
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 2,
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.3,
            # The story alone says when the DAG runs.
            "SCHEDULER__USE_JOB_SCHEDULE": False,
        }
        named = {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
        return named | {"AIRFLOW_HOME": str(self._layout.airflow)}


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environment.items() if not name.startswith(_DROPPED)}
    programs = str(Path(sys.executable).parent)
    no_proxy = ",".join(filter(None, (kept.get("NO_PROXY") or kept.get("no_proxy"), _LOOPBACK)))
    kept["PATH"] = os.pathsep.join((programs, kept.get("PATH", os.defpath)))
    return kept | {"NO_PROXY": no_proxy, "no_proxy": no_proxy}
