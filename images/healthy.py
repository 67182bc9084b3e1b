"""Asks a service whether it is healthy, for a health check: `python -I -S healthy.py HOST:PORT PATH [PART]`.

With a part, the answer must say that this part of it is healthy. Starts in a few hundredths of a second: it runs for
each service, every few seconds, as long as the service lives.
"""

import json
import socket
import sys


def main() -> int:
    """Return 0 when it is."""
    address, path, *part = sys.argv[1:]
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=8) as connection:
        # Envoy speaks no HTTP/1.0.
        asked = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
        connection.sendall(asked.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split()[1] != b"200":
        return 1
    return int(any(json.loads(body)[name]["status"] != "healthy" for name in part))


if __name__ == "__main__":
    sys.exit(main())
