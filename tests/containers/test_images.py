"""What an image holds, how it is named, and that only the registered one is run."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.engine import Engine
from taxiway.errors import ArtifactChangedError, ToolFailedError
from taxiway.packaging import CodePackage
from taxiway.packaging import image as images
from taxiway.packaging.image import Image
from taxiway.registry import packages, tracking
from taxiway.runners import Job, on_this_host
from taxiway.settings import Settings
from taxiway.training import train
from tests.containers import base_image
from tests.containers.conftest import BASE_IMAGE, registered

pytestmark = [pytest.mark.docker, pytest.mark.slow]

NUMERIC = """
import json, os, pathlib
import numpy as np
params, output = json.loads(os.environ["TAXIWAY_PARAMS"]), pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
random = np.random.default_rng(int(os.environ["TAXIWAY_SEED"]))
x, y = random.normal(size=(2000, 64)), random.normal(size=2000)
weights = np.zeros(64)
for _ in range(50):
    weights -= 0.05 * x.T @ (np.tanh(x @ weights) - y) / len(y)
(output / "model").mkdir()
np.save(output / "model" / "weights.npy", weights)
(output / "metrics.json").write_text(json.dumps({"score": float(weights @ weights)}))
"""


@pytest.fixture
def training(handled: Path, handle: str, boxed: Settings) -> CodePackage:
    """Return the registered training package of a tiny project."""
    registered(handled, boxed, ("training",))
    return packages.lookup(handle, "training", boxed)


def test_tag_names_the_package_and_its_hash(training: CodePackage) -> None:
    assert images.tag_of(training) == f"taxiway/{training.handle}.training:{training.digest[:16]}"


@pytest.mark.parametrize(
    ("handle", "name"), [("a", "a"), ("a_", "a"), ("a___b", "a__b"), ("a__b_c", "a__b_c")], ids=str
)
def test_every_handle_makes_a_name_that_an_engine_takes(handle: str, name: str) -> None:
    made = CodePackage(
        handle=handle, kind="training", digest="d" * 64, source_hash="", lock_hash="", python=""
    )
    assert images.repository_of(made) == f"taxiway/{name}.training"


def test_image_is_recorded_and_another_one_under_its_name_is_refused(
    training: CodePackage, boxed: Settings, engine: Engine, client: Any, tmp_path: Path, plain_image: Image
) -> None:
    made = packages.image(training, engine, boxed, print)
    (version,) = tracking.find_versions(
        f"{training.handle}.training", {"taxiway.digest": training.digest}, boxed
    )
    assert version.tags[f"taxiway.image.{engine.key}"] == made.id
    assert packages.image(training, engine, boxed, print) == made
    client.tag(plain_image.id, *made.name.split(":"), force=True)
    job = Job(package=training, folder=tmp_path / "job")
    with pytest.raises(ArtifactChangedError, match="it was not run; remove taxiway/"):
        on_this_host(boxed).run(job, print)
    client.remove_image(made.name, force=True)
    assert packages.image(training, engine, boxed, print).name == made.name


def test_image_holds_compiled_source_and_nothing_of_this_host(
    handled: Path, handle: str, boxed: Settings, engine: Engine, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be compiled, such as a part of a template, is none that is imported."""
    monkeypatch.setenv("UV_INDEX_URL", "https://user:s3cret@index.example/simple")
    (handled / "template.py").write_text("return 1")
    project = handled / "pyproject.toml"
    project.write_text(
        project.read_text().replace('files = ["train.py"]', 'files = ["train.py", "template.py"]')
    )
    registered(handled, boxed, ("training",))
    training = packages.lookup(handle, "training", boxed)
    made = packages.image(training, engine, boxed, print)
    shown = json.dumps([client.inspect_image(made.id), client.history(made.id)])
    assert "s3cret" not in shown
    assert client.inspect_image(made.id)["Config"]["User"] == f"{images.USER}:{images.USER}"
    names = {name.partition("/")[2].split(".")[0] for name in files_of(client, made, images.SOURCE_DIR)}
    assert names == {"train", "template", "__pycache__/train"}


def files_of(client: Any, image: Image, folder: str) -> dict[str, bytes]:
    container = client.create_container(image.id, ["python"])["Id"]
    try:
        pieces, _ = client.get_archive(container, folder)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            return {each.name: file.read() for each in tar if (file := tar.extractfile(each)) is not None}
    finally:
        client.remove_container(container, force=True)


def test_same_recipe_gives_the_same_model_in_process_and_container(
    handled: Path,
    handle: str,
    live: Settings,
    boxed: Settings,
    dataset: DatasetVersion,
    commit: Callable[..., str],
    engine: Engine,
    client: Any,
) -> None:
    """R2: the model's bytes do not tell where it was trained. Its image is warm: what it imports is compiled."""
    (handled / "train.py").write_text(NUMERIC)
    project = handled / "pyproject.toml"
    project.write_text(project.read_text().replace("training = []", 'training = ["numpy>=2"]'))
    commit(handled)
    registered(handled, live)
    boxed_version = train(handle, dataset, boxed, seed=7)
    # The recipe has its result, and is trained again only because that is put out of sight.
    tracking.log(boxed_version.run_id, live, tags={"taxiway.key": "out of sight"})
    train(handle, dataset, live, seed=7)
    runs = tracking.find_runs(tracking.ensure_experiment(handle, live), {"taxiway.kind": "training"}, live)
    assert len(runs) == 2
    assert {run.tags["taxiway.model_hash"] for run in runs} == {boxed_version.model_hash}
    training = packages.lookup(handle, "training", live)
    libraries = f"{images.ENVIRONMENT_DIR}/environment/lib/python{training.python}/site-packages"
    compiled = files_of(
        client, packages.image(training, engine, boxed, print), f"{libraries}/numpy/__pycache__"
    )
    assert compiled
    # Checked by nothing, so valid whatever time a source has in the image.
    assert {content[4:8] for content in compiled.values()} == {(1).to_bytes(4, "little")}


OWN = """ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN python3 -c "open('/marker', 'w').write('own')"
"""


def test_own_dockerfile_is_built_below_the_source(
    handled: Path, handle: str, boxed: Settings, dataset: DatasetVersion, commit: Callable[..., str]
) -> None:
    (handled / "Dockerfile.training").write_text(OWN)
    train_py = handled / "train.py"
    train_py.write_text("assert open('/marker').read() == 'own'\n" + train_py.read_text())
    project = handled / "pyproject.toml"
    text = project.read_text().replace(
        'files = ["train.py"]',
        'files = ["train.py", "Dockerfile.training"]\ndockerfile = "Dockerfile.training"',
    )
    project.write_text(text)
    commit(handled)
    registered(handled, boxed)
    assert train(handle, dataset, boxed).version == 1


def test_base_image_of_another_python_is_refused(
    training: CodePackage, boxed: Settings, engine: Engine
) -> None:
    ours = BASE_IMAGE.format(python=base_image.VERSION)
    fixed = replace(boxed, containers=replace(boxed.containers, base_image=ours))
    with pytest.raises(ToolFailedError, match=r"the package is locked for 3\.99: set TAXIWAY_BASE_IMAGE"):
        packages._build(replace(training, python="3.99"), engine, fixed, print)


def test_base_image_that_is_nowhere_is_told_with_the_next_step(
    training: CodePackage, boxed: Settings, engine: Engine
) -> None:
    nowhere = replace(boxed, containers=replace(boxed.containers, base_image="127.0.0.1:9/nowhere:1"))
    with pytest.raises(ToolFailedError, match="set TAXIWAY_BASE_IMAGE to an image that the engine has"):
        packages.image(training, engine, nowhere, print)
