"""What the parts of a trial in containers are called on the engine, so that two trials never share one there.

Nothing is asked of the engine here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taxiway.tools import digest
from taxiway.trial.layout import Layout

USUAL_HOME: Final = ".trial-docker"
"""The folder of `make trial-docker`, in the clone."""
BUILT: Final = ("airflow", "postgres", "s3", "serving")
"""Services whose images compose builds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of one trial.

    Attributes:
        project: Of compose: its containers, networks and volumes begin with it.
        owner: Label of the containers that Airflow and the controller start, and of the variants' images.
    """

    project: str
    owner: str

    @property
    def network(self) -> str:
        """The network of the variants."""
        return f"{self.project}-variants"

    @property
    def images(self) -> dict[str, str]:
        """The images that compose builds, by their services."""
        return {name: f"{self.project}-compose/{name}:local" for name in BUILT}


def names_of(layout: Layout) -> Names:
    """Return the names of a trial: plain ones in the usual folder, and with a hash of the folder in any other."""
    if layout.home == layout.checkout / USUAL_HOME:
        return Names(project="taxiway", owner="composetrial")
    # The hash comes first: a variant's container has eight letters of its owner in its name.
    mark = digest([str(layout.home)])[:8]
    return Names(project=f"taxiway-{mark}", owner=f"{mark}composetrial")
