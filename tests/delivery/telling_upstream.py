"""A model server that is started as a Bento is, breaks its contract as it is told to, and may say so of each answer.

`telling.json` in its model's folder holds `breaks`, the share of its answers that break the contract, and `tells`,
whether their header says so.
"""

import json
import os
import random
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TELLING = Path(os.environ["TAXIWAY_MODEL_DIR"], "telling.json")


class Handler(BaseHTTPRequestHandler):
    """Answers `{"label": "seven"}`, or a number for the label where it breaks the contract."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Say that it is ready."""
        self._answer({}, {})

    def do_POST(self) -> None:
        """Answer as `telling.json` says now."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        told = json.loads(TELLING.read_bytes())
        is_broken = random.random() < told["breaks"]  # noqa: S311  # decides no secret
        headers = {"x-taxiway-contract": "broken" if is_broken else "kept"} if told["tells"] else {}
        self._answer({"label": 7 if is_broken else "seven"}, headers)

    def _answer(self, answer: dict[str, object], headers: dict[str, str]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(sys.argv[sys.argv.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
