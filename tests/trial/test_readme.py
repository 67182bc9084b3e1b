"""What the README and the trial's page promise is there: links, the DAG's lines, the sample, the fields."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from taxiway.trial.summary import Summary

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/trial.md"]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def operators(code: str) -> dict[str, dict[str, str]]:
    """Return each task's operator and arguments by the name that it is assigned to."""
    found = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            (target,) = node.targets
            arguments = {str(keyword.arg): ast.unparse(keyword.value) for keyword in node.value.keywords}
            found[ast.unparse(target)] = arguments | {"operator": ast.unparse(node.value.func)}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_page_links_to_what_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]

    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]

    assert links
    assert not missing


def test_readme_shows_the_dag_as_it_is() -> None:
    (shown,) = blocks("README.md", "python")
    real = operators((ROOT / "dags" / "taxiway_visual_recognition.py").read_text(encoding="utf-8"))

    for name, arguments in operators(shown).items():
        assert arguments.items() <= real[name].items()


def test_readme_names_the_two_commands_that_do_everything() -> None:
    (commands,) = blocks("README.md", "sh")
    targets = re.findall(r"^make (\S+)$", commands, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert targets == ["trial", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_trial_page_explains_every_field_of_the_summary() -> None:
    text = (ROOT / "docs" / "trial.md").read_text(encoding="utf-8")

    assert [field.name for field in fields(Summary) if f"`{field.name}`" not in text] == []
