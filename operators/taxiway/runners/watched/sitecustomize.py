"""Notes which files a component opens, from inside its process; `runners/watch.py` reads the notes.

Python imports a module of this name when it starts; one that the environment has of its own is run as well. Nothing
but the standard library is used here, of any version of Python. The hook cannot be taken away again, goes along with
a fork, and reaches children of Python by `PYTHONPATH`, which a child that is given another one gets back.
"""

# ruff: noqa: PTH100, PTH109, PTH112, PTH113, PTH114, PTH116, PTH118, PTH119, PTH120 - each import slows every start

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any
if TYPE_CHECKING or __package__:
    from taxiway.runners.watched import taxiway_programs as programs
else:
    import taxiway_programs as programs

LOG, SINCE = "TAXIWAY_WATCH_LOG", "TAXIWAY_WATCH_SINCE"
MOST_NOTES = 20_000
# By how much the clock of a disk may be behind: what is older than the run by more was not made by it.
CLOCKS_S = 5.0
# Code and configuration of the machine, and what the kernel shows of itself. Data may lie in the rest of `/usr` and
# `/run`: below `/usr/local/airflow`, on a disk that a desktop mounts.
SYSTEM = (
    *("/bin", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin", "/sys", "/var/cache"),
    *("/run/NetworkManager", "/run/resolvconf", "/run/secrets", "/run/systemd"),
    *("/usr/bin", "/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/sbin"),
    *("/usr/local/bin", "/usr/local/etc", "/usr/local/include", "/usr/local/lib", "/usr/local/lib64"),
    *("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero", "/dev/tty", "/dev/pts"),
)
# What the machine shares with all that run on it; a folder that is none of these may hold anybody's data.
SHARED = (
    *("ca-certificates", "fontconfig", "fonts", "glib-2.0", "glvnd", "hwdata", "i18n", "icu", "locale"),
    *("mime", "misc", "nvidia", "vulkan"),
    *("proj", "python3", "python-wheels", "ssl", "tcltk", "terminfo", "X11", "zoneinfo"),
)
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - where others' files are told from the run's own by their age
INPUTS = ("TAXIWAY_DATA_DIR", "TAXIWAY_SOURCE_MODELS_DIR", "TAXIWAY_MODEL_DIR", "TAXIWAY_SECRETS_DIR")
OUTPUT = "TAXIWAY_OUTPUT_DIR"
# Their code, which is not Python, opens files by itself.
NATIVE = (
    *("cv2", "decord", "duckdb", "fiona", "h5py", "lightgbm", "lmdb", "netCDF4", "onnxruntime", "osgeo"),
    *("polars", "pyarrow", "rasterio", "safetensors", "soundfile", "tables", "tensorflow", "tokenizers"),
    *("torchaudio", "torchvision", "xgboost"),
)
_HERE = os.path.dirname(os.path.abspath(__file__))


class Watch:
    """Writes one line for each file that was read or made, each program that was started, each host that was asked for.

    Where to write is read when the process starts, and again when a forked one begins a job: what the script does to
    its environment changes nothing.
    """

    def __init__(self) -> None:
        self._noted: dict[tuple[str, str, bool], set[str]] = {}
        self._mine: set[str] = set()
        self._peeked: set[int] = set()
        self._own = _folders(_interpreter())
        self._quiet = _folders([*_interpreter(), *SYSTEM, *_shared()])
        self._temporary = _folders([*TEMPORARY, os.environ.get("TMPDIR", "")])
        self._real: dict[str, str] = {}
        self._look()

    def _look(self) -> None:
        """Take the log and the folders of the job from the environment."""
        self._log, self._since = os.environ[LOG], float(os.environ.get(SINCE, "inf"))
        self._inputs = _folders([os.environ.get(name, "") for name in INPUTS])
        self._declared = (*self._inputs, *_folders([os.environ.get(OUTPUT, ""), os.getcwd()]))

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """Take part in whatever Python audits; only a note that cannot be written stops what is watched."""
        act = _ACTS.get(event)
        if act is None:
            return
        try:
            act(self, *args)
        except (TypeError, ValueError, AttributeError, LookupError):
            return

    def start(self) -> None:
        self._note("start", f"{os.getpid()} {os.getppid()}")

    def began(self, *_: Any) -> None:
        """A process that was forked begins a job: its environment and its folder are that job's by now."""
        self._look()
        self.start()

    def opened(self, path: Any, mode: Any, flags: int, *_: Any) -> None:
        name = programs.text(path)
        if name is None or name == self._log or id(path) in self._peeked:
            return
        self._used(name, flags)
        # `os.open`, which alone has no mode, does not tell of its `dir_fd`.
        for folder in _open_folders() if mode is None and not name.startswith(os.sep) else ():
            if self._found(os.path.join(folder, name)) is not None:
                self._used(os.path.join(folder, name), flags)

    def _used(self, name: str, flags: int) -> None:
        found, mode = self._found(name), flags & os.O_ACCMODE
        if found is None:
            if flags & os.O_CREAT and not os.path.lexists(name):
                self._made(name)
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            return
        elif mode != os.O_RDONLY and (flags & os.O_TRUNC or not found.st_size):
            if os.access(name, os.W_OK):
                self._made(name)
        elif mode != os.O_WRONLY:
            self._read(name, found)

    def loaded(self, path: Any, *_: Any) -> None:
        name = programs.text(path)
        found = self._found(name) if name and os.sep in name else None
        if name and found:
            self._read(name, found)

    def imported(self, name: Any, path: Any, *_: Any) -> None:
        self.loaded(path)
        # Only what is loaded from a file is known to be there at all.
        reader = next((each for each in NATIVE if str(name).lstrip("_").startswith(each)), None)
        if path is not None and reader is not None:
            self._note("native", reader)

    def moved(self, before: Any, after: Any, here: int = -1, there: int = -1) -> None:
        """What gets another name is read under its old one; under the new one it is the run's own."""
        old, new = _at(before, here), _at(after, there)
        self.loaded(os.path.abspath(old))
        if os.path.lexists(old) and not os.path.isdir(new):
            self._made(new)

    def linked(self, before: Any, after: Any, here: int = -1, there: int = -1) -> None:
        """Python tells of it beforehand: where there is a file of that name it will fail, and that is another's."""
        if os.path.lexists(_at(after, there)):
            self.loaded(os.path.abspath(_at(before, here)))
        else:
            self.moved(before, after, here, there)

    def connected(self, path: Any, *_: Any) -> None:
        name = programs.text(path) or ""
        for each in {name, _path_of(name)} if name else ():
            self.loaded(os.path.abspath(each))
        # It opens by itself what a query attaches.
        self._note("native", "sqlite3")

    def folder_made(self, path: Any, _mode: Any = None, folder: int = -1) -> None:
        name = _at(path, folder)
        if name and not os.path.lexists(name):
            self._made(name)

    def ran(self, program: Any, args: Any, _folder: Any, environment: Any) -> None:
        self._started(program, args, os.environ if environment is None else environment)

    def executed(self, program: Any, args: Any, environment: Any) -> None:
        # What was given has been taken over before Python tells of it.
        self._started(program, args, os.environ if environment is None else dict(environment), is_late=True)

    def _started(self, program: Any, args: Any, environment: Any, *, is_late: bool = False) -> None:
        for place, *words in programs.started(program, args, environment):
            name = os.path.basename(place)
            script = [] if programs.is_python(name) else programs.python_of(self._head(place))
            if not script and not programs.is_python(name):
                self._note("ran", name)
            elif programs.is_outside([*script[1:], place] if script else words) or not (
                self._is_watched(environment) or (not is_late and self._watch(environment))
            ):
                self._note("unwatched", name)

    def _head(self, place: str) -> bytes:
        """Return how a program begins; that it is looked into is no read of the component's."""
        self._peeked.add(id(place))
        try:
            file = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return b""
        finally:
            self._peeked.discard(id(place))
        try:
            return os.read(file, programs.MOST_HEAD)
        except OSError:
            return b""
        finally:
            os.close(file)

    def _is_watched(self, environment: Any) -> bool:
        folders = str(environment.get("PYTHONPATH", "")).split(os.pathsep)
        return environment.get(LOG) == self._log and _HERE in folders

    def _watch(self, environment: Any) -> bool:
        """Have a child watched that is given an environment without it; tell whether that can be done."""
        if not isinstance(environment, (dict, type(os.environ))):
            return False
        if any(isinstance(name, bytes) for name in environment):
            return False
        given = str(environment.get("PYTHONPATH", ""))
        environment["PYTHONPATH"] = os.pathsep.join((_HERE, given)) if given else _HERE
        environment[LOG], environment[SINCE] = self._log, f"{self._since:.6f}"
        return True

    def variable_set(self, name: Any, value: Any) -> None:
        folders = (programs.text(value) or "").split(os.pathsep)
        if programs.text(name) == "PYTHONPATH" and _HERE not in folders:
            self._note("left", "PYTHONPATH")

    def shell(self, command: Any) -> None:
        self._started("sh", ["sh", "-c", command], os.environ)

    def asked(self, host: Any, port: Any, *_: Any) -> None:
        if host:
            self._note("asked", f"{programs.text(host)}:{port}")

    def _found(self, name: str) -> os.stat_result | None:
        try:
            found = os.stat(name)
        except OSError:
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def _read(self, name: str, found: os.stat_result) -> None:
        path = self._resolved(name)
        is_declared = path.startswith(self._declared)
        if path.startswith(self._quiet) and not is_declared:
            return
        kind = "read"
        if not is_declared:
            if found.st_ctime < self._since - CLOCKS_S:
                kind = "old"
            elif self._is_own(path) or (found.st_ctime >= self._since and path.startswith(self._temporary)):
                return
        self._note(kind, path)

    def _made(self, name: str) -> None:
        """Note what is the run's own by now; what it was given never is."""
        path = self._resolved(name)
        if not path.startswith((*self._quiet, *self._inputs)) and not self._is_own(path):
            self._mine.add(path)
            self._note("made", path)

    def _is_own(self, path: str) -> bool:
        """Tell whether this process made it, or a folder that it lies in."""
        while self._mine and len(path) > 1:
            if path in self._mine:
                return True
            path = os.path.dirname(path)
        return False

    def _resolved(self, name: str) -> str:
        whole = os.path.abspath(name)
        if whole.startswith(self._own):
            return whole
        # A folder that anybody may replace by a link is looked at each time.
        if not whole.startswith(self._inputs):
            return os.path.realpath(whole)
        folder, file = os.path.split(whole)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        path = os.path.join(self._real[folder], file)
        return os.path.realpath(path) if os.path.islink(path) else path

    def _note(self, kind: str, text: str) -> None:
        # Each is counted apart: the many files of a dataset, or those that it made, must not hide another one.
        is_declared = text.startswith(self._declared)
        noted = self._noted.setdefault((self._log, kind, is_declared), set())
        if text in noted or len(noted) > MOST_NOTES:
            return
        noted.add(text)
        if len(noted) > MOST_NOTES:
            kind = "full" if is_declared or kind == "made" else "lost"
        _append(self._log, kind + "\t" + text)


_ACTS: dict[str, Callable[..., None]] = {
    "open": Watch.opened,
    "import": Watch.imported,
    "ctypes.dlopen": Watch.loaded,
    "sqlite3.connect": Watch.connected,
    "os.rename": Watch.moved,
    "os.link": Watch.linked,
    "os.mkdir": Watch.folder_made,
    "os.putenv": Watch.variable_set,
    "subprocess.Popen": Watch.ran,
    "os.exec": Watch.executed,
    "os.posix_spawn": Watch.executed,
    "os.system": Watch.shell,
    "socket.getaddrinfo": Watch.asked,
    "taxiway.job": Watch.began,
}


def _append(log: str, line: str) -> None:
    """Write a line in one call, so that the lines of several processes never mix, and a kill leaves whole ones."""
    data = line.replace("\\", "\\\\").replace("\n", "\\n").encode("utf-8", "surrogateescape") + b"\n"
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, data)
    finally:
        os.close(file)


def _at(path: Any, folder: int) -> str:
    """Return a name as it is meant beside an open folder; -1 is none."""
    name = programs.text(path) or ""
    return os.path.join(os.path.realpath(f"/proc/self/fd/{folder}"), name) if name and folder >= 0 else name


def _path_of(name: str) -> str:
    """Return where the database lies that a URI of SQLite's names; of what is no URI, the name."""
    if not name.startswith("file:"):
        return name
    from urllib.parse import unquote

    path = name.removeprefix("file:").partition("?")[0].partition("#")[0]
    return unquote("/" + path[2:].partition("/")[2] if path.startswith("//") else path)


def _folders(paths: list[str]) -> tuple[str, ...]:
    """Return what the names of files below these begin with, of the folders and of what they link to."""
    given = {path for path in paths if path}
    whole = {os.path.abspath(path) for path in given} | {os.path.realpath(path) for path in given}
    return tuple(sorted(path if os.path.isfile(path) else path.rstrip(os.sep) + os.sep for path in whole))


def _open_folders() -> list[str]:
    """Return the folders that this process holds open, where the system shows them."""
    try:
        links = ["/proc/self/fd/" + each for each in os.listdir("/proc/self/fd")]
    except OSError:
        return []
    return [os.path.realpath(link) for link in links if os.path.isdir(link)]


def _interpreter() -> list[str]:
    """Return where code of the environment and of Python lies: the lock and the Python of the package cover it."""
    found = [os.path.dirname(os.__file__)] + ([sys.prefix] if sys.prefix != sys.base_prefix else [])
    places = ("lib", "lib64", "bin", "include", "etc", "ssl")
    shared = () if sys.base_prefix in ("/usr", "/usr/local") else ("share",)
    return [*found, *(os.path.join(sys.base_prefix, place) for place in (*places, *shared))]


def _shared() -> list[str]:
    shared = [os.path.join(root, name) for root in ("/usr/share", "/usr/local/share") for name in SHARED]
    return [*shared, *_accelerators()]


def _accelerators() -> list[str]:
    """Return where libraries of accelerators lie, which come with the machine and read files of their own."""
    found = ["/opt/nvidia", "/opt/rocm", "/usr/local/nvidia", "/run/nvidia-persistenced"]
    try:
        return found + ["/usr/local/" + name for name in os.listdir("/usr/local") if name.startswith("cuda")]
    except OSError:
        return found


def _chain() -> None:
    """Run the `sitecustomize` that would have run without this one."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or ".") != os.path.realpath(here)]
    ours = sys.modules.pop(__name__, None)
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


if __name__ == "sitecustomize":
    if os.environ.get(LOG):
        _watch = Watch()
        _watch.start()
        sys.addaudithook(_watch.hook)
    _chain()
