"""Notes which files a component opens, from inside its process; `runners/watch.py` reads the notes.

Python imports a module of this name when it starts. Nothing but the standard library's `os` and `sys` is used, for any
version of Python; a `sitecustomize` of the environment's own is run as well. The hook lasts as long as its process and
goes along with a fork; a child of Python finds this module by `PYTHONPATH`.
"""

import os
import sys

LOG, SINCE = "TAXIWAY_WATCH_LOG", "TAXIWAY_WATCH_SINCE"
MOST_DECLARED = MOST_OTHERS = 20_000
_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would be one more import at each start
# Code and configuration of the machine, and what the kernel shows of it.
_SYSTEM = ("/etc/", "/usr/", "/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/proc/", "/sys/", "/run/", "/var/cache/")
_ROOTS = ("TAXIWAY_DATA_DIR", "TAXIWAY_SOURCE_MODELS_DIR", "TAXIWAY_MODEL_DIR", "TAXIWAY_OUTPUT_DIR")
_LINK, _FILE, _KINDS = 0o120000, 0o100000, 0o170000


def _note(kind, text):  # type: ignore[no-untyped-def]
    """Append one line; what could not be noted does not happen, so that no note is ever missing."""
    log = os.environ.get(LOG)
    if log is None or (kind, text) in _seen(log):
        return
    known = _seen(log)
    if kind in _full(known, kind, text):
        return
    known.add((kind, text))
    _append(log, kind, text)


def _seen(log):  # type: ignore[no-untyped-def]
    # By log, so that a process that forks several jobs notes for each of them.
    return _known.setdefault(log, set())
