"""MLflow's artifact store as the post office of jobs that share no disk with this host: archives in, archives out.

It speaks to the server's artifact proxy, which hands on to whatever the store is. What is sent under which name is
decided in `swarm.py`; `swarm_courier.py` is the other end.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.errors import ToolFailedError, TransportError
from taxiway.runners.swarm_courier import patience_s
from taxiway.tools import redact

if TYPE_CHECKING:
    import httpx

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
TIMEOUT_S = 60.0


class JobStore:
    """The artifacts behind one MLflow server; threads may share it.

    Args:
        uri: Address of the server.
        authorization: Value of the header that it asks for, "" for none; never shown.

    Every method raises TransportError if the server does not answer, or refuses.
    """

    def __init__(self, uri: str, authorization: str) -> None:
        self._base = uri.rstrip("/")
        self._headers = {"Authorization": authorization} if authorization else {}

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of what lies in a folder, by its name, 0 for a folder; nothing for one that is not there."""
        return {each["path"]: int(each.get("file_size", 0)) for each in self._listed(folder)}

    def put(self, path: str, pieces: Iterable[bytes], length: int) -> None:
        """Store so many bytes under a path."""
        import httpx

        headers = {
            **self._headers,
            "Content-Length": str(length),
            "Content-Type": "application/octet-stream",
        }
        timeout = httpx.Timeout(TIMEOUT_S, read=patience_s(length))
        with self._asking():
            self._checked(httpx.put(self._url(path), content=pieces, headers=headers, timeout=timeout))

    def read(self, path: str) -> dict[str, Any] | None:
        """Return a JSON object; None if it is not there, or not whole."""
        folder, _, name = path.rpartition("/")
        if name not in self.sizes(folder):
            return None
        with self._getting(path) as pieces:
            text = b"".join(pieces)
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def fetch(self, path: str, sha256: str, into: Path) -> None:
        """Copy a stored file to this host.

        Raises:
            ToolFailedError: If it is not what its sender hashed; nothing of it may be used.
            OSError: If it cannot be written.
        """
        seen = hashlib.sha256()
        with self._getting(path) as pieces, into.open("wb") as file:
            for piece in pieces:
                seen.update(piece)
                file.write(piece)
        if seen.hexdigest() != sha256:
            why = (
                f"it has the SHA-256 {seen.hexdigest()[:12]}, sent was {sha256[:12]}; nothing of it was used"
            )
            raise ToolFailedError(f"fetching {path} from MLflow's artifacts", 1, why)

    def delete(self, path: str) -> None:
        """Delete what lies under a path; what is not there is welcome."""
        import httpx

        folder, _, name = path.rpartition("/")
        if name in self.sizes(folder):
            with self._asking():
                self._checked(httpx.delete(self._url(path), headers=self._headers, timeout=TIMEOUT_S))

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        import httpx

        with self._asking():
            answer = httpx.get(
                f"{self._base}{PROXY}", params={"path": folder}, headers=self._headers, timeout=TIMEOUT_S
            )
            return list(self._checked(answer).json().get("files", []))

    @contextmanager
    def _getting(self, path: str) -> Iterator[Iterator[bytes]]:
        import httpx

        with (
            self._asking(),
            httpx.stream("GET", self._url(path), headers=self._headers, timeout=TIMEOUT_S) as answer,
        ):
            if answer.is_error:
                answer.read()
            yield self._checked(answer).iter_bytes()

    def _url(self, path: str) -> str:
        return f"{self._base}{PROXY}/{path}"

    @contextmanager
    def _asking(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.HTTPError as error:
            raise TransportError(self._name, redact(f"{type(error).__name__}: {error}")) from error

    def _checked(self, answer: "httpx.Response") -> "httpx.Response":
        if answer.is_error:
            raise TransportError(self._name, redact(f"HTTP {answer.status_code}: {answer.text[:300]}"))
        return answer

    @property
    def address(self) -> str:
        """Where the server is, without credentials."""
        return redact(self._base)

    @property
    def _name(self) -> str:
        return f"the artifacts of MLflow at {self.address}"
