"""The real services of a trial, in a folder of their own on free ports of loopback, while a benchmark lasts."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taxiway.settings import Settings
from taxiway.trial.layout import Layout, choose_ports
from taxiway.trial.services import Addresses, Services
from taxiway.trial.supervisor import Supervisor
from taxiway_serving.tokens import ensure_token

START_S = 180.0
CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Services that run.

    Attributes:
        layout: Their folders.
        services: What they are started from.
        supervisor: What started them.
        environment: Variables under which the library finds them.
    """

    layout: Layout
    services: Services
    supervisor: Supervisor
    environment: Mapping[str, str]

    @property
    def settings(self) -> Settings:
        """What the library reads from the environment."""
        return Settings.from_environment(self.environment)


@contextmanager
def running(*names: str) -> Iterator[Running]:
    """Run services, of `mlflow`, `controller` and `envoy`, while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="taxiway-benchmark-") as folder:
        layout = Layout(checkout=CHECKOUT, home=Path(folder))
        layout.make()
        addresses = Addresses(ports=choose_ports(layout.ports_file))
        services = Services(layout, addresses, ensure_token(layout.token_file), os.environ)
        supervisor = Supervisor(layout.processes_file, layout.logs)
        try:
            for name in names:
                supervisor.start(getattr(services, name)())
            supervisor.wait_ready(names, deadline_s=START_S)
            environment = services.controller().environment
            yield Running(layout=layout, services=services, supervisor=supervisor, environment=environment)
        finally:
            supervisor.stop()
