"""Three kinds of variant behind one gateway: our own process, MLflow's scoring server, somebody's server at an address.

The real controller, the real Envoy, a real `mlflow models serve`.
"""

import json
import os
import site
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from benchmarks.plane import Plane, plane
from benchmarks.variants import plain
from tests.serving.conftest import Toy, wait_until

pytestmark = pytest.mark.slow

HANDLE = "digits"
START_S = 120.0

DOUBLING = """
class Doubling:
    def predict(self, rows, params=None):
        return [2 * value for value in rows["x"]]

def _load_pyfunc(path):
    return Doubling()
"""


def stock_model(folder: Path) -> Path:
    """Return a model in MLflow's own format, without inference code."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "doubling.py").write_text(DOUBLING)
    (folder / "data.txt").write_text("2")
    flavor = {"loader_module": "doubling", "code": "code", "data": "data.txt"}
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavor}}))
    return folder


def mlflow_python(folder: Path) -> tuple[Path, dict[str, str]]:
    """Return an interpreter below a folder that finds MLflow, and the variables that it needs for that."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    own = Path(sys.executable)
    python.symlink_to(own.resolve())
    (python.parent / "uvicorn").symlink_to(own.parent / "uvicorn")
    return python, {"PYTHONPATH": os.pathsep.join(site.getsitepackages())}


def predict(made: Plane, version: int, path: str, body: object) -> httpx.Response:
    url = f"{made.settings.gateway_url}/{HANDLE}/{path}"
    return httpx.post(
        url, json=body, headers={"x-taxiway-version": str(version)}, timeout=60, trust_env=False
    )


def test_a_process_mlflow_and_an_address_behind_one_gateway(toy: Callable[..., Toy]) -> None:
    """R41: a model without code is served; R54: by the handle's files, with no edit; a URL takes over by a canary."""
    elsewhere = toy(3)
    with plane(plain) as made:
        made.go_live(1)
        home = made.settings.home
        python, variables = mlflow_python(home / "mlflow")
        stock = {
            "model": f"{HANDLE}/2",
            "server": "mlflow",
            "ready_path": "/ping",
            "python": str(python),
            "model_dir": str(stock_model(home / "models" / "stock")),
            "environment": variables,
            "ready_deadline_s": START_S,
        }
        made.controller.deploy(HANDLE, 2, stock)
        made.controller.deploy(
            HANDLE, 3, {"model": f"{HANDLE}/3", "url": f"http://127.0.0.1:{elsewhere.port}"}
        )

        made.controller.wait_ready(HANDLE, 3, deadline_s=START_S)
        with made.load(50.0) as load:
            steps = [{"setWeight": 50}, {"analysis": {"units": 100}}, {"setWeight": 100}]
            made.roll_out(3, "to-3", strategy={"kind": "canary", "steps": steps})
            ended = made.wait_ended("to-3", within_s=START_S)
        assert ended["outcome"] == "Promoted"
        assert {each.version for each in load.sent()} >= {1, 3}
        assert [each for each in load.sent() if each.has_failed] == []

        made.controller.wait_ready(HANDLE, 2, deadline_s=START_S)
        wait_until(lambda: predict(made, 2, "invocations", {"inputs": {"x": [1]}}).status_code == 200)
        answer = predict(made, 2, "invocations", {"dataframe_records": [{"x": 1}, {"x": 21}]})
        assert answer.json() == {"predictions": [2, 42]}
        assert (answer.headers["x-taxiway-version"], answer.headers["x-taxiway-handle"]) == ("2", HANDLE)
        assert predict(made, 2, "invocations", "no rows").status_code == 400

        shown = made.variants()
        assert (shown[3]["pid"], shown[3]["port"]) == (None, elsewhere.port)
        assert "answers" in made.controller.log(HANDLE, 3)
