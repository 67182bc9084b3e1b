"""The generations of a folder that is used while another one takes its place: `<name>`, `<name>.1`, `<name>.2`, ….

The newest is the current one. Whoever uses one keeps a lock on it. One that nobody uses any more becomes a link to the
current one: what remembers its path, such as a variant that is started again, finds the same packages there. What is in
them is decided in `environment.py`.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from taxiway.tools import claimed, scratch_folder


def every(first: Path) -> list[Path]:
    """Return the generations that are there, the oldest first.

    Args:
        first: The path of the first one, which need not be there.
    """
    return [path for _, path in sorted(_numbered(first)) if not path.is_symlink()]


def is_settled(first: Path) -> bool:
    """Tell whether nothing is left to sweep: one generation is there, and links are in the place of all before it."""
    found = dict(_numbered(first))
    is_whole = found.keys() == set(range(len(found)))
    return is_whole and sum(not path.is_symlink() for path in found.values()) == 1


def following(first: Path) -> Path:
    """Return the path of the next generation."""
    number = max((number for number, _ in _numbered(first)), default=-1) + 1
    return _nth(first, number)


def _nth(first: Path, number: int) -> Path:
    return first.with_name(f"{first.name}.{number}") if number else first


def sweep(first: Path, current: Path) -> None:
    """Let every generation that nobody uses be a link to the current one; call it under a lock of `first`."""
    for _, path in sorted(_numbered(first)):
        if path.is_symlink():
            _link(path, current)
        elif path != current:
            # Whoever uses it holds it: it is retired another time.
            with contextlib.suppress(BlockingIOError), claimed(path):
                if not _is_run(path):
                    _retire(path, current)
    known = {number for number, _ in _numbered(first)}
    for number in set(range(max(known, default=0))) - known:
        # Whoever retired it was killed before the link took its place.
        _link(_nth(first, number), current)


def _numbered(first: Path) -> Iterator[tuple[int, Path]]:
    for path in first.parent.glob(f"{first.name}*"):
        number = path.name.removeprefix(first.name)
        is_one = not number or number.removeprefix(".").isdecimal()
        if is_one and (path.is_symlink() or path.is_dir()):
            yield int(number.removeprefix(".") or 0), path


def _retire(path: Path, current: Path) -> None:
    with scratch_folder(path.parent, path.name) as scratch:
        os.rename(path, scratch / path.name)
        _link(path, current)


def _link(path: Path, current: Path) -> None:
    if path.is_symlink() and str(path.readlink()) == current.name:
        return
    # One name, since the lock of the first is held: a killed call leaves one that the next takes away.
    draft = path.with_name(f"{path.name}.link")
    draft.unlink(missing_ok=True)
    draft.symlink_to(current.name)
    os.replace(draft, path)


def _is_run(folder: Path) -> bool:
    """Tell whether a process runs a program of a folder's `bin`: a variant is served by one that keeps no lock.

    It looks where Linux shows processes; elsewhere, as in another container, none is seen.
    """
    own = folder.stat()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        # It has ended meanwhile, or it is another user's.
        with contextlib.suppress(OSError):
            program = Path(os.fsdecode(command.read_bytes().partition(b"\0")[0]))
            if program.is_absolute() and os.path.samestat(program.parent.parent.stat(), own):
                return True
    return False
