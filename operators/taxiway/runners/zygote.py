"""Imports what a training script imports, then forks a process for each job, which costs its work and not its imports.

Run as a script by the interpreter of the package, with nothing but the standard library of Python 3.9 or newer:
`python zygote.py <socket> <caller's pid> <folder of the source> <arguments of python…>`. It imports no code of the
package itself, has one thread, and ends when its caller does. A job is told by one byte with its descriptors: a socket
of its own, where it prints, locks that it holds. The caller's end of that socket is the job's life: closed, it ends.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType

GRACE_S = 2.0
LOOK_S = 1.0
MOST_DESCRIPTORS = 64
_PR_SET_PDEATHSIG = 1
_BODIES = ("body", "orelse", "finalbody", "handlers")


def main(descriptor: int, caller: int, source: Path, words: list[str]) -> dict[str, object] | None:
    """Serve until the caller is gone; return, in a process that was forked for it, the job to run."""
    _end_with(caller)
    script = _local(words[1], source) if words[0] == "-m" else source / words[0]
    root = source if words[0] == "-m" or script is None else script.parent
    sys.path[0] = str(root)
    _import_all(script, root)
    reason = _refusal(root)
    signal.setitimer(signal.ITIMER_REAL, 0)
    control = socket.socket(fileno=descriptor)
    control.sendall(json.dumps({"refusal": reason}).encode() + b"\n")
    if reason:
        return None
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        byte, descriptors, _, _ = socket.recv_fds(control, 1, MOST_DESCRIPTORS)
        if not byte:
            return None
        if os.fork() == 0:
            control.close()
            return _guard(*descriptors)
        for each in descriptors:
            os.close(each)


def _end_with(caller: int) -> None:
    """End when the caller does, even while a module is imported that takes for ever."""

    def look(_number: int, _frame: FrameType | None) -> None:
        if os.getppid() != caller:
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)


def _import_all(script: Path | None, root: Path) -> None:
    for name in dict.fromkeys(_wanted(script, root, set())) if script else ():
        # What cannot be imported here fails in the job, in the script's own words.
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)


def _wanted(path: Path, root: Path, seen: set[Path]) -> Iterator[str]:
    """Yield the modules that a file imports when it is run, through those of the package's own, which are only read."""
    if path in seen:
        return
    seen.add(path)
    for name in _imported(path):
        local = _local(name.partition(".")[0], root)
        if local is None:
            yield name
            continue
        for inner in (_local(name, root), local):
            yield from _wanted(inner, root, seen) if inner else ()


def _local(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    found = (base.with_name(f"{base.name}.py"), base / "__main__.py", base / "__init__.py")
    return next((path for path in found if path.is_file()), None)


def _imported(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            # A name may be a module as well; what is none is left out when it is imported.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for part in _BODIES:
        for child in getattr(node, part, ()):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            yield child
            if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from _statements(child)


def _refusal(root: Path) -> str | None:
    """Return why no job may be forked from here, or None."""
    threads = _threads()
    if threads > 1:
        return f"importing its modules starts threads ({threads} run), which a fork would lose"
    tops = {name.partition(".")[0] for name in sys.modules}
    hidden = sorted(name for name in tops - {"__main__"} if _local(name, root))
    return f"its source hides modules that are imported already: {', '.join(hidden)}" if hidden else None


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _guard(link_fd: int, output: int, *_locks: int) -> dict[str, object] | None:
    """Stand between the caller and a job's processes; return the job in its process."""
    os.setsid()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    link = socket.socket(fileno=link_fd)
    with link.makefile("rb") as file:
        line = file.readline()
    if not line.endswith(b"\n"):
        os._exit(1)
    job: dict[str, object] = json.loads(line)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (woken, wake):
            os.close(each)
        link.close()
        _become(output, guard)
        return job
    os.close(output)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    code = _wait(child, link, woken)
    with contextlib.suppress(OSError):
        link.sendall(json.dumps({"guard": guard, "code": code}).encode() + b"\n")
    os._exit(0)


def _wait(child: int, link: socket.socket, woken: int) -> int:
    """Return the job's exit code, negative for a signal; when this returns nothing of it runs.

    One that was asked to end did not come to its end, whatever code it leaves: it may write half a model, and exit 0.
    """
    code, term_s = None, None
    while code is None:
        listened: list[int | socket.socket] = [woken] if term_s else [woken, link]
        ready, _, _ = select.select(listened, [], [], LOOK_S / 10 if term_s else None)
        if woken in ready:
            os.read(woken, 4096)
        code = _ended(child)
        if code is None and link in ready:
            term_s = time.monotonic()
            _signal(child, signal.SIGTERM)
        elif code is None and term_s and time.monotonic() - term_s > GRACE_S:
            _signal(child, signal.SIGKILL)
    _signal(child, signal.SIGKILL)
    return -signal.SIGTERM if term_s else code


def _ended(child: int) -> int | None:
    pid, status = os.waitpid(child, os.WNOHANG)
    if not pid:
        return None
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _become(output: int, guard: int) -> None:
    """Make this process the job's: a group of its own, its output; it ends with its guard."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(1)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def run(job: dict[str, object]) -> int:
    """Run a job's command as `python <words>` would, in its folder, under its variables; return the exit code."""
    os.environ.clear()
    os.environ.update(job["environment"])  # type: ignore[call-overload]
    os.chdir(str(job["folder"]))
    sys.audit("taxiway.job")
    _seed_afresh()
    words: list[str] = job["words"]  # type: ignore[assignment]
    try:
        _run_module(words[1:]) if words[0] == "-m" else _run_script(words)
    except SystemExit as left:
        return _code(left)
    except BaseException as error:  # noqa: BLE001 - whatever the script raised ends it, as it would end Python
        own = error.__traceback__
        while own and own.tb_frame.f_code.co_filename == __file__:
            own = own.tb_next
        traceback.print_exception(type(error), error, own)
        return 1
    return 0


def _code(left: SystemExit) -> int:
    if left.code is None or isinstance(left.code, int):
        return (left.code or 0) & 0xFF
    print(left.code, file=sys.stderr)  # noqa: T201 - as Python does
    return 1


def leave(code: int, folder: str) -> None:
    """End as Python does, but for taking apart what was imported before the fork: that costs seconds, for nothing.

    Threads are waited for, what was registered for the end is run, and what the job's own modules hold is let go, so
    that a file which a script left open is written.
    """
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - what Python itself calls first
    atexit._run_exitfuncs()  # noqa: SLF001 - and then
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None) or ""
        if path.startswith(folder + os.sep):
            vars(module).clear()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def _seed_afresh() -> None:
    """Give NumPy's shared generator another state in each job, as it has in each process; Python does so by itself."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()


def _run_script(words: list[str]) -> None:
    path = Path.cwd() / words[0]
    sys.argv[:] = words
    sys.path[0] = str(path.parent)
    module = ModuleType("__main__")
    module.__file__ = str(path)
    sys.modules["__main__"] = module
    code = compile(path.read_bytes(), str(path), "exec")
    exec(code, module.__dict__)  # noqa: S102 - the package's own script, in the process that is made for it


def _run_module(words: list[str]) -> None:
    import runpy

    sys.argv[:] = words
    sys.path[0] = str(Path.cwd())
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    found = main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    if found is not None:
        leave(run(found), str(found["folder"]))
