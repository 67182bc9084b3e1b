"""Watches what a component reads: tells its process where to note it, reads the notes, and tells inputs from the rest.

The notes are taken inside the process by `watched/sitecustomize.py`, for Python alone. What was not seen is said.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from taxiway.packaging import source
from taxiway.runners.watched.sitecustomize import LOG, SINCE
from taxiway.tools import write_atomically
from taxiway.trace import MOST_NAMED, ReadFile, Trace

HOOK = Path(__file__).with_name("watched")
NOTES, FILES = "notes.tsv", "files.json"
MOST_CHARACTERS = 512 * 1024 * 1024
MOST_HASHED_BYTES = 64 * 1024 * 1024
MOST_LISTED, MOST_CHANGED, MOST_HOSTS, LONGEST_PATH = 10_000, 10, 10, 150
LONGEST_NAME = 40
UNDECLARED = "undeclared"
KINDS = ("start", "read", "made", "ran", "unwatched", "native", "left", "asked", "full", "lost")
_ESCAPED = re.compile(r"\\\\|\\n")
# What programs remember or are told by their user, below the home folder; nothing of it is data. Caches of downloaded
# models and data sets (huggingface, torch, keras) are not among them, on purpose.
CACHES = (
    *(".cache/matplotlib", ".cache/fontconfig", ".cache/numba", ".cache/mesa_shader_cache", ".cache/pip"),
    ".cache/uv",
    *(".config", ".fontconfig", ".fonts.conf", ".local/share/fonts", ".matplotlib", ".numba", ".triton"),
    *(".gitconfig", ".netrc", ".databrickscfg", ".pypirc"),
)
# What libraries start by themselves: to learn what the machine is and which code this is, to compile their kernels and
# to find fonts; and what a shell does that reads no file. None of it puts data into a model.
HARMLESS = frozenset(
    {
        *("arch", "file", "getconf", "hostname", "id", "ldconfig", "lsb_release", "lscpu", "nproc", "sysctl"),
        *(
            "uname",
            "which",
            "whoami",
            "nvidia-smi",
            "rocm-smi",
            "rocminfo",
            "rocm_agent_enumerator",
            "hipconfig",
        ),
        *("git", "fc-list", "fc-match"),
        *(
            "ar",
            "as",
            "c++",
            "cc",
            "clang",
            "clang++",
            "collect2",
            "g++",
            "gcc",
            "gfortran",
            "ld",
            "ld.lld",
            "nm",
        ),
        *("ninja", "objdump", "readelf", "strip", "cuobjdump", "hipcc", "nvcc", "nvdisasm", "ptxas"),
        *("cd", "chmod", "clear", "echo", "exit", "false", "kill", "mkdir", "printf", "rm", "sleep", "stty"),
        *("tput", "true"),
    }
)
# The same by the name of a machine or of a version: `x86_64-linux-gnu-gcc-12`.
_BARE = re.compile(r"^(?:[\w.]+-(?:[\w.]+-)?linux-gnu-)?(?P<name>.+?)(?:-\d+(?:\.\d+)*)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What the hook noted.

    Attributes:
        parents: Process id of the parent of each Python that was watched.
        read: Files that were read, in order, each once; what the run had made before is left out.
        programs: Programs that were started and are not watched.
        pythons: Pythons that were started and are not watched.
        readers: Libraries that were loaded and open files by themselves.
        has_left: Whether `PYTHONPATH` was set to something that leaves the hook out.
        hosts: Hosts that were asked for.
        is_complete: Whether all files that it read and made are here.
        is_lost: Whether one may be missing that is none of its inputs, or a program.
    """

    parents: tuple[int, ...]
    read: tuple[str, ...]
    programs: tuple[str, ...]
    pythons: tuple[str, ...]
    readers: tuple[str, ...]
    has_left: bool
    hosts: tuple[str, ...]
    is_complete: bool
    is_lost: bool


def environment(folder: Path, since_s: float, python_path: str = "") -> dict[str, str]:
    """Return the variables under which a component's processes note what they read.

    Args:
        folder: The job's; the notes are kept in it.
        since_s: When the job began, in seconds since the epoch: temporary files that are younger are its own.
        python_path: `PYTHONPATH` that it would have had.
    """
    path = os.pathsep.join(filter(None, (str(HOOK), python_path)))
    return {"PYTHONPATH": path, LOG: str(folder / NOTES), SINCE: f"{since_s:.6f}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The source of a job at one moment: the hash of the whole, and of each of its files."""

    hash: str
    files: Mapping[str, str]


def code(folder: Path) -> Code:
    """Return what the source in a folder is now."""
    names = source.listing(folder)
    files = {name: source.content_hash(folder, [name]) for name in names}
    return Code(hash=source.content_hash(folder, names), files=files)


def trace(
    folder: Path,
    inputs: Mapping[str, Path | None],
    *,
    started: Code,
    ended: Code,
    guardian: int,
    home: Path | None,
    vouched: Iterable[str] = (),
) -> Trace:
    """Return what was seen of a job that has ended, and keep the list of its files beside its output.

    Args:
        folder: The job's folder: what lies there is its own.
        inputs: The folder of each declared input, by the kind of its files.
        started: Its source just before the start.
        ended: Its source after the end.
        guardian: Process id of what started the component: tells whether the component itself was watched.
        home: Home folder of the user, whose caches are no inputs.
        vouched: Programs of which the project says that they read nothing but declared inputs.
    """
    notes, named = _notes(folder / NOTES), frozenset(vouched)
    kinds = {path: _kind(Path(path), folder.resolve(), inputs, home) for path in notes.read}
    undeclared = [path for path, kind in kinds.items() if kind == UNDECLARED]
    listed = dict(list(kinds.items())[:MOST_LISTED])
    write_atomically(folder / FILES, json.dumps({"count": len(kinds), "files": listed}, indent=1))
    is_watched = guardian in notes.parents
    changed = [name for name, found in started.files.items() if ended.files.get(name) != found]
    return Trace(
        source_hash=started.hash,
        changed=tuple(changed[:MOST_CHANGED]),
        method="audit hook" if is_watched else "none",
        read=dict(Counter(kind for kind in kinds.values() if kind != UNDECLARED)),
        undeclared=tuple(_read_file(Path(path)) for path in undeclared[:MOST_NAMED]),
        undeclared_count=len(undeclared),
        unwatched=notes.pythons[:MOST_CHANGED],
        programs=_few(each for each in notes.programs if not _is_harmless(each) and each not in named),
        has_lost=notes.is_lost,
        unseen=tuple(_unseen(notes, named)),
        hosts=notes.hosts[:MOST_HOSTS],
    )


def _kind(path: Path, own: Path, inputs: Mapping[str, Path | None], home: Path | None) -> str:
    for kind, place in inputs.items():
        if place is not None and path.is_relative_to(place.resolve()):
            return kind
    if path.is_relative_to(own):
        return "source" if path.is_relative_to(own / "source") else "output"
    if home and any(path.is_relative_to(home.resolve() / cache) for cache in CACHES):
        return "cache"
    return UNDECLARED


def _read_file(path: Path) -> ReadFile:
    """Hash what anybody on this host may read: the hash of a short secret would tell it."""
    name = str(path) if len(str(path)) <= LONGEST_PATH else f"…{str(path)[1 - LONGEST_PATH :]}"
    try:
        found = path.stat()
        if not found.st_mode & 0o004 or found.st_size > MOST_HASHED_BYTES:
            return ReadFile(path=name)
        with path.open("rb") as file:
            return ReadFile(path=name, sha256=hashlib.file_digest(file, "sha256").hexdigest())
    except OSError:
        return ReadFile(path=name)


def _is_harmless(program: str) -> bool:
    match = _BARE.match(program)
    return program in HARMLESS or (match is not None and match["name"] in HARMLESS)


def _unseen(notes: Notes, vouched: Collection[str]) -> Iterator[str]:
    if notes.readers:
        yield f"it loaded libraries that open files by themselves: {', '.join(notes.readers)}"
    if notes.has_left:
        yield "it took the watch out of PYTHONPATH: what multiprocessing spawned after that was not watched"
    named = _few(each for each in notes.programs if each in vouched)
    if named:
        yield f"its project vouches for programs that it started, whose reads nobody sees: {', '.join(named)}"
    harmless = _few(each for each in notes.programs if _is_harmless(each) and each not in vouched)
    if harmless:
        yield f"it started programs whose reads nobody sees: {', '.join(harmless)}"
    if not notes.is_complete:
        yield "it read more files than are noted"


def _few(programs: Iterable[str]) -> tuple[str, ...]:
    return tuple(each[:LONGEST_NAME] for each in islice(programs, MOST_CHANGED))


def _notes(path: Path) -> Notes:
    """Read the notes, each once: processes that begin one after the other note the same files again and again."""
    found: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
    for line in dict.fromkeys(_lines(path)):
        kind, _, value = line.partition("\t")
        if kind == "read" and _is_own(value, found["made"]):
            continue
        # An old one was there before the run, whatever it seemed to make under that name.
        kind = "read" if kind == "old" else kind
        if kind in found:
            found[kind].setdefault(_ESCAPED.sub(_unescaped, value))
    return Notes(
        parents=tuple(int(pids.split()[-1]) for pids in found["start"]),
        read=tuple(found["read"]),
        programs=tuple(found["ran"]),
        pythons=tuple(found["unwatched"]),
        readers=tuple(found["native"]),
        has_left=bool(found["left"]),
        hosts=tuple(found["asked"]),
        is_complete=not found["full"] and not found["lost"],
        is_lost=bool(found["lost"]),
    )


def _is_own(path: str, made: Mapping[str, None]) -> bool:
    return path in made or any(str(parent) in made for parent in Path(path).parents)


def _lines(path: Path) -> Iterator[str]:
    """Yield the notes; the last line of a process that was killed may be cut short, and is no note."""
    left = MOST_CHARACTERS
    with (
        suppress(FileNotFoundError),
        path.open("r", encoding="utf-8", errors="replace", newline="\n") as file,
    ):
        for line in file:
            left -= len(line)
            if left < 0:
                yield "lost\t"
                return
            if line.endswith("\n"):
                yield line[:-1]


def _unescaped(match: re.Match[str]) -> str:
    return {"\\\\": "\\", "\\n": "\n"}[match[0]]
