"""Runs a component as a job of a Swarm: brings what it reads, runs it as nobody special, and sends what it left.

Its text is handed to the image's Python, where Taxiway is not installed: the standard library of Python 3.9 is all it
has. It begins as root without any right but to become somebody else and to end others; the component is given none of
that, cannot read the letter, and cannot change what it was brought. Arguments: the component's command.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import hashlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from types import FrameType
from typing import Any, BinaryIO

LETTER = "/run/secrets/taxiway.json"
OUTPUT, RECEIPT = "output.tar", "receipt.json"
"""What is sent, in this order: a job without a receipt left nothing that counts."""
NOT_FOUND, DISK_FULL, UNDELIVERED, CHANGED = 127, 74, 75, 76
"""How it ends, without a receipt for the last three: no room on the node; inputs or results that did not arrive; an
input that is not what was sent."""
Take = Callable[[BinaryIO], None]
_PIECE, _TRIES, _TIMEOUT_S, _BYTES_PER_S = 1 << 20, 6, 60.0, 1e6
_NO_NEW_PRIVILEGES = 38
_KILLS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
# `socket.timeout` is another class than TimeoutError before Python 3.10.
_BROKEN = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    socket.timeout,
)


class ChangedError(Exception):
    """What arrived is not what was sent."""


class UnreadableError(Exception):
    """The component left what it cannot read itself."""


# What broke off begins anew: an archive that cannot be read by then is what lies in the store.
_TORN = (ChangedError, tarfile.TarError)


def patience_s(size: int) -> float:
    """Return how many seconds an answer to so many bytes may take: it comes when the server's store has them all."""
    return _TIMEOUT_S + size / _BYTES_PER_S


def main(words: list[str]) -> int:
    """Do all of it, and return the exit code as a container has it."""
    with open(LETTER, encoding="utf-8") as file:  # noqa: PTH123 - no more imports than it needs
        letter = json.load(file)
    try:
        return deliver_and_run(letter, words)
    except (*_BROKEN, *_TORN, UnreadableError) as error:
        _say(f"MLflow's artifacts: {type(error).__name__}: {error}")
        return CHANGED if isinstance(error, _TORN) else UNDELIVERED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(f"no room on this node: {error}")
        return DISK_FULL


def deliver_and_run(letter: dict[str, Any], words: list[str]) -> int:
    """Bring the inputs, run the command, send its results and then the receipt."""
    store = Store(letter["store"], letter["authorization"])
    for each in letter["inputs"]:
        bring(store, each["path"], each["sha256"], each["target"])
    for name, content in letter["secrets"].items():
        write_secret(os.path.join(letter["secrets_dir"], name), base64.b64decode(content))  # noqa: PTH118 - as above
    killed, began = oom_kills(), time.monotonic()
    code, asked = run(words, letter["user"])
    if asked:
        return 128 + asked
    receipt: dict[str, Any] = {"exit_code": code, "seconds": time.monotonic() - began}
    receipt["out_of_memory"] = code != 0 and oom_kills() > killed
    if code == 0:
        draft = os.path.join(letter["scratch"], OUTPUT)  # noqa: PTH118 - as above
        receipt["sha256"], receipt["bytes"] = pack(letter["output"], letter["user"], draft)
        store.send(letter["folder"] + "/" + OUTPUT, draft)
    draft = os.path.join(letter["scratch"], RECEIPT)  # noqa: PTH118 - as above
    with open(draft, "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
        json.dump(receipt, file)
    store.send(letter["folder"] + "/" + RECEIPT, draft)
    return 128 - code if code < 0 else code


class Store:
    """MLflow's artifacts, as its server hands them on over HTTP."""

    def __init__(self, url: str, authorization: str) -> None:
        self._url = url
        self._headers = {"Authorization": authorization} if authorization else {}

    def read(self, path: str, take: Take) -> None:
        """Hand an artifact to somebody; a connection that breaks begins anew."""

        def once() -> None:
            with urllib.request.urlopen(self._request(path), timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as configured
                take(answer)

        _patiently(once)

    def send(self, path: str, file: str) -> None:
        """Store a file under a path that nobody else writes to."""
        size, tries = os.path.getsize(file), itertools.count()  # noqa: PTH202 - as above

        def once() -> None:
            # The answer to an earlier try may have been all that was lost.
            if next(tries) and self._has(path, size):
                return
            with open(file, "rb") as content:  # noqa: PTH123 - as above
                request = self._request(path, content, size)
                with urllib.request.urlopen(request, timeout=patience_s(size)) as answer:  # noqa: S310 - as configured
                    answer.read()

        _patiently(once)

    def _has(self, path: str, size: int) -> bool:
        folder, _, name = path.rpartition("/")
        request = self._request("", query="?" + urllib.parse.urlencode({"path": folder}))
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as configured
            try:
                files = json.load(answer).get("files", [])
            except ValueError:
                return False
        return any(each["path"] == name and int(each.get("file_size", 0)) == size for each in files)

    def _request(
        self, path: str, content: BinaryIO | None = None, length: int | None = None, query: str = ""
    ) -> urllib.request.Request:
        headers = dict(self._headers)
        if content is not None:
            headers.update({"Content-Length": str(length), "Content-Type": "application/octet-stream"})
        method = "GET" if content is None else "PUT"
        return urllib.request.Request(  # noqa: S310 - the address of MLflow, as it is configured
            (self._url + path).rstrip("/") + query, data=content, headers=headers, method=method
        )


def _patiently(act: Callable[[], None]) -> None:
    """Try again where the network or the server may recover."""
    for number in range(_TRIES):
        try:
            return act()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 or number == _TRIES - 1:
                raise
        except (*_BROKEN, tarfile.TarError):
            if number == _TRIES - 1:
                raise
        time.sleep(2.0**number)
    return None


class Hashed:
    """A stream that knows the hash of what was read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self.sha256.update(piece)
        self.bytes += len(piece)
        return piece


def bring(store: Store, path: str, sha256: str, target: str) -> None:
    """Unpack a stored archive into a folder that the component can read and not change.

    Raises:
        ChangedError: If it is not the archive that was stored.
    """

    def take(answer: BinaryIO) -> None:
        stream = Hashed(answer)
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(target, **safe)  # noqa: S202 - its hash is checked before anybody reads it
        while stream.read(_PIECE):
            pass
        if stream.sha256.hexdigest() != sha256:
            raise ChangedError(
                f"{path} has the SHA-256 {stream.sha256.hexdigest()[:12]}, sent was {sha256[:12]}"
            )

    store.read(path, take)


def write_secret(path: str, content: bytes) -> None:
    """Write a file into memory; nobody but root and the component is in this container."""
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - as above
    with open(path, "wb") as file:  # noqa: PTH123 - as above
        file.write(content)


def run(words: list[str], user: int) -> tuple[int, int]:
    """Run the component, and return its exit code, negative for a signal, and the signal that asked for its end, or 0.

    When this returns nothing of it runs any more.
    """
    asked: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        # This process has one thread, so code between fork and exec is safe.
        child = subprocess.Popen(words, user=user, group=user, extra_groups=[], preexec_fn=_renounce)  # noqa: PLW1509
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"{words[0]} cannot be started: {error}")
        return NOT_FOUND, 0
    signal.signal(signal.SIGTERM, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    code = child.wait()
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    return code, asked[0] if asked else 0


def _renounce() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not let privileges be renounced")


def pack(folder: str, user: int, draft: str) -> tuple[str, int]:
    """Write a folder as an archive, as far as a user can read it, and return its hash and size."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_pack_as(user, folder, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe, open(draft, "wb") as file:  # noqa: PTH123 - as above
        stream = Hashed(pipe)
        file.writelines(iter(lambda: stream.read(_PIECE), b""))
    if os.waitpid(child, 0)[1] != 0:
        raise UnreadableError("the component left results that it cannot read itself")
    return stream.sha256.hexdigest(), stream.bytes


def _pack_as(user: int, folder: str, writing: int) -> int:
    try:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        with os.fdopen(writing, "wb") as pipe, tarfile.open(fileobj=pipe, mode="w|") as tar:
            tar.add(folder, arcname="output")
    except OSError as error:
        _say(f"the results cannot be packed: {error}")
        return 1
    return 0


def oom_kills() -> int:
    """Return how many processes of this container the kernel has ended for their memory."""
    for path in _KILLS:
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:  # noqa: PTH123 - as above
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _say(line: str) -> None:
    print(f"taxiway: {line}", file=sys.stderr, flush=True)  # noqa: T201 - the component's log


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
