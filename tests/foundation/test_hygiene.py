"""The repository holds no address of a registry and no path of anybody's machine."""

import re
import subprocess
from pathlib import Path

import pytest

# Written in parts, so that this file does not find itself.
REGISTRY_HOSTS = (
    "py" + "pi.org",
    "python" + "hosted",
    "registry." + "npm",
    "deb." + "debian",
    "snapshot." + "debian",
)
MACHINE_FOLDERS = ("work", "root", "home", "Users")
MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(?:" + "|".join(MACHINE_FOLDERS) + r")/[\w.]")
TEXT_SUFFIXES = {"", ".cfg", ".ipynb", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}


def committed_texts(root: Path) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [root / name for name in listed if name]
    return [path for path in paths if path.is_file() and path.suffix in TEXT_SUFFIXES]


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(re.compile("|".join(map(re.escape, REGISTRY_HOSTS))), id="registry_host"),
        pytest.param(MACHINE_PATH, id="machine_path"),
        pytest.param(re.compile(r"\.\./" + "shared/"), id="folder_beside_the_repository"),
    ],
)
def test_repository_names_none(root: Path, pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()[:80]}"
        for path in committed_texts(root)
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1
        )
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_constraints_pin_every_line(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    unpinned = [line for line in lines if line and not line.startswith("#") and "==" not in line]
    assert not unpinned


def test_metadata_of_both_distributions_agrees(root: Path) -> None:
    import tomllib

    provider = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    serving = tomllib.loads((root / "serving" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert provider["license"] == serving["license"] == "Apache-2.0"
    assert f"taxiway-serving[docker]=={serving['version']}" in provider["dependencies"]
    assert provider["version"] == serving["version"]
