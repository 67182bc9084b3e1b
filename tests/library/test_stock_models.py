"""Models without inference code (R41), and models inside a program of somebody else (R39)."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway import checkout, deployment
from taxiway import project as projects
from taxiway.datasets import DatasetVersion
from taxiway.embedding import load
from taxiway.errors import ArtifactChangedError, ModelNotFoundError, ProjectFaultsError
from taxiway.packaging import package
from taxiway.registry import models, packages, tracking
from taxiway.settings import Settings
from taxiway.training import train
from tests.projects import commit_all

WITH_SERVICE = 'service = "service:Tiny"\nfiles = ["service.py"]\n'

# A stock model: MLflow's own format, with a loader that is one of its own flavours' in real life.
STOCK_TRAIN = """
import json, os, pathlib
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
code = output / "model" / "code"
code.mkdir(parents=True)
(code / "doubling.py").write_text('''
class Doubling:
    def predict(self, rows, params=None):
        return [2 * value for value in rows["x"]]

def _load_pyfunc(path):
    return Doubling()
''')
flavor = {"loader_module": "doubling", "code": "code", "data": "data.txt"}
(output / "model" / "data.txt").write_text("2")
(output / "model" / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavor}}))
(output / "metrics.json").write_text(json.dumps({"score": 1.0}))
"""

APP = """
import sys
from taxiway.embedding import load
model = load(sys.argv[1])
heavy = [name for name in ("airflow", "mlflow", "pandas") if name in sys.modules]
import pandas
print(model.version, heavy, model.pyfunc().predict(pandas.DataFrame({"x": [1, 21]})))
"""


@pytest.fixture
def stock(handled: Path) -> Path:
    """Return a project whose models need no code to be served."""
    text = (handled / "pyproject.toml").read_text()
    text = text.replace(WITH_SERVICE, 'server = "mlflow"\n').replace(
        'inference = ["bentoml>=1.4"]', "inference = []"
    )
    (handled / "pyproject.toml").write_text(
        text + '[tool.taxiway.verification]\ncontract = "contract.json"\n'
    )
    (handled / "contract.json").write_text(
        json.dumps({"api": "invocations", "requests": [{"json": {"x": 1}}]})
    )
    (handled / "train.py").write_text(STOCK_TRAIN)
    (handled / "service.py").unlink()
    commit_all(handled)
    return handled


def test_a_server_is_none_that_we_know_or_has_a_service_beside_it(stock: Path) -> None:
    text = (stock / "pyproject.toml").read_text()
    both = f'server = "mlflow"\n{WITH_SERVICE}'
    for wrong, told in (('server = "torch"', "must be one of bento, mlflow"), (both, "has a service")):
        (stock / "pyproject.toml").write_text(text.replace('server = "mlflow"', wrong))
        with pytest.raises(ProjectFaultsError, match=told):
            projects.read(checkout.Checkout(root=stock))


@pytest.mark.slow
def test_a_model_without_code_is_packaged_registered_and_loaded_in_a_program(
    stock: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    packages.register(package(str(stock), live, kinds=["training", "inference"]), live)
    code = packages.lookup(handle, "inference", live)
    ready = packages.materialise(code, live)
    assert ready.bento_dir is None
    assert [path.name for path in ready.source_dir.iterdir()] == ["contract.json"]
    assert deployment._serving(code, ready) == {"server": "mlflow", "ready_path": "/ping"}

    made = train(handle, dataset, live)
    assert made.inference_digest == code.digest

    with pytest.raises(ModelNotFoundError):
        load(handle, "live", live)
    models.set_alias(handle, models.CHAMPION, made.version, live)
    model = load(handle, settings=live)
    assert (model.version, model.folder) == (made.version, models.download(made, live))
    assert model == load(handle, made.version, live)

    variables = {"TAXIWAY_HOME": str(live.home), "MLFLOW_TRACKING_URI": live.tracking_uri}
    app = subprocess.run(
        [sys.executable, "-c", APP, handle],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert app.stdout == f"{made.version} [] [2, 42]\n"


@pytest.mark.slow
def test_what_loads_a_stock_model_is_part_of_it_and_is_checked_when_it_is_fetched(
    stock: Path, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    compiled = (
        '(code / "__pycache__").mkdir()\n(code / "__pycache__" / "doubling.pyc").write_bytes(b"evil")\n'
    )
    (stock / "train.py").write_text(STOCK_TRAIN + compiled)
    packages.register(package(str(stock), live, kinds=["training", "inference"]), live)
    made = train(handle, dataset, live)
    (stock / "train.py").write_text(STOCK_TRAIN.replace('"data.txt"}', '"code"}'))
    commit_all(stock)
    packages.register(package(str(stock), live, kinds=["training"]), live)
    other = train(handle, dataset, live)
    assert made.model_hash == other.model_hash
    assert made.content != other.content
    assert models.get(handle, made.version, live) == made
    assert not list(models.download(made, live).rglob("__pycache__"))

    elsewhere = replace(live, home=tmp_path / "elsewhere")
    upload = tracking.download(made.run_id, models.MODEL, tmp_path, live)
    (upload / "code" / "__pycache__").mkdir()
    (upload / "code" / "__pycache__" / "doubling.pyc").write_bytes(b"evil")
    tracking.upload(made.run_id, upload, models.MODEL, live)
    assert not list(models.download(made, elsewhere).rglob("__pycache__"))
    text = (upload / "MLmodel").read_text()
    (upload / "MLmodel").write_text(text.replace('"doubling"', '"os"'))
    tracking.upload(made.run_id, upload, models.MODEL, live)
    with pytest.raises(ArtifactChangedError, match="its MLmodel"):
        models.download(made, replace(live, home=tmp_path / "third"))
    assert not (tmp_path / "third" / "models" / handle / str(made.version)).exists()
