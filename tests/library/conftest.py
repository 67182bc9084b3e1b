"""What the library's tests share beside `tests/projects.py`: a server that answers what it is told."""

from collections.abc import Iterator

import pytest

from tests.library.scripted import Script, serving


@pytest.fixture
def script() -> Iterator[Script]:
    """Return a server on a free port, which answers what it is told."""
    with serving() as made:
        yield made
