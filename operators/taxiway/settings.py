"""Where the library finds its services and keeps its files: the only module of the library that reads the environment.

No path is created here and no service is called; a component's own variables are made in `component.py`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_TRACKING_URI = "http://127.0.0.1:5000"
DEFAULT_CONTROLLER_URL = "http://127.0.0.1:8570"
DEFAULT_GATEWAY_URL = "http://127.0.0.1:8580"

_TRACKING, _TRACKING_URI = "MLFLOW_TRACKING_", "MLFLOW_TRACKING_URI"
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ")
_TOOL_PREFIXES = (
    "UV_",
    "PIP_",
    "SSL_",
    "XDG_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "NETRC",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Addresses and folders of one Taxiway installation.

    Attributes:
        home: Folder of checkouts, environments, packages, runs and caches. Owned by Taxiway, may be deleted.
        tracking_uri: Address of the MLflow server; never a database address.
        tracking_needs_client: Whether MLflow is reached with more than its address: credentials, certificates.
        data_repository: Git repository that DVC versions data in.
        data_remote: DVC remote that bytes are pushed to (folder or URL); None pushes nothing.
        controller_url: Address of the serving plane's controller.
        controller_token: Its bearer token; kept out of `repr`.
        gateway_url: Address of Envoy, as a client sees it.
        constraints: Constraints file that every lock honours, or None.
        secrets_dir: Folder whose files are a component's secrets, or None.
        allow_untraceable: Whether a model of code without a Git commit is registered, marked, never to be promoted.
    """

    home: Path
    tracking_uri: str = DEFAULT_TRACKING_URI
    tracking_needs_client: bool = False
    data_repository: Path
    data_remote: str | None = None
    controller_url: str = DEFAULT_CONTROLLER_URL
    controller_token: str | None = field(default=None, repr=False)
    gateway_url: str = DEFAULT_GATEWAY_URL
    constraints: Path | None = None
    secrets_dir: Path | None = None
    allow_untraceable: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the `TAXIWAY_*` variables and `MLFLOW_TRACKING_URI`; `docs/settings.md` lists them.

        Args:
            environment: Variables to read; None reads those of this process.
        """
        env = os.environ if environment is None else environment
        home = _path(env.get("TAXIWAY_HOME")) or Path.home() / ".taxiway"
        return cls(
            home=home,
            tracking_uri=env.get(_TRACKING_URI) or DEFAULT_TRACKING_URI,
            tracking_needs_client=any(name.startswith(_TRACKING) and name != _TRACKING_URI for name in env),
            data_repository=_path(env.get("TAXIWAY_DATA_REPOSITORY")) or home / "datasets",
            data_remote=env.get("TAXIWAY_DATA_REMOTE") or str(home / "dvc-remote"),
            controller_url=env.get("TAXIWAY_CONTROLLER_URL") or DEFAULT_CONTROLLER_URL,
            controller_token=_token(_path(env.get("TAXIWAY_TOKEN_FILE")) or home / "token"),
            gateway_url=env.get("TAXIWAY_GATEWAY_URL") or DEFAULT_GATEWAY_URL,
            constraints=_path(env.get("TAXIWAY_CONSTRAINTS")),
            secrets_dir=_path(env.get("TAXIWAY_SECRETS_DIR")),
            allow_untraceable=env.get("TAXIWAY_ALLOW_UNTRACEABLE", "").strip().lower()
            in ("1", "true", "yes"),
        )


def child_environment() -> dict[str, str]:
    """Return what a component's process inherits: where programs and certificates are, and no credentials."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def tool_environment() -> dict[str, str]:
    """Return what git, dvc and uv inherit: a component's part, proxies, and the credentials of their services."""
    ours = {name: value for name, value in os.environ.items() if name.upper().startswith(_TOOL_PREFIXES)}
    return child_environment() | ours


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().resolve() if text else None


def _token(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
