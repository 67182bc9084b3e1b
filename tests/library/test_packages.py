"""Code packages: named by their content, registered before they are used, found by handle."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from taxiway.errors import (
    ArtifactChangedError,
    InvalidSpecError,
    PackageNotRegisteredError,
    ProjectFaultsError,
    ToolFailedError,
    TransportError,
)
from taxiway.packaging import CodePackage, environment, package
from taxiway.packaging.package import ATTEMPTS, DIFF, FILES, home_of
from taxiway.provenance import Provenance
from taxiway.registry import packages, reading, tracking
from taxiway.settings import Settings

CODE = ("transform", "training", "evaluation")


def test_package_of_the_same_project_is_the_same(project: Path, settings: Settings) -> None:
    first = package(str(project), settings, kinds=CODE)
    assert [made.kind for made in first] == list(CODE)
    assert package(str(project), settings, kinds=CODE) == first
    assert len({made.digest for made in first}) == 3


def test_package_changes_with_its_own_source_only(project: Path, settings: Settings) -> None:
    before = {made.kind: made.digest for made in package(str(project), settings, kinds=CODE)}
    (project / "train.py").write_text("print('new')\n")
    (project / "service.py").write_text((project / "service.py").read_text() + "\n# changed\n")
    after = {made.kind: made.digest for made in package(str(project), settings, kinds=CODE)}
    assert [kind for kind in CODE if before[kind] != after[kind]] == ["training"]


def test_package_of_a_bundle_carries_the_commit_that_it_is_told(project: Path, settings: Settings) -> None:
    (made,) = package(str(project), settings, kinds=["training"], commit="c0ffee")
    assert made.commit == "c0ffee"


def test_package_survives_json(project: Path, settings: Settings) -> None:
    (made,) = package(str(project), settings, kinds=["training"])
    assert CodePackage.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_package_of_a_broken_project_is_refused(project: Path, settings: Settings) -> None:
    (project / "train.py").unlink()
    with pytest.raises(ProjectFaultsError, match="matches no file"):
        package(str(project), settings)
    assert not (settings.home / "packages").exists()


def test_materialised_source_that_somebody_changed_is_made_again(project: Path, settings: Settings) -> None:
    (made,) = package(str(project), settings, kinds=["training"])
    script = home_of(made.digest, settings) / "source" / "train.py"
    script.write_text("tampered")
    ready = packages.materialise(made, settings)
    assert (ready.source_dir / "train.py").read_text() == (project / "train.py").read_text()


@pytest.mark.slow
def test_bento_is_built_once_for_an_inference_package(project: Path, settings: Settings) -> None:
    (made,) = package(str(project), settings, kinds=["inference"])
    bento = packages.materialise(made, settings).bento_dir
    assert bento is not None
    assert "service: service:Tiny" in (bento / "bento.yaml").read_text()
    built = (bento / "bento.yaml").stat().st_mtime_ns
    package(str(project), settings, kinds=["inference"])
    assert (bento / "bento.yaml").stat().st_mtime_ns == built


@pytest.mark.slow
def test_service_that_cannot_be_imported_is_refused_with_its_error(project: Path, settings: Settings) -> None:
    (project / "service.py").write_text("import no_such_module\n\nclass Tiny: ...\n")
    with pytest.raises(ToolFailedError, match="no_such_module"):
        package(str(project), settings, kinds=["inference"])


@pytest.mark.slow
def test_package_that_is_not_registered_is_refused(handled: Path, handle: str, live: Settings) -> None:
    package(str(handled), live, kinds=["training"])
    with pytest.raises(
        PackageNotRegisteredError, match=f"package and register the training component of {handle}"
    ):
        packages.lookup(handle, "training", live)


@pytest.mark.slow
def test_registered_package_is_found_by_handle_and_digest(handled: Path, handle: str, live: Settings) -> None:
    (made,) = packages.register(package(str(handled), live, kinds=["training"]), live)
    assert made.version == 1
    assert packages.lookup(handle, "training", live) == made
    assert packages.lookup(handle, "training", live, made.digest) == made
    with pytest.raises(PackageNotRegisteredError, match="with digest"):
        packages.lookup(handle, "training", live, "0" * 64)


@pytest.mark.slow
def test_lookup_with_and_without_the_client_agree(handled: Path, handle: str, live: Settings) -> None:
    (made,) = packages.register(package(str(handled), live, kinds=["training"]), live)
    name, client = f"{handle}.training", replace(live, tracking_needs_client=True)
    for which in (1, 2, packages.CURRENT, "absent"):
        assert tracking.version(name, which, live) == tracking.version(name, which, client)
    for tags in ({}, {"taxiway.digest": made.digest}, {"taxiway.digest": "absent"}):
        assert tracking.find_versions(name, tags, live) == tracking.find_versions(name, tags, client)
    assert tracking.version("absent", 1, live) is tracking.version("absent", 1, client) is None
    assert tracking.find_versions("absent", {}, live) == tracking.find_versions("absent", {}, client) == ()


@pytest.mark.parametrize(
    ("value", "text"), [("a", "'a'"), ("it's", '"it\'s"')], ids=["plain", "with-a-quote"]
)
def test_filter_quotes_values(value: str, text: str) -> None:
    assert reading.query("x", {"k": value}) == f"name = 'x' and tags.`k` = {text}"


def test_filter_refuses_what_it_cannot_quote() -> None:
    with pytest.raises(InvalidSpecError, match="both kinds of quotes"):
        reading.quoted("'\"")


def test_lookup_of_a_server_that_is_not_there_may_be_retried(settings: Settings) -> None:
    with pytest.raises(TransportError, match="trying again is safe"):
        packages.lookup("digits", "training", settings)


@pytest.mark.slow
def test_lookup_does_not_import_mlflow(handled: Path, handle: str, live: Settings) -> None:
    packages.register(package(str(handled), live, kinds=["training"]), live)
    script = (
        "import sys, pathlib\nfrom taxiway.registry import packages\nfrom taxiway.settings import Settings\n"
    )
    script += f"home = pathlib.Path({str(live.home)!r})\n"
    script += f"settings = Settings(home=home, data_repository=home, tracking_uri={live.tracking_uri!r})\n"
    script += f"packages.lookup({handle!r}, 'training', settings)\nassert 'mlflow' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_registering_the_same_package_again_is_the_same_version(
    handled: Path, handle: str, live: Settings
) -> None:
    provenance = Provenance(dag_id="d", run_id="r", task_id="t")
    made = package(str(handled), live, kinds=["training", "transform"])
    first = packages.register(made, live, provenance=provenance)
    assert packages.register(made, live) == first
    (found,) = tracking.find_versions(f"{handle}.training", {}, live)
    assert found.tags["taxiway.airflow.dag_id"] == "d"
    assert found.tags["taxiway.kind"] == "training"


@pytest.mark.slow
def test_handle_means_the_package_that_was_registered_last(
    handled: Path, handle: str, live: Settings
) -> None:
    old = packages.register(package(str(handled), live, kinds=["training"]), live)
    source = (handled / "train.py").read_text()
    (handled / "train.py").write_text(source + "\n# new\n")
    new = packages.register(package(str(handled), live, kinds=["training"]), live)
    assert [made.version for made in (*old, *new)] == [1, 2]
    assert packages.lookup(handle, "training", live) == new[0]
    (handled / "train.py").write_text(source)
    packages.register(package(str(handled), live, kinds=["training"]), live)
    assert packages.lookup(handle, "training", live) == old[0]


@pytest.mark.slow
def test_registered_package_runs_on_another_host(
    handled: Path, handle: str, live: Settings, tmp_path: Path
) -> None:
    packages.register(package(str(handled), live, kinds=["training"]), live)
    elsewhere = replace(live, home=tmp_path / "elsewhere")
    ready = packages.materialise(packages.lookup(handle, "training", elsewhere), elsewhere)
    assert (ready.source_dir / "train.py").read_text() == (handled / "train.py").read_text()
    assert ready.python.is_relative_to(elsewhere.home)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["source", "lock"])
def test_package_that_was_changed_in_mlflow_is_refused_and_leaves_nothing(
    handled: Path, handle: str, live: Settings, tmp_path: Path, mlflow_folder: Path, part: str
) -> None:
    packages.register(package(str(handled), live, kinds=["training"]), live)
    made = packages.lookup(handle, "training", live)
    if part == "source":
        (handled / "train.py").write_text("print('somebody else')\n")
        (other,) = package(str(handled), live, kinds=["training"])
        content = (home_of(other.digest, live) / "package" / "source.tar.gz").read_bytes()
    else:
        content = b"six==1.17.0\n"
    (run,) = tracking.find_runs(
        tracking.ensure_experiment(handle, live), {"taxiway.digest": made.digest}, live
    )
    name = "source.tar.gz" if part == "source" else "lock.txt"
    (stored,) = (mlflow_folder / "artifacts").rglob(f"{run.run_id}/**/{name}")
    stored.write_bytes(content)
    elsewhere = replace(live, home=tmp_path / "elsewhere")
    with pytest.raises(ArtifactChangedError, match=f"its {part} has the hash"):
        packages.materialise(made, elsewhere)
    assert list((elsewhere.home / "packages").iterdir()) == []


@pytest.mark.slow
def test_package_that_is_committed_after_it_was_registered_is_of_that_commit(
    handled: Path, handle: str, live: Settings, commit: Callable[..., str]
) -> None:
    with (handled / "train.py").open("a") as file:
        file.write("# new\n")
    (dirty,) = packages.register(package(str(handled), live, kinds=["training"]), live)
    assert dirty.is_dirty
    clean_commit = commit(handled)
    (clean,) = packages.register(package(str(handled), live, kinds=["training"]), live)
    assert (clean.digest, clean.version) == (dirty.digest, dirty.version)
    assert (clean.commit, clean.is_dirty) == (clean_commit, False)
    assert packages.lookup(handle, "training", live) == clean
    (found,) = tracking.find_versions(f"{handle}.training", {}, live)
    assert found.tags["mlflow.source.git.commit"] == clean_commit
    assert packages.register([dirty], live) == (clean,)


@pytest.mark.slow
def test_registration_that_was_killed_is_finished_in_its_run(
    handled: Path, handle: str, live: Settings
) -> None:
    (made,) = package(str(handled), live, kinds=["training"])
    experiment = tracking.ensure_experiment(handle, live)
    own = {"taxiway.kind": "package", "taxiway.package.kind": "training", "taxiway.digest": made.digest}
    killed = tracking.create_run(experiment, "package", own, live)
    packages.register([made], live)
    (run,) = tracking.find_runs(experiment, {"taxiway.kind": "package"}, live)
    assert (run.run_id, run.status) == (killed.run_id, "FINISHED")


def test_package_outside_git_in_a_repository_takes_the_commit_and_the_url_it_is_told(
    handled: Path, settings: Settings
) -> None:
    (made,) = package(
        str(handled), settings, kinds=["training"], commit="c0ffee", url="https://host/team.git"
    )
    assert (made.commit, made.url, made.is_dirty) == ("c0ffee", "https://host/team.git", False)


def test_package_that_is_edited_while_it_is_made_says_that_it_is_dirty(
    handled: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, script = environment.lock, handled / "train.py"

    def edit(*arguments: Any) -> environment.Lock:
        script.write_text("edited = True\n")
        return lock(*arguments)

    monkeypatch.setattr(environment, "lock", edit)
    (made,) = package(str(handled), settings, kinds=["training"])
    folder = home_of(made.digest, settings)
    assert (folder / "source" / "train.py").read_text() == script.read_text()
    assert made.is_dirty
    assert "+edited = True" in (folder / FILES / DIFF).read_text()


def test_package_of_a_folder_that_is_never_at_rest_is_refused(
    handled: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, edits = environment.lock, count()

    def edit(*arguments: Any) -> environment.Lock:
        made = lock(*arguments)
        # What is hashed now is another file once it has been packed.
        return _EditsWhenHashed(text=made.text, python=made.python)

    class _EditsWhenHashed(environment.Lock):
        @property
        def hash(self) -> str:
            (handled / "train.py").write_text(f"edit = {next(edits)}\n")
            return super().hash

    monkeypatch.setattr(environment, "lock", edit)
    with pytest.raises(InvalidSpecError, match=f"{ATTEMPTS} times"):
        package(str(handled), settings, kinds=["training"])


def test_difference_is_kept_beside_what_was_packaged_clean_before(handled: Path, settings: Settings) -> None:
    (clean,) = package(str(handled), settings, kinds=["training"])
    place = home_of(clean.digest, settings) / FILES / DIFF
    assert not place.exists()
    (handled / "notes.txt").write_bytes(b"\xe9\n")
    (dirty,) = package(str(handled), settings, kinds=["training"])
    assert (clean.is_dirty, dirty.is_dirty, dirty.digest) == (False, True, clean.digest)
    assert b"+\xe9" in place.read_bytes()
