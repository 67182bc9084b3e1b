"""What a controller does beside answering: a thread that works while a context lasts. What it does is its caller's."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def alongside(name: str, work: Callable[[threading.Event], None], *, patience_s: float) -> Iterator[None]:
    """Work in a thread of its own while the context lasts.

    Args:
        name: The thread's.
        work: Returns soon after the event that it is given was set.
        patience_s: Longest wait for that, in seconds: work that hangs keeps no controller from ending.
    """
    stopped = threading.Event()
    thread = threading.Thread(target=work, args=(stopped,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=patience_s)
