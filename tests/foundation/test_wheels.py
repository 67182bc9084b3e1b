"""Both wheels build, install beside Airflow into a fresh environment, and Airflow lists the provider."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    finished = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stdout


@pytest.fixture(scope="module")
def wheels(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for project in (root / "serving", root):
        run(UV, "build", "--quiet", "--wheel", "--out-dir", folder, project, cwd=folder)
    return sorted(folder.glob("*.whl"))


@pytest.mark.slow
def test_wheels_hold_their_packages_and_nothing_beside_them(wheels: list[Path]) -> None:
    import zipfile

    tops = {
        wheel.name.split("-")[0]: {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
        for wheel in wheels
    }
    found = {name: {top for top in inside if not top.endswith(".dist-info")} for name, inside in tops.items()}
    assert found == {
        "airflow_provider_taxiway": {"taxiway", "taxiway_ui"},
        "taxiway_serving": {"taxiway_serving"},
    }


@pytest.mark.slow
def test_wheels_are_typed(wheels: list[Path]) -> None:
    import zipfile

    for wheel in wheels:
        assert any(name.endswith("py.typed") for name in zipfile.ZipFile(wheel).namelist()), wheel.name


@pytest.mark.slow
def test_wheels_install_beside_airflow_which_lists_the_provider(
    root: Path, wheels: list[Path], tmp_path: Path
) -> None:
    environment, python = tmp_path / "env", tmp_path / "env" / "bin" / "python"
    run(UV, "venv", "--quiet", "--python", sys.executable, environment, cwd=tmp_path)
    # Hard links into the cache: a fresh environment of 1.3 GB in seconds.
    install: list[str | Path] = [UV, "pip", "install", "--quiet", "--python", python]
    run(*install, "--constraint", root / "constraints.txt", *wheels, cwd=tmp_path, UV_LINK_MODE="hardlink")
    run(UV, "pip", "check", "--python", python, cwd=tmp_path)
    origin = run(
        python,
        "-c",
        "import taxiway, taxiway_serving as s; print(taxiway.__file__, s.__file__)",
        cwd=tmp_path,
    )
    assert all(path.startswith(str(environment)) for path in origin.split())
    home = {"AIRFLOW_HOME": str(tmp_path / "airflow")}
    listed = run(python, "-m", "airflow", "providers", "list", "--output", "plain", cwd=tmp_path, **home)
    assert "airflow-provider-taxiway" in listed
    hooks = run(python, "-m", "airflow", "providers", "hooks", "--output", "plain", cwd=tmp_path, **home)
    assert "taxiway.operators.hooks.TaxiwayHook" in hooks
