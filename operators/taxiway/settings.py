"""Where the library finds its services and keeps its files: the only module of the library that reads the environment.

No path is created here and no service is called; a component's own variables are made in `component.py`.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

DEFAULT_TRACKING_URI = "http://127.0.0.1:5000"
DEFAULT_CONTROLLER_URL = "http://127.0.0.1:8570"
DEFAULT_GATEWAY_URL = "http://127.0.0.1:8580"
DEFAULT_DOCKER_URL = "unix:///var/run/docker.sock"
DEFAULT_BASE_IMAGE = "python:{python}-slim"

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
_REMOTE_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_", "OSS_", "SSH_AUTH_SOCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """How components run where they run in containers.

    Attributes:
        url: Address of the Docker engine.
        certificates: Folder with `ca.pem`, `cert.pem` and `key.pem` for an engine behind TLS, or None.
        base_image: Image that every generated one begins with; `{python}` stands for a version such as `3.12`.
        registry: Where images are pushed to, such as `registry.example:5000/team`, or None.
        network: Network of the engine that components are in; `none` is no network at all.
        tracking_uri: Address of the MLflow server as a container reaches it; None is the same as everywhere.
        inputs: How inputs come in: `mount` reads the folders of this host, `copy` sends them to the engine, `auto`
            mounts where the engine sees the same folders, and copies elsewhere.
        constraints: Which nodes of a Swarm may run a job, in its own words, such as `node.labels.disk==fast`.
    """

    url: str = DEFAULT_DOCKER_URL
    certificates: Path | None = None
    base_image: str = DEFAULT_BASE_IMAGE
    registry: str | None = None
    network: str = "none"
    tracking_uri: str | None = None
    inputs: str = "auto"
    constraints: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Containers":
        """Read Docker's own variables and ours."""
        default, certificates = cls(), None
        if environment.get("DOCKER_TLS_VERIFY"):
            certificates = _path(environment.get("DOCKER_CERT_PATH")) or Path.home() / ".docker"
        return cls(
            url=environment.get("DOCKER_HOST") or default.url,
            certificates=certificates,
            base_image=environment.get("TAXIWAY_BASE_IMAGE") or default.base_image,
            registry=environment.get("TAXIWAY_IMAGE_REGISTRY") or None,
            network=environment.get("TAXIWAY_CONTAINER_NETWORK") or default.network,
            tracking_uri=environment.get("TAXIWAY_CONTAINER_TRACKING_URI") or None,
            inputs=environment.get("TAXIWAY_CONTAINER_INPUTS") or default.inputs,
            constraints=_listed(environment.get("TAXIWAY_SWARM_CONSTRAINTS")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Addresses and folders of one Taxiway installation.

    Attributes:
        home: Folder of checkouts, environments, packages, runs and caches, which may be deleted while nothing runs. Not
            so what has its default below it: the data repository and its remote, studies, the token, the controller's
            database.
        tracking_uri: Address of the MLflow server; never a database address.
        tracking_needs_client: Whether MLflow is reached with more than its address: credentials, certificates.
        data_repository: Git repository that DVC versions data in.
        data_remote: DVC remote that bytes are pushed to (folder or URL); None pushes nothing.
        controller_url: Address of the serving plane's controller.
        controller_token: Its bearer token; kept out of `repr`.
        gateway_url: Address of Envoy, as a client sees it.
        constraints: Constraints file that every lock honours, or None.
        secrets_dir: Folder whose files are a component's secrets, or None.
        runner: Where components run: `process`, `docker` or `swarm`.
        containers: How they do in containers.
        study_storage: Where studies of parameters are kept: a folder, or the address of a PostgreSQL; None is `home`.
        allow_untraceable: Whether a model whose lineage has a missing edge is registered, marked, never to be promoted.
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
    study_storage: str | None = field(default=None, repr=False)
    runner: str = "process"
    containers: Containers = field(default_factory=Containers)
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
            study_storage=env.get("TAXIWAY_STUDY_STORAGE") or None,
            runner=env.get("TAXIWAY_RUNNER") or "process",
            containers=Containers.from_environment(env),
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


def remote_environment() -> dict[str, str]:
    """Return what DVC alone inherits beside the tools' part: the credentials of the remote that it pushes to."""
    return {name: value for name, value in os.environ.items() if name.startswith(_REMOTE_PREFIXES)}


def tracking_authorization(uri: str) -> str:
    """Return what MLflow is told in the header of that name, as its own client does; "" for nothing.

    Args:
        uri: Address of the server, which may carry a user and a password.
    """
    token, parts = os.environ.get("MLFLOW_TRACKING_TOKEN"), urlsplit(uri)
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or unquote(parts.username or "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or unquote(parts.password or "")
    if user and password:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return f"Bearer {token}" if token else ""


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().resolve() if text else None


def _token(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        # The controller of this host, which writes it, has not begun yet, or is on another host.
        return None
