"""Where the serving plane keeps its files and listens. The only module here that reads the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

from taxiway_serving import names
from taxiway_serving.errors import InvalidSpecError

_SYSTEM: Final = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
)
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_INHERITED: Final = frozenset((*_SYSTEM, *_CERTIFICATES))

RUNTIMES: Final = ("process", "docker", "swarm")
DOCKER_SOCKET: Final = "unix:///var/run/docker.sock"
ROUTERS: Final = ("files", "ads")
LOOPBACK: Final = "127.0.0.1"
LEASE_S: Final = 5.0
MOST_ROLLOUTS: Final = 1000
ROLLBACK_WINDOW: Final = 3
IN_FLIGHT_PER_REPLICA: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """Settings of the controller, the runtime and Envoy on one host.

    Attributes:
        home: Folder of everything that Taxiway keeps (TAXIWAY_HOME, default ~/.taxiway).
        runtime: Where variants run (TAXIWAY_RUNTIME, default process; or docker, swarm).
        engine_url: Address of the Docker engine that containers run on (DOCKER_HOST, default its own socket).
        engine_certificates: Folder with `ca.pem`, `cert.pem` and `key.pem` for an engine behind TLS (DOCKER_CERT_PATH
            where DOCKER_TLS_VERIFY is set), or None.
        image_registry: Where images of variants are pushed to and run from by digest (TAXIWAY_IMAGE_REGISTRY), or None.
        variant_network: Network of the engine in which containers are reached by their addresses
            (TAXIWAY_VARIANT_NETWORK); "" publishes each on a port of loopback.
        in_flight_per_replica: Requests in flight that one replica is meant to bear: what has room for more replicas
            gets them by it (TAXIWAY_IN_FLIGHT_PER_REPLICA, default 4, from 1).
        router: How Envoy is told its configuration (TAXIWAY_ROUTER): by files, for the Envoy of this host, which is the
            default, or by ads, which a fleet of them asks the controller for.
        database_url: SQLAlchemy address of the controller's store (TAXIWAY_DATABASE_URL, default SQLite in home); the
            password may lie in a file of its own (TAXIWAY_DATABASE_PASSWORD_FILE).
        lease_s: Seconds after which another controller leads, if the leader is silent (TAXIWAY_LEASE_S, default 5, from
            1). Controllers of a SQLite file have none: there is one.
        token_file: File, mode 0600, with the token that operators present (TAXIWAY_TOKEN_FILE, default home/token).
            Those of viewers and reporters lie beside it: `token.viewer`, `token.reporter`.
        host: Address that the controller listens on (TAXIWAY_CONTROLLER_HOST). Loopback unless one says otherwise.
        port: Port of the controller (TAXIWAY_CONTROLLER_PORT, default 8570).
        envoy_dir: Folder of Envoy's configuration and access logs (TAXIWAY_ENVOY_DIR, default home/envoy).
        envoy_host: Address that Envoy takes predictions on (TAXIWAY_GATEWAY_HOST). Loopback unless one says otherwise.
        envoy_port: Port that clients send predictions to (TAXIWAY_GATEWAY_PORT, default 8580).
        envoy_admin_port: Port of Envoy's admin interface, loopback only (TAXIWAY_ENVOY_ADMIN_PORT, default 8581).
        envoy_spare_admin_port: That of the Envoy that serves while this one is replaced
            (TAXIWAY_ENVOY_SPARE_ADMIN_PORT, default 8582). 0 is none: then this one cannot be replaced.
        envoy_read_port: Port, on the address of predictions, where a controller on another machine may read from the
            admin interface with the gateways' token (TAXIWAY_ENVOY_READ_PORT); 0 is none. The Envoy that serves while
            this one is replaced has the port behind it.
        envoy_admin_urls: Where the controller reads from each Envoy of a fleet: its admin interface, or such a port
            (TAXIWAY_ENVOY_ADMIN_URLS, separated by commas; default: the admin interfaces of this host).
        fleet_url: Where clients, and the controller's own proofs, reach the gateway (TAXIWAY_GATEWAY_URL); "" is the
            Envoy of this host.
        shadow_host: Address that mirrored requests are taken on, and that every Envoy sends them to
            (TAXIWAY_SHADOW_HOST). Loopback unless one says otherwise: then only an Envoy of this host can mirror.
        ads_host: Address that the leading controller listens on for Envoys (TAXIWAY_ADS_HOST). Loopback unless one
            says otherwise.
        ads_port: Its port (TAXIWAY_ADS_PORT, default 8571).
        ads_addresses: Host and port of every controller, as an Envoy reaches them (TAXIWAY_ADS_ADDRESSES, separated
            by commas; default: the one of this host).
        gateway_token_file: File, mode 0600, with the token that Envoys show the controller
            (TAXIWAY_GATEWAY_TOKEN_FILE, default: `token.gateway` beside the operator's).
        tick_s: Seconds between two looks of the controller at the world (TAXIWAY_TICK_S, default 0.5, above 0).
        feedback_retention_s: Seconds that a request is remembered after its feedback window, so that what comes then
            is known to be late (TAXIWAY_FEEDBACK_RETENTION_S, default 3600, above 0).
        most_rollouts: Rollouts that run at once, over all handles; more wait for their turn (TAXIWAY_MOST_ROLLOUTS,
            default 1000, from 1). The way back waits for no room.
        rollback_window: So many versions that were live before may be gone back to at once; an older one is a
            candidate like any other (TAXIWAY_ROLLBACK_WINDOW, default 3, from 1).
        metric_sources_file: JSON file with the addresses of Prometheus and SQL sources that rollouts may name
            (TAXIWAY_METRIC_SOURCES_FILE, default home/metric_sources.json, which need not exist).
        webhook_url: Where what happens to rollouts is posted (TAXIWAY_WEBHOOK_URL); "" tells nobody.
        webhook_secret_file: File with the key that posts are signed with (TAXIWAY_WEBHOOK_SECRET_FILE); None signs
            nothing.
    """

    home: Path
    runtime: str = "process"
    engine_url: str = DOCKER_SOCKET
    engine_certificates: Path | None = None
    image_registry: str | None = None
    variant_network: str = ""
    in_flight_per_replica: int = IN_FLIGHT_PER_REPLICA
    router: str = "files"
    database_url: str = field(repr=False)
    lease_s: float = LEASE_S
    token_file: Path
    host: str = "127.0.0.1"
    port: int = 8570
    envoy_dir: Path
    envoy_host: str = "127.0.0.1"
    envoy_port: int = 8580
    envoy_admin_port: int = 8581
    envoy_spare_admin_port: int = 0
    envoy_read_port: int = 0
    envoy_admin_urls: tuple[str, ...] = ()
    fleet_url: str = ""
    shadow_host: str = LOOPBACK
    ads_host: str = "127.0.0.1"
    ads_port: int = 8571
    ads_addresses: tuple[tuple[str, int], ...] = ()
    gateway_token_file: Path
    tick_s: float = 0.5
    feedback_retention_s: float = 3600.0
    most_rollouts: int = MOST_ROLLOUTS
    rollback_window: int = ROLLBACK_WINDOW
    metric_sources_file: Path | None = None
    webhook_url: str = field(default="", repr=False)
    webhook_secret_file: Path | None = None

    @classmethod
    def under(
        cls,
        home: Path,
        *,
        database_url: str | None = None,
        port: int = 8570,
        envoy_port: int = 8580,
        envoy_admin_port: int = 8581,
        envoy_spare_admin_port: int = 0,
        tick_s: float = 0.5,
    ) -> Self:
        """Return settings with every file under one folder: for tests and for programs that embed the controller."""
        return cls(
            home=home,
            database_url=database_url or _sqlite(home),
            token_file=home / "token",
            gateway_token_file=home / "token.gateway",
            port=port,
            envoy_dir=home / "envoy",
            envoy_port=envoy_port,
            envoy_admin_port=envoy_admin_port,
            envoy_spare_admin_port=envoy_spare_admin_port,
            tick_s=tick_s,
            metric_sources_file=home / "metric_sources.json",
        )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the TAXIWAY_* variables.

        Args:
            environ: The variables; None reads the process's own.

        Raises:
            InvalidSpecError: If a port, a limit or a time is not a number in its range; every fault is named.
        """
        env = os.environ if environ is None else environ
        faults: list[str] = []
        home = _path(env, names.ENV_HOME, Path.home() / ".taxiway")
        token_file = _path(env, names.ENV_TOKEN_FILE, home / "token")
        gateway_token = token_file.with_name(f"{token_file.name}.gateway")
        settings = cls(
            home=home,
            runtime=_choice(env, names.ENV_RUNTIME, RUNTIMES, faults),
            engine_url=env.get(names.ENV_DOCKER_HOST) or DOCKER_SOCKET,
            engine_certificates=_certificates(env),
            image_registry=env.get(names.ENV_IMAGE_REGISTRY) or None,
            variant_network=env.get(names.ENV_VARIANT_NETWORK) or "",
            router=_choice(env, names.ENV_ROUTER, ROUTERS, faults),
            database_url=_database(env, home, faults),
            lease_s=max(1.0, _seconds(env, names.ENV_LEASE_S, LEASE_S, faults)),
            token_file=token_file,
            host=env.get(names.ENV_CONTROLLER_HOST) or "127.0.0.1",
            port=_port(env, names.ENV_CONTROLLER_PORT, 8570, faults),
            **_of_gateways(env, home, faults),
            gateway_token_file=_path(env, names.ENV_GATEWAY_TOKEN_FILE, gateway_token),
            tick_s=_seconds(env, names.ENV_TICK_S, 0.5, faults),
            feedback_retention_s=_seconds(env, names.ENV_FEEDBACK_RETENTION_S, 3600.0, faults),
            in_flight_per_replica=_count(env, names.ENV_IN_FLIGHT_PER_REPLICA, IN_FLIGHT_PER_REPLICA, faults),
            most_rollouts=_count(env, names.ENV_MOST_ROLLOUTS, MOST_ROLLOUTS, faults),
            rollback_window=_count(env, names.ENV_ROLLBACK_WINDOW, ROLLBACK_WINDOW, faults),
            metric_sources_file=_path(env, names.ENV_METRIC_SOURCES_FILE, home / "metric_sources.json"),
            webhook_url=_address(env, names.ENV_WEBHOOK_URL, faults),
            webhook_secret_file=_file(env, names.ENV_WEBHOOK_SECRET_FILE),
        )
        if faults:
            raise InvalidSpecError(tuple(faults), "settings")
        return settings

    @property
    def controller_url(self) -> str:
        """Address of the controller's HTTP interface, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    @property
    def gateway_url(self) -> str:
        """Address that predictions are sent to, without a slash at its end."""
        return self.fleet_url or f"http://{LOOPBACK}:{self.envoy_port}"

    @property
    def envoy_admin_url(self) -> str:
        """Address of Envoy's admin interface, without a slash at its end."""
        return f"http://127.0.0.1:{self.envoy_admin_port}"

    @property
    def own_admin_urls(self) -> tuple[str, ...]:
        """Addresses of the admin interfaces of this host's Envoy, and of the one that serves while it is replaced."""
        spare = f"http://127.0.0.1:{self.envoy_spare_admin_port}"
        return (self.envoy_admin_url, spare) if self.envoy_spare_admin_port else (self.envoy_admin_url,)

    @property
    def fleet_admin_urls(self) -> tuple[str, ...]:
        """Addresses of the admin interfaces of all Envoys, without slashes at their ends."""
        return self.envoy_admin_urls or self.own_admin_urls

    @property
    def controller_ads_addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every controller, as an Envoy reaches them."""
        return self.ads_addresses or (("127.0.0.1", self.ads_port),)

    @property
    def attempt_log(self) -> Path:
        """File with one JSON line per attempt that Envoy made on a variant."""
        return self.envoy_dir / "attempts.jsonl"

    @property
    def request_log(self) -> Path:
        """File with one JSON line per request, with the status that its client saw."""
        return self.envoy_dir / "requests.jsonl"


def inherited_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that a program started by Taxiway needs from its parent, and no others.

    Tokens, passwords and database addresses of the parent are not among them: what is not listed does not travel.

    Args:
        environ: The parent's variables; None reads the process's own.
    """
    env = os.environ if environ is None else environ
    return {name: value for name, value in env.items() if name in _INHERITED or name.startswith("LC_")}


def _of_gateways(env: Mapping[str, str], home: Path, faults: list[str]) -> dict[str, Any]:
    """Return the settings of Envoy, on this host or in a fleet, and of the port that a fleet asks at."""
    return {
        "envoy_dir": _path(env, names.ENV_ENVOY_DIR, home / "envoy"),
        "envoy_host": env.get(names.ENV_GATEWAY_HOST) or "127.0.0.1",
        "envoy_port": _port(env, names.ENV_GATEWAY_PORT, 8580, faults),
        "envoy_admin_port": _port(env, names.ENV_ENVOY_ADMIN_PORT, 8581, faults),
        "envoy_spare_admin_port": _port(env, names.ENV_ENVOY_SPARE_ADMIN_PORT, 8582, faults),
        "envoy_read_port": _port(env, names.ENV_ENVOY_READ_PORT, 0, faults),
        "envoy_admin_urls": _urls(env, names.ENV_ENVOY_ADMIN_URLS, faults),
        "fleet_url": _shown(env, names.ENV_GATEWAY_URL, faults),
        "shadow_host": _reached(env, names.ENV_SHADOW_HOST, faults),
        "ads_host": env.get(names.ENV_ADS_HOST) or "127.0.0.1",
        "ads_port": _port(env, names.ENV_ADS_PORT, 8571, faults),
        "ads_addresses": _endpoints(env, names.ENV_ADS_ADDRESSES, faults),
    }


def _sqlite(home: Path) -> str:
    return f"sqlite:///{home / 'controller.db'}"


def _database(env: Mapping[str, str], home: Path, faults: list[str]) -> str:
    """Return the database's address, with the password from its file."""
    url, file = env.get(names.ENV_DATABASE_URL) or _sqlite(home), _file(env, names.ENV_DATABASE_PASSWORD_FILE)
    if file is None:
        return url
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if not at or not user or ":" in user:
        # The address is not shown: what stands in it may be a password.
        faults.append(
            f"{names.ENV_DATABASE_URL} must name a user and no password where the password has a file"
        )
        return url
    try:
        password = file.read_text().strip()
    except OSError as error:
        faults.append(f"{names.ENV_DATABASE_PASSWORD_FILE}: {file} cannot be read: {error.strerror}")
        return url
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"


def _choice(env: Mapping[str, str], name: str, choices: tuple[str, ...], faults: list[str]) -> str:
    text = env.get(name) or choices[0]
    if text not in choices:
        faults.append(f"{name} must be one of {', '.join(choices)}, got {text!r}")
        return choices[0]
    return text


def _port(env: Mapping[str, str], name: str, default: int, faults: list[str]) -> int:
    text = env.get(name)
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        faults.append(f"{name} must be a port from 1 to 65535, got {text!r}")
        return default
    return int(text)


def _count(env: Mapping[str, str], name: str, default: int, faults: list[str]) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        faults.append(f"{name} must be a whole number from 1, got {text!r}")
        return default
    return int(text)


def _address(env: Mapping[str, str], name: str, faults: list[str]) -> str:
    text = env.get(name) or ""
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        # The path of a webhook is a password as often as not.
        faults.append(f"{name} must be an address that begins with http:// or https://")
        return ""
    return text


def _shown(env: Mapping[str, str], name: str, faults: list[str]) -> str:
    text = _address(env, name, faults).rstrip("/")
    if "@" in text:
        faults.append(f"{name} must hold no password: it is shown to whoever may read")
    return text


def _reached(env: Mapping[str, str], name: str, faults: list[str]) -> str:
    text = env.get(name) or LOOPBACK
    if text in ("0.0.0.0", "::"):  # noqa: S104  # refused
        faults.append(f"{name} must be one address of this host, which every Envoy reaches; got {text!r}")
    return text


def _listed(env: Mapping[str, str], name: str) -> list[str]:
    return [text.strip() for text in (env.get(name) or "").split(",") if text.strip()]


def _urls(env: Mapping[str, str], name: str, faults: list[str]) -> tuple[str, ...]:
    found = []
    for text in _listed(env, name):
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            faults.append(f"{name} must be addresses that begin with http:// or https://, got {text!r}")
        found.append(text.rstrip("/"))
    return tuple(found)


def _endpoints(env: Mapping[str, str], name: str, faults: list[str]) -> tuple[tuple[str, int], ...]:
    found = []
    for text in _listed(env, name):
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
            faults.append(f"{name} must be pairs host:port, got {text!r}")
            continue
        found.append((host, int(port)))
    return tuple(found)


def _path(env: Mapping[str, str], name: str, default: Path) -> Path:
    return Path(env.get(name) or default).expanduser().absolute()


def _file(env: Mapping[str, str], name: str) -> Path | None:
    return Path(env[name]).expanduser().absolute() if env.get(name) else None


def _certificates(env: Mapping[str, str]) -> Path | None:
    if not env.get(names.ENV_DOCKER_TLS_VERIFY):
        return None
    return _file(env, names.ENV_DOCKER_CERT_PATH) or Path.home() / ".docker"


def _seconds(env: Mapping[str, str], name: str, default: float, faults: list[str]) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        faults.append(f"{name} must be a number of seconds above 0, got {text!r}")
        return default
    return value
