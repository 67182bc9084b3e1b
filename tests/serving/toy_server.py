"""A tiny model server for tests: an arbiter that holds the port and a worker in a session of its own, as BentoML has.

Run as `python toy_server.py PORT`. What it does wrong is told by variables: TOY_FAIL_EVERY=3 answers every third call
with 500, TOY_DELAY_S=1 takes a second, TOY_NEVER_READY=1 refuses /readyz, TOY_EXIT=3 ends at once with that code,
TOY_ALONE=1 serves without a worker, TOY_HOST=0.0.0.0 listens everywhere, TOY_CONTRACT=kept says so of each answer. A
call to /slow takes until it is asked to end: what is under way is answered before it does.
"""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

FAIL_EVERY = int(os.environ.get("TOY_FAIL_EVERY", "0"))
DELAY_S = float(os.environ.get("TOY_DELAY_S", "0"))
CALLS = itertools.count(1)
UNDER_WAY: set[object] = set()
IS_ENDING = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(503 if "TOY_NEVER_READY" in os.environ else 200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        UNDER_WAY.add(self)
        if self.path == "/slow":
            IS_ENDING.wait()
        time.sleep(DELAY_S)
        self._answer(500 if FAIL_EVERY and next(CALLS) % FAIL_EVERY == 0 else 200)
        self.wfile.flush()
        UNDER_WAY.discard(self)

    def _answer(self, status: int) -> None:
        told = {"version": os.environ.get("TAXIWAY_MODEL_VERSION"), "path": self.path}
        body = json.dumps(told | ({"busy": len(UNDER_WAY)} if self.path == "/busy" else {})).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if "TOY_CONTRACT" in os.environ:
            self.send_header("x-taxiway-contract", os.environ["TOY_CONTRACT"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener


def serve(listener: socket.socket) -> None:
    """Serve until asked to end, then until nothing is under way; connections that wait for a request are cut."""
    server = Server(listener)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)
    IS_ENDING.set()
    while UNDER_WAY:
        time.sleep(0.01)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((os.environ.get("TOY_HOST", "127.0.0.1"), port))
    listener.listen(128)
    return listener


def arbitrate(listener: socket.socket) -> None:
    listener.set_inheritable(True)
    fd = listener.fileno()
    command = [sys.executable, __file__, "--worker", str(fd)]
    worker = subprocess.Popen(command, pass_fds=[fd], start_new_session=True)

    def stop(number: int, frame: FrameType | None) -> None:
        worker.terminate()

    signal.signal(signal.SIGTERM, stop)
    say(f"worker {worker.pid}")
    worker.wait()


def main() -> None:
    if "TOY_EXIT" in os.environ:
        say("cannot load the model")
        sys.exit(int(os.environ["TOY_EXIT"]))
    if sys.argv[1] == "--worker":
        serve(socket.socket(fileno=int(sys.argv[2])))
        return
    listener = listen(int(sys.argv[1]))
    say(f"listening on {sys.argv[1]}")
    if "TOY_ALONE" in os.environ:
        serve(listener)
    else:
        arbitrate(listener)


if __name__ == "__main__":
    main()
