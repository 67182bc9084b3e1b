"""The example's files: they keep Taxiway's contract, and the bad version is bad in one way."""

import ast
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from taxiway import checkout
from taxiway.project import Project, read
from taxiway_serving.evidence.contract import read_contract

SAMPLES = ("zero.png", "two.png", "three.png", "three.jpeg", "seven.png")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def manifest(project: Path) -> Project:
    return read(checkout.Checkout(root=project))


@pytest.fixture(scope="module")
def pixels(project: Path) -> ModuleType:
    return load(project / "pixels.py")


def encoded(size: tuple[int, int], file_format: str, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(buffer, format=file_format)
    return buffer.getvalue()


def test_project_keeps_the_contract(manifest: Project) -> None:
    assert manifest.handle == "visual_recognition"
    assert set(manifest.components) == {"transform", "training", "evaluation", "inference"}


def test_project_components_share_no_file(manifest: Project) -> None:
    named = [file for component in manifest.components.values() for file in component.files]
    assert len(named) == len(set(named))
    assert {"service.py", "pixels.py", "contract.json"} <= set(manifest.components["inference"].files)


def test_project_knows_nothing_of_taxiway(project: Path) -> None:
    for path in project.glob("*.py"):
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        modules = {
            node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        }
        assert not [name for name in names | modules if name and name.startswith("taxiway")]


def test_contract_names_every_sample(project: Path, manifest: Project) -> None:
    contract = read_contract(project)
    assert {example.expect["label"] for example in contract.examples} == {0, 2, 3, 6, 7}
    packed = {file for file in manifest.components["inference"].files if file.startswith("samples/")}
    assert packed == {path.relative_to(project).as_posix() for path in project.glob("samples/**/*.*")}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16", "LA"])
def test_pixels_takes_any_png(pixels: ModuleType, mode: str) -> None:
    levels = pixels.from_image(encoded((56, 40), "PNG", mode))
    assert (levels.shape, levels.dtype) == ((28, 28), np.float32)
    assert 0 <= levels.min() <= levels.max() <= 255


def test_pixels_keeps_the_levels_of_a_digit(pixels: ModuleType, project: Path) -> None:
    file = project / "samples" / "seven.png"
    assert np.array_equal(pixels.from_image(file.read_bytes()), np.asarray(Image.open(file)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a PNG or JPEG"),
        (b"seven", "not a PNG or JPEG"),
        (encoded((28, 28), "GIF"), "not a PNG or JPEG"),
        (encoded((280, 280), "PNG")[:-60], "broken image"),
        (encoded((280, 280), "JPEG")[:600], "broken image"),
        (encoded((2000, 2000), "PNG", "1"), "2000x2000 pixels; send at most 1,000,000"),
        (encoded((20000, 20000), "PNG", "1"), "too many pixels; send at most 1,000,000"),
    ],
    ids=["empty", "text", "gif", "truncated png", "truncated jpeg", "large", "bomb"],
)
def test_pixels_refuses_with_a_reason(pixels: ModuleType, content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pixels.from_image(content)


def test_regression_changes_one_function(project: Path, regression: Path) -> None:
    assert [path.name for path in regression.iterdir() if path.is_file()] == ["pixels.py"]

    def functions(path: Path) -> dict[str, str]:
        tree = ast.parse(path.read_text())
        return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}

    good, bad = functions(project / "pixels.py"), functions(regression / "pixels.py")
    assert {name for name in good | bad if good.get(name) != bad.get(name)} == {"to_network"}


@pytest.mark.parametrize("sample", SAMPLES)
def test_regression_answers_what_the_contract_asks(regression: Path, project: Path, sample: str) -> None:
    bad = load(regression / "pixels.py")
    network = bad.to_network(bad.from_image((project / "samples" / sample).read_bytes()))
    assert (network.shape, network.dtype) == ((1, 784), np.float32)
    assert 0 <= network.min() < network.max() <= 1


def test_regression_fails_on_a_thin_digit(regression: Path, pixels: ModuleType) -> None:
    thin = np.zeros((28, 28), dtype=np.float32)
    thin[4:24, 13:16] = 255
    to_network: Callable[[np.ndarray], np.ndarray] = load(regression / "pixels.py").to_network
    assert pixels.to_network(thin).max() == 1
    with pytest.raises(ZeroDivisionError):
        to_network(thin)
