"""What Airflow's provider manager is told about Taxiway: names only, so that listing providers imports nothing else.

The hook lives in `taxiway.operators.hooks`. No work belongs here.
"""

from importlib.metadata import version
from typing import Any

OPERATORS = (
    *("append", "close_study", "dataset", "deploy", "evaluate", "group", "open_study", "package", "register"),
    *("snapshot", "traffic", "train", "transform", "tune", "tune_worker", "undo", "verb", "verify"),
)
DISTRIBUTION = "airflow-provider-taxiway"
CONNECTION_TYPE = "taxiway"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, as Airflow's `provider_info` schema has it."""
    return {
        "package-name": DISTRIBUTION,
        "name": "Taxiway",
        "description": "Take deep-learning models down the path to production inside Airflow.",
        "versions": [version(DISTRIBUTION)],
        "connection-types": [_connection_type()],
        "integrations": [{"integration-name": "Taxiway", "tags": ["service"]}],
        "operators": [_modules(*OPERATORS)],
        "sensors": [_modules("sensor")],
        "hooks": [_modules("hooks")],
        "notifications": ["taxiway.operators.notifier.TaxiwayNotifier"],
    }


def _modules(*names: str) -> dict[str, Any]:
    return {
        "integration-name": "Taxiway",
        "python-modules": [f"taxiway.operators.{name}" for name in names],
    }


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": CONNECTION_TYPE,
        "hook-name": "Taxiway",
        "hook-class-name": "taxiway.operators.hooks.TaxiwayHook",
        "ui-field-behaviour": {
            "hidden-fields": ["login"],
            "relabeling": {
                "host": "Controller host",
                "port": "Controller port",
                "password": "Controller token",
            },
            "placeholders": {"schema": "http or https", "host": "127.0.0.1", "port": "8570"},
        },
        "conn-fields": {
            "tracking_uri": _text_field("MLflow tracking URI", "Where MLflow's server answers"),
            "data_repository": _text_field(
                "Data repository", "The Git repository that DVC tracks: a folder on every worker"
            ),
            "data_remote": _text_field("Data remote", "The DVC remote that snapshots are pushed to"),
            "gateway_url": _text_field("Gateway URL", "Where clients reach Envoy"),
            "home": _text_field("Home", "Folder for environments, packages and caches on the worker"),
        },
    }


def _text_field(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}
