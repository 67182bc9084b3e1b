"""The front for a notebook: `from taxiway import research as tw`. Each name is the function that the operators call.

`cells.py` fills in what a cell leaves out (settings, packaging a folder), `comparing.py` and `ready.py` read what
is known of a handle, `sharing.py` publishes a library.
"""

from taxiway.datasets import load
from taxiway.research.cells import evaluate, put, register, search, train, transform, tune
from taxiway.research.comparing import Comparison, compare
from taxiway.research.ready import Readiness, readiness
from taxiway.research.sharing import find_libraries, publish

__all__ = [
    "Comparison",
    "Readiness",
    "compare",
    "evaluate",
    "find_libraries",
    "load",
    "publish",
    "put",
    "readiness",
    "register",
    "search",
    "train",
    "transform",
    "tune",
]
