"""The limit on how much a caller may send, whatever its headers say of it."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

MOST_BODY_BYTES: Final = 1_000_000

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class BodyLimit:
    """ASGI middleware that answers 413 to a body above a limit, before anything reads it.

    A length that is announced is believed when it is too large; all others are counted, sent in chunks or not.

    Args:
        app: What answers everything else.
        most_bytes: Largest body.
    """

    def __init__(self, app: Application, *, most_bytes: int = MOST_BODY_BYTES) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on with its whole body, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        messages = None if _announced(scope) > self._most_bytes else await self._messages(receive)
        if messages is None:
            await _refuse(send, self._most_bytes)
            return

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replay, send)

    async def _messages(self, receive: Receive) -> list[Message] | None:
        """Return what the caller sent, or None as soon as it is too much."""
        messages: list[Message] = []
        size = 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self._most_bytes:
                return None
            if message["type"] != "http.request" or not message.get("more_body", False):
                return messages


def _announced(scope: Message) -> int:
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(length) if length.isdigit() else 0


async def _refuse(send: Send, most_bytes: int) -> None:
    message = f"a body has at most {most_bytes} bytes; send it in several calls"
    error = {"code": 413, "reason": "TooLarge", "message": message, "facts": []}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
