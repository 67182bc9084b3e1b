"""The copy of the checkout's DAGs and model projects that the trial's Airflow reads.

It is a Git repository with a commit per step of the story, as a team would commit. The checkout is never written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from taxiway import tools

_FOLDERS = ("dags", "examples")
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".ipynb_checkpoints")
# The user's own identity, hooks and signing must not reach into this repository.
_GIT = (
    *("git", "-c", "user.name=Taxiway trial", "-c", "user.email=trial@taxiway.invalid"),
    *("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null", "-c", "core.excludesFile="),
)


class Bundle:
    """A Git repository of DAGs and model projects.

    Args:
        folder: Where the repository is, or shall be.
        checkout: Where the DAGs and projects come from.
    """

    def __init__(self, folder: Path, checkout: Path) -> None:
        self._folder, self._checkout = folder, checkout

    def reset(self) -> None:
        """Make the bundle what the checkout is now, and commit that."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / ".git").exists():
            self._git("init", "--quiet", "--initial-branch=main")
        for name in _FOLDERS:
            self._copy(self._checkout / name, self._folder / name)
        self._commit("Recognise handwritten digits")

    def overlay(self, overlay: str, project: str, message: str) -> None:
        """Put the files of one folder of `examples/` over a project there, and commit that.

        Args:
            overlay: Folder below `examples/` whose files replace the project's.
            project: Folder below `examples/` that is changed.
            message: Of the commit.
        """
        source = self._checkout / "examples" / overlay
        target = self._folder / "examples" / project
        shutil.copytree(source, target, ignore=_IGNORED, dirs_exist_ok=True)
        self._commit(message)

    def _copy(self, source: Path, target: Path) -> None:
        tools.remove(target)
        shutil.copytree(source, target, ignore=_IGNORED)

    def _commit(self, message: str) -> None:
        self._git("add", "--all")
        if self._git("status", "--porcelain"):
            self._git("commit", "--quiet", "--message", message)

    def _git(self, *arguments: str) -> str:
        return tools.run((*_GIT, *arguments), cwd=self._folder)
