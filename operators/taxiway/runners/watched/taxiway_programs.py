"""What a program is that a component starts: what a shell's line starts, and whether it is Python, which is watched.

Loaded by `sitecustomize.py` in the component's own process: nothing but the standard library, of any version of Python,
is used here. Whether a program's reads matter is decided in `runners/watch.py`.
"""

# ruff: noqa: PTH113, PTH117, PTH118, PTH119 - each import slows every start

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHELLS = ("sh", "bash", "dash")
MOST_HEAD = 512
# A shell reads what these name, or starts what is written nowhere in its line.
_SIGNS, _BETWEEN = "$`<\n", frozenset("|&;()")
_OUTSIDE, _ENDING, _WITH_VALUE = "IES", "cm", "WX"


def text(value: Any) -> str | None:
    """Return what names a file or a program, or None of a descriptor."""
    if isinstance(value, int) or value is None:
        return None
    return os.fsdecode(value)


def started(program: Any, args: Any, environment: Any) -> list[list[Any]]:
    """Return the words of each command that is started, the first of them where it lies, as far as that is known.

    Args:
        program: What is started, or None where the first argument says it.
        args: Its arguments with its own name, or that name alone.
        environment: Variables that it is given.

    Returns:
        Of a shell's line, where it is plain, what that starts; nothing where there is no program of the name.
    """
    words = [args] if isinstance(args, (str, bytes)) else list(args or ())
    first = text(program) or text(words[0]) or ""
    is_line = os.path.basename(first) in SHELLS and len(words) == 3 and text(words[1]) == "-c"
    lines = _commands(text(words[2]) or "") if is_line else []
    if lines:
        # What is on no path, the shell may know by itself.
        return [[_place_of(name, environment) or name, *rest] for name, *rest in lines]
    place = _place_of(first, environment)
    return [] if place is None else [[place, *words[1:]]]


def _commands(line: str) -> list[list[Any]]:
    """Return the words of each command in a shell's line; nothing where it may read or do more than start them."""
    import shlex

    if any(sign in line for sign in _SIGNS):
        return []
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    found: list[list[Any]] = [[]]
    try:
        for word in reader:
            if _BETWEEN.issuperset(word):
                found.append([])
            else:
                found[-1].append(word)
    except ValueError:
        return []
    commands = [words for words in found if words]
    # A variable may change what is started, and its value is nobody's business.
    return [] if any("=" in words[0] for words in commands) else commands


def _place_of(program: str, environment: Any) -> str | None:
    """Return where a program lies, or None where there is none; one beside another folder is taken to be there."""
    if os.sep in program and not os.path.isabs(program):
        return program
    folders = [""] if os.path.isabs(program) else [*os.get_exec_path(environment), os.curdir]
    places = [os.path.join(folder, program) for folder in folders]
    return next((place for place in places if os.path.isfile(place)), None)


def python_of(head: bytes) -> list[str]:
    """Return the words by which a script asks for Python, from how the script begins; of another program, none."""
    lines = os.fsdecode(head).split("\n")
    if not lines[0].startswith("#!"):
        return []
    # So begins what pip writes where the path of Python is too long, or has a space in it.
    line = lines[1] if lines[1:] and lines[1].startswith("'''exec'") else lines[0][2:]
    words = [word.strip("'\"") for word in line.split()]
    names = [is_python(word) for word in words]
    return words[names.index(True) :] if True in names else []


def is_python(program: str) -> bool:
    """Tell by its name whether a program is Python."""
    return os.path.basename(program).startswith("python")


def is_outside(words: list[Any]) -> bool:
    """Tell whether Python's own options, which end where the script or its command begins, keep the hook out."""
    rest = iter([text(word) or "" for word in words])
    for word in rest:
        if not word.startswith("-") or word.startswith("--"):
            return False
        for place, letter in enumerate(word):
            if letter in _OUTSIDE:
                return True
            if letter in _ENDING:
                return False
            if letter in _WITH_VALUE:
                if place == len(word) - 1:
                    next(rest, None)
                break
    return False
