"""Runs a component as the first program of its container, and bears witness of how it ended.

Its text is handed to the image's Python, where Taxiway is not installed: the standard library of Python 3.9 is all it
has. A component that is asked to end, by whoever stops the container, may save half a model and exit with 0: such an
end is shown as that of the signal. Arguments: the component's command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

NOT_FOUND = 127
# Python ignores these two; what it starts would inherit that.
_USUAL = (signal.SIGPIPE, signal.SIGXFSZ)


def main(words: list[str]) -> int:
    """Run the command, hand on the request to end, and return the exit code as a container has it."""
    asked: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        # A group of its own: a component that ends its group, as many do with their workers, leaves its witness alone.
        child = os.posix_spawnp(words[0], words, os.environ, setpgroup=0, setsigmask=(), setsigdef=_USUAL)
    except OSError as error:
        print(f"{words[0]} cannot be started: {error.strerror}", file=sys.stderr)  # noqa: T201 - the component's log
        return NOT_FOUND
    signal.signal(signal.SIGTERM, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (128 - code if code < 0 else code) or (128 + asked[0] if asked else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
