"""A model project is read whole, or refused with every broken rule named at once."""

import json
from pathlib import Path

import pytest

from taxiway.checkout import Checkout
from taxiway.errors import ProjectFaultsError
from taxiway.project import Project, read


def faults_of(root: Path) -> str:
    with pytest.raises(ProjectFaultsError) as caught:
        read(Checkout(root=root))
    return "\n".join(caught.value.faults)


def edit(root: Path, old: str, new: str) -> None:
    path = root / "pyproject.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def read_project(root: Path) -> Project:
    return read(Checkout(root=root))


def test_project_that_keeps_the_contract_is_read(project: Path) -> None:
    found = read_project(project)
    assert found.handle == "tiny"
    assert list(found.components) == ["transform", "training", "evaluation", "inference"]
    assert found.components["training"].params == {"c": 0.5}
    assert found.components["inference"].service == "service:Tiny"
    assert found.sla.rate_rps == 20
    assert found.tuning["metric"] == "score"


def test_project_faults_are_named_all_at_once(project: Path) -> None:
    edit(project, 'handle = "tiny"', 'handle = "Tiny Model"\ncolour = "red"')
    edit(project, 'requires-python = ">=3.11"', 'requires-python = "about 3"')
    edit(project, "training = []\n", 'training = ["not a requirement !"]\n')
    edit(project, 'inference = ["bentoml>=1.4"]\n', "")
    edit(project, 'command = "python train.py"', 'command = "python missing.py"')
    edit(project, 'command = "python evaluate.py"', "")
    edit(project, 'service = "service:Tiny"', 'service = "service:Absent"')
    edit(project, "p99_ms = 250", "p99_ms = -1")
    edit(project, "rate_rps = 20", 'rate = "fast"')
    edit(project, "minimum = { score = 0.9 }", 'minimum = { score = "high" }')
    edit(project, 'direction = "maximize"', 'direction = "up"')
    edit(project, "low = 0.0, high = 1.0", "low = 2.0, high = 1.0")
    (project / "transform.py").write_text("def broken(:\n")
    faults = faults_of(project)
    for part in (
        "handle",
        "'colour'",
        "requires-python",
        "not a requirement",
        "no group 'inference'",
        "missing.py",
        "[tool.taxiway.evaluation].command",
        "Absent",
        "p99_ms must be",
        "rate_rps must be",
        "unknown key 'rate'",
        "minimum must be",
        "direction must be",
        "low must be a number not above high",
        "transform.py line 1 is not Python",
    ):
        assert part in faults, f"{part!r} is not among\n{faults}"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "[tool.taxiway] is missing"),
        ("[project\n", "is not TOML"),
        ("tool = 1\n", "[tool] must be a table"),
    ],
    ids=["empty", "broken", "wrong-type"],
)
def test_project_file_that_says_nothing_is_refused(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert part in faults_of(tmp_path)


def test_project_without_a_file_is_refused(tmp_path: Path) -> None:
    assert "pyproject.toml is missing" in faults_of(tmp_path)


def test_project_needs_training_inference_and_sla(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.taxiway]\nhandle = "x"\n')
    faults = faults_of(tmp_path)
    for name in ("training", "inference", "sla"):
        assert f"[tool.taxiway.{name}] is missing" in faults


def test_project_error_survives_pickling(tmp_path: Path) -> None:
    import pickle

    error = ProjectFaultsError("root", ("a", "b"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_component_files_are_those_that_its_patterns_match(project: Path) -> None:
    assert read_project(project).components["training"].files == ("train.py",)


def test_component_pattern_that_leaves_the_project_is_refused(project: Path) -> None:
    edit(project, 'files = ["train.py"]', 'files = ["../*", "nothing/*"]')
    faults = faults_of(project)
    assert "leaves the project" in faults
    assert "matches no file" in faults


def test_component_link_that_leaves_the_project_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("")
    (project / "link.py").symlink_to(tmp_path / "outside.py")
    edit(project, 'files = ["train.py"]', 'files = ["*.py"]')
    assert "link.py is a link that leaves the project" in faults_of(project)


def test_component_without_patterns_has_the_whole_project_but_no_caches_or_secrets(project: Path) -> None:
    edit(project, 'files = ["train.py"]\n', "")
    for name in (".env", ".git/HEAD", ".venv/x.py", "__pycache__/train.pyc", "lib/used.py"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("")
    files = read_project(project).components["training"].files
    assert "lib/used.py" in files
    assert "pyproject.toml" in files
    assert not [name for name in files if name.startswith((".", "__pycache__"))]


def test_component_may_name_another_group_and_groups_may_include(project: Path) -> None:
    edit(project, "training = []", 'training = [{ include-group = "base" }, "numpy"]\nbase = ["pillow"]')
    edit(project, 'files = ["evaluate.py"]', 'files = ["evaluate.py"]\ngroup = "base"')
    components = read_project(project).components
    assert components["training"].requirements == ("pillow", "numpy")
    assert components["evaluation"].requirements == ("pillow",)
    assert components["transform"].requirements == ("pillow", "numpy")


def test_group_that_includes_itself_is_a_fault(project: Path) -> None:
    edit(project, "training = []", 'training = [{ include-group = "training" }]')
    assert "cannot be read" in faults_of(project)


def test_contract_and_its_files_travel_with_inference(project: Path) -> None:
    (project / "samples").mkdir()
    (project / "samples" / "one.png").write_bytes(b"png")
    (project / "contract.json").write_text(
        json.dumps({"requests": [{"name": "one", "file": "samples/one.png"}]})
    )
    with (project / "pyproject.toml").open("a") as file:
        file.write('[tool.taxiway.verification]\ncontract = "contract.json"\n')
    files = read_project(project).components["inference"].files
    assert files == ("contract.json", "samples/one.png", "service.py")


def test_contract_that_is_missing_is_a_fault(project: Path) -> None:
    with (project / "pyproject.toml").open("a") as file:
        file.write('[tool.taxiway.verification]\ncontract = "contract.json"\n')
    assert "names contract.json, which is missing" in faults_of(project)


def test_mlproject_is_accepted_for_training(project: Path) -> None:
    edit(
        project,
        '[tool.taxiway.training]\ncommand = "python train.py"\nfiles = ["train.py"]\nparams = { c = 0.5 }',
        "",
    )
    (project / "MLproject").write_text(
        "name: tiny\nentry_points:\n  main:\n    parameters:\n      c: {type: float, default: 0.7}\n"
        '    command: "python train.py --c {c}"\n'
    )
    training = read_project(project).components["training"]
    assert training.command == "python train.py --c {c}"
    assert training.params == {"c": 0.7}


def test_mlproject_that_cannot_be_read_is_a_fault(project: Path) -> None:
    (project / "MLproject").write_text("entry_points: [\n")
    assert "MLproject cannot be read" in faults_of(project)
