"""What one host recorded of data, another one explains: the data repository's origin is asked before an answer."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway import lineage
from taxiway.datasets import Origin, snapshot
from taxiway.errors import TransportError
from taxiway.settings import Settings
from tests.datasets.conftest import write
from tests.lineage.conftest import Makes
from tests.serving.test_feedback_api import Served

pytestmark = pytest.mark.slow
Hosts = Callable[[str], Settings]


@pytest.fixture
def host(tmp_path: Path, watching: Settings) -> Hosts:
    """Return a function that makes a host by its name, whose data repository is a clone of one shared origin."""
    origin = str(tmp_path / "origin.git")
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", origin], check=True)

    def made(name: str) -> Settings:
        home = tmp_path / name
        home.mkdir()
        command = ["git", "clone", "-q", origin, str(home / "datasets")]
        subprocess.run(command, check=True, capture_output=True)
        remote = str(tmp_path / "remote")
        return replace(watching, home=home, data_repository=home / "datasets", data_remote=remote)

    return made


def notes(found: lineage.Explanation) -> list[str]:
    """Return what could not be asked; the models of these tests have no packages, which is said as well."""
    return [note for note in found.notes if "is named and not known" not in note]


def test_data_that_another_host_prepared_are_explained_and_served(
    host: Hosts, make: Makes, handle: str, served: Served, tmp_path: Path
) -> None:
    ours, theirs = host("ours"), host("theirs")
    name = handle.replace("__", "_")[-20:]
    raw = snapshot(write(tmp_path / "raw", {"r": handle}), f"raw_{name}", theirs)
    origin = Origin(kind="transform", parents={raw.tag: raw.hash})
    prepared = snapshot(write(tmp_path / "made", {"m": handle}), f"made_{name}", theirs, origin=origin)
    make(dataset=prepared)
    served.plane.deploy(1, handle=handle)
    served.plane.tick(3)

    (one,) = lineage.serving(raw.tag, ours)
    assert one.path == (raw.tag, prepared.tag, f"{handle}/1")
    found = lineage.explain(f"{handle}/1", ours)
    assert (prepared.tag, "prepared_from", raw.tag) in {
        (edge.child, edge.kind, edge.parent) for edge in found.up
    }
    assert notes(found) == []

    (tmp_path / "origin.git").rename(tmp_path / "gone.git")
    (note,) = notes(lineage.explain(f"{handle}/1", ours))
    assert note.startswith(
        "what other hosts recorded of data could not be asked, what this one knows is shown: "
    )
    with pytest.raises(TransportError, match="see that `git fetch` works there"):
        lineage.serving(raw.tag, ours)


def test_data_that_no_repository_here_holds_are_said_to_be_a_name_alone(
    host: Hosts, make: Makes, handle: str, watching: Settings, tmp_path: Path
) -> None:
    dataset = snapshot(write(tmp_path / "data", {"d": handle}), handle[-20:].strip("_"), host("theirs"))
    make(dataset=dataset)
    alone = replace(watching, home=tmp_path, data_repository=tmp_path / "none")
    (note,) = notes(lineage.explain(f"{handle}/1", alone))
    assert note.startswith(f"{dataset.tag} is known by its name alone")
