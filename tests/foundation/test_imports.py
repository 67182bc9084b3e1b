"""What a DAG file pays: it imports every operator, and none of the libraries that the operators use."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("mlflow", "docker", "dvc", "optuna", "bentoml", "sklearn", "onnxruntime", "pandas")

LIST_LOADED = f"""
import sys
loaded = sorted(name for name in {HEAVY!r} if name in sys.modules)
sys.exit(f"loaded: {{', '.join(loaded)}}" if loaded else 0)
"""


def operator_modules(root: Path) -> list[str]:
    folder = root / "operators" / "taxiway" / "operators"
    return [
        f"taxiway.operators.{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"
    ]


def loaded_by(statements: str) -> str:
    """Return what a fresh process complains of after the statements; empty when it loaded nothing heavy."""
    command = [sys.executable, "-c", statements + LIST_LOADED]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600).stderr.strip()


def test_operators_load_nothing_heavy(root: Path) -> None:
    assert loaded_by("\n".join(f"import {module}" for module in operator_modules(root))) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(path.name for path in (Path(__file__).parents[2] / "dags").glob("*.py"))
)
def test_dag_file_loads_nothing_heavy(root: Path, name: str) -> None:
    assert loaded_by(f"import runpy; runpy.run_path({str(root / 'dags' / name)!r})") == ""


def test_library_and_serving_roots_load_nothing_heavy() -> None:
    modules = (
        "taxiway.settings",
        "taxiway.errors",
        "taxiway.provenance",
        "taxiway_serving.client",
        "taxiway.provider",
    )
    assert loaded_by("\n".join(f"import {module}" for module in modules)) == ""


def test_heavy_module_would_be_seen() -> None:
    assert "loaded: optuna" in loaded_by("import optuna")
