"""What a user can name has a place in the documentation: operators and their arguments, settings, commands."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANES = (ROOT / "operators" / "taxiway", ROOT / "serving" / "taxiway_serving")
OPERATOR_FILES = sorted((ROOT / "operators" / "taxiway" / "operators").glob("[!_]*.py"))

NAMED = ("Operator", "Hook", "Sensor", "Notifier")

# A default connection's name as Airflow's environment spells it, and no setting.
NOT_SETTINGS = {"TAXIWAY_DEFAULT"}


def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def operators() -> dict[str, ast.ClassDef]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in OPERATOR_FILES)
    classes = (node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    return {node.name: node for node in classes if node.name.endswith(NAMED)}


def settings() -> set[str]:
    sources = "\n".join(path.read_text(encoding="utf-8") for plane in PLANES for path in plane.rglob("*.py"))
    return set(re.findall(r"\bTAXIWAY_[A-Z]+(?:_[A-Z]+)*\b", sources)) - NOT_SETTINGS


def make_targets() -> set[str]:
    return set(
        re.findall(r"^([a-z][a-z-]*):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )


@pytest.mark.parametrize("name", sorted(set(operators()) - {"TaxiwayOperator"}))
def test_operator_has_a_heading(name: str) -> None:
    assert re.search(rf"^## {name}$", text("operators.md"), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(operators()) - {"TaxiwayOperator", "TaxiwayHook"}))
def test_operator_docstring_explains_every_argument(name: str) -> None:
    node = operators()[name]
    made = next(item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
    docstring = ast.get_docstring(node) or ""
    unexplained = [a.arg for a in made.args.kwonlyargs if f"\n    {a.arg}: " not in docstring]
    assert not unexplained


@pytest.mark.parametrize("name", sorted(settings()))
def test_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in text("settings.md")


@pytest.mark.parametrize("name", sorted(make_targets()))
def test_command_is_documented(name: str) -> None:
    assert f"`make {name}`" in text("development.md")


def test_every_decision_says_what_and_why() -> None:
    for path in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        page = path.read_text(encoding="utf-8")
        assert re.match(rf"# {int(path.name[:4])}\. ", page), path.name
        assert all(f"\n## {part}\n" in page for part in ("Decision", "Why", "Price")), path.name


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "serving" / "README.md"]:
        targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
        missing = [target for target in targets if not (page.parent / target).exists()]
        assert not missing, f"{page.name}: {missing}"
