"""A server of the test's own that answers what it is told, and keeps what it was asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]
"""Status and body: a text as it is, anything else as JSON."""


class Script:
    """Gives its answers in turn, the last one for ever; a request that is a key of `by_path` always gets that one."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[Answer] = [(200, {})]
        self.by_path: dict[str, Answer] = {}
        self.seen: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []

    def answer(self, line: str) -> Answer:
        if line in self.by_path:
            return self.by_path[line]
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def asked(self, method: str) -> list[str]:
        """Return the paths that were asked for by a method."""
        return [path for verb, path, _ in self.seen if verb == method]


@contextmanager
def serving() -> Iterator[Script]:
    """Serve a script on a free port while the context lasts."""
    made = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply("GET")

        def do_POST(self) -> None:
            self._reply("POST")

        def _reply(self, method: str) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            made.seen.append((method, self.path, body))
            made.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, value = made.answer(f"{method} {self.path}")
            content = (value if isinstance(value, str) else json.dumps(value)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
