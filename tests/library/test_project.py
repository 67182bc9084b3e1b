"""A model project is read whole, or refused with every broken rule named at once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway.checkout import Checkout, locate
from taxiway.errors import ProjectFaultsError
from taxiway.project import Project, read
from taxiway.settings import Settings


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
        "low must be a finite number not above high",
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


def forbid(project: Path, text: str) -> None:
    with (project / "pyproject.toml").open("a") as file:
        file.write(f"[tool.taxiway.traffic]\n{text}\n")


def test_strategies_may_be_forbidden_with_a_reason(project: Path) -> None:
    assert read_project(project).traffic == {}
    forbid(project, 'forbid = ["blue_green"]\nreason = "patients would all see it"')
    assert read_project(project).traffic == {"forbid": ["blue_green"], "reason": "patients would all see it"}


def test_strategies_forbidden_without_a_reason_get_one(project: Path) -> None:
    forbid(project, 'forbid = ["all_at_once"]')
    assert "few users" in read_project(project).traffic["reason"]


def test_strategy_that_is_none_cannot_be_forbidden(project: Path) -> None:
    """Misspelt, it would forbid nothing; and the way back is never forbidden."""
    forbid(project, 'forbid = ["blue-green", "undo"]\nreason = ""')
    faults = faults_of(project)
    assert "forbid names 'blue-green'; known: canary, linear" in faults
    assert "forbid names 'undo'" in faults
    assert "reason must be a text" in faults


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


BROKEN = {
    "group-no-text": (
        'command = "python train.py"',
        'command = "python train.py"\ngroup = ["a"]',
        "no group",
    ),
    "group-no-list": ("training = []", "training = 3", "training must be a list"),
    "entries-no-text": ("training = []", "training = [3]", "cannot be read"),
    "threads-bool": ("params = { c = 0.5 }", "threads = true", "threads must be"),
    "params-date": ("params = { c = 0.5 }", "params = { c = 2026-01-01 }", "no JSON value"),
    "params-nan": ("params = { c = 0.5 }", "params = { c = nan }", "no JSON value"),
    "source-model": ("params = { c = 0.5 }", 'source_models = ["No Handle"]', "source_models: handle"),
    "minimum-nan": ("score = 0.9", "score = nan", "minimum must be"),
    "minimum-bool": ("score = 0.9", "score = true", "minimum must be"),
    "tolerance-inf": ("tolerance = 0.01", "tolerance = inf", "tolerance must be"),
    "tolerance-bool": ("tolerance = 0.01", "tolerance = true", "tolerance must be"),
    "sla-nan": ("p99_ms = 250", "p99_ms = nan", "p99_ms must be"),
    "space-no-table": ("space = { c", "space = 3 # { c", "space must name"),
    "space-type-list": ('type = "float"', 'type = ["float"]', "type must be one of"),
    "space-low-text": ("low = 0.0", 'low = "0"', "low must be a finite number"),
    "space-high-inf": ("high = 1.0", "high = inf", "low must be a finite number"),
    "space-int-float": ('type = "float"', 'type = "int"', "low must be a whole number"),
    "space-step-zero": ("high = 1.0", "high = 1.0, step = 0", "step must be"),
    "space-log-text": ("high = 1.0", 'high = 1.0, log = "yes"', "log must be true or false"),
    "space-log-step": ("low = 0.0", "low = 0.1, log = true, step = 0.1", "takes no step"),
    "space-choices": ('"float", low = 0.0, high = 1.0', '"categorical", choices = [[1]]', "choices must be"),
    "space-choices-log": (
        '"float", low = 0.0, high = 1.0',
        '"categorical", choices = [1], log = true',
        "unknown key 'log'",
    ),
    "files-empty": ('files = ["train.py"]', 'files = [""]', "is no pattern"),
    "files-dot": ('files = ["train.py"]', 'files = ["."]', "files: '.'"),
    "files-stars": ('files = ["train.py"]', 'files = ["**x"]', "files: '**x'"),
}


@pytest.mark.parametrize(("old", "new", "part"), BROKEN.values(), ids=BROKEN)
def test_malformed_project_is_refused_and_crashes_nothing(
    project: Path, old: str, new: str, part: str
) -> None:
    edit(project, old, new)
    assert part in faults_of(project)


@pytest.mark.parametrize(
    "text",
    [
        "entry_points: [\n",
        "3",
        "entry_points: [1]",
        "entry_points: {main: 3}",
        "entry_points: {main: {command: 3}}",
        "\xff",
    ],
    ids=["no-yaml", "number", "list", "entry", "command", "no-utf8"],
)
def test_malformed_mlproject_is_refused_and_crashes_nothing(project: Path, text: str) -> None:
    (project / "MLproject").write_bytes(text.encode("latin-1"))
    assert "MLproject cannot be read" in faults_of(project)


@pytest.mark.parametrize(
    ("contract", "document", "part"),
    [
        ("contract.json", [], "must be an object, got list"),
        ("contract.json", {"requests": 3}, "requests must be a list of objects"),
        ("contract.json", {"malformed": ["x"]}, "malformed must be a list of objects"),
        ("contract.json", {"requests": [{"file": "../outside.png"}]}, "which leaves the project"),
        ("contract.json", {"requests": [{"file": "/etc/hostname"}]}, "which leaves the project"),
        ("contract.json", {"requests": [{"file": "absent.png"}]}, "names absent.png, which is missing"),
        ("contract.json", {"requests": [{"file": ".env"}]}, "names .env, which is never packed"),
        ("../contract.json", {}, "which leaves the project"),
        ("/etc/hostname", {}, "which leaves the project"),
    ],
    ids=[
        "list",
        "requests",
        "malformed",
        "up",
        "absolute",
        "missing",
        "private",
        "contract-up",
        "contract-abs",
    ],
)
def test_malformed_contract_is_refused_and_crashes_nothing(
    project: Path, contract: str, document: object, part: str
) -> None:
    (project / "contract.json").write_text(json.dumps(document))
    (project / ".env").write_text("PASSWORD=s3cret")
    (project.parent / "contract.json").write_text("{}")
    (project.parent / "outside.png").write_bytes(b"png")
    with (project / "pyproject.toml").open("a") as file:
        file.write(f'[tool.taxiway.verification]\ncontract = "{contract}"\n')
    assert part in faults_of(project)


PRIVATE = (".venv/lib/x.py", "lib/.env.production", ".git/config", "lib/__pycache__/x.txt", ".env")


@pytest.mark.parametrize("pattern", PRIVATE)
def test_pattern_never_reaches_into_what_is_private(project: Path, pattern: str) -> None:
    for name in PRIVATE:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("")
    edit(project, 'files = ["train.py"]', 'files = ["**/*"]')
    assert set(PRIVATE).isdisjoint(read_project(project).components["training"].files)
    edit(project, 'files = ["**/*"]', f'files = ["train.py", "{pattern}"]')
    assert "matches no file that may be packed" in faults_of(project)


def test_ignored_file_is_never_packed(project: Path, settings: Settings, commit: Callable[..., str]) -> None:
    (project / ".gitignore").write_text("*.key\n")
    commit(project)
    (project / "api.key").write_text("s3cret")
    (project / "new.py").write_text("")
    edit(project, 'files = ["train.py"]\n', "")
    files = read(locate(str(project), settings)).components["training"].files
    assert "new.py" in files
    assert "api.key" not in files


def test_refusal_in_the_documentation_is_what_is_printed(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "examples" / "mine"
    folder.mkdir(parents=True)
    (folder / "train.py").write_text("")
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nrequires-python = ">=3.11"\n[dependency-groups]\ntraining = []\n'
        '[tool.taxiway]\nhandle = "Mine"\n[tool.taxiway.training]\ncommand = "python train.py"\n'
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectFaultsError) as caught:
        read(Checkout(root=Path("examples/mine")))
    assert f"```\n{caught.value}\n```" in (root / "docs" / "model-project.md").read_text(encoding="utf-8")
