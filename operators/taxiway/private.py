"""Which names in a project's folder never leave it: version control, caches, environments, files of secrets."""

from pathlib import PurePosixPath

NEVER_PACKED = frozenset(
    {
        ".dvc",
        ".env",
        ".git",
        ".hg",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".trial",
        ".venv",
        "__pycache__",
        "mlruns",
        "node_modules",
        "venv",
    }
)


def is_private(name: str) -> bool:
    """Tell whether a file, relative to its project, is one that is neither packed nor shown."""
    parts = PurePosixPath(name).parts
    return name.endswith(".pyc") or any(part in NEVER_PACKED or part.startswith(".env.") for part in parts)
