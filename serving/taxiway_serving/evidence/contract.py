"""Reads what a model project promises about its answers: `contract.json`, which travels with the inference package.

    {"api": "predict",
     "requests": [{"name": "seven", "file": "seven.png", "form": "image", "expect": {"label": 7}}],
     "response": {a JSON Schema that every good answer keeps},
     "malformed": [{"name": "no image", "body": "seven", "content_type": "image/png"}]}

The body of a request is exactly one of `file` (beside the contract; bare, or in the field `form` of a form), `json` and
`body` (text). `path` replaces the API. Nothing is sent here.
"""

import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.evidence.load import Request

FILE_NAME: Final = "contract.json"
_KEYS: Final = frozenset({"api", "requests", "response", "malformed"})
_BODY_KEYS: Final = ("file", "json", "body")
_REQUEST_KEYS: Final = frozenset({"name", "path", "content_type", "form", *_BODY_KEYS})
_BOUNDARY: Final = "taxiway-7f3e5b1c9a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request that every version must answer, and a part of the answer that it must get."""

    request: Request
    expect: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What an inference package promises.

    Attributes:
        examples: At least one request that must be answered.
        response: JSON Schema of every answer.
        malformed: Requests that must be refused with 4xx and a reason.
    """

    examples: tuple[Example, ...]
    response: Mapping[str, Any]
    malformed: tuple[Request, ...]


def read_contract(path: Path) -> Contract:
    """Read and check a contract.

    Args:
        path: The file, or the folder that holds a `contract.json`.

    Raises:
        InvalidSpecError: If it is missing or breaks a rule; `.faults` names every one.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidSpecError((f"cannot be read as JSON: {exc}",), str(file)) from exc
    if not isinstance(document, dict):
        raise InvalidSpecError((f"must be an object, got {type(document).__name__}",), str(file))
    return _Reader(file, document).read()


class _Reader:
    """Walks one document and gathers faults on the way; used once."""

    def __init__(self, file: Path, document: dict[str, Any]) -> None:
        self.file, self.document = file, document
        self.faults: list[str] = []

    def read(self) -> Contract:
        self.unknown("the contract", self.document, _KEYS)
        if not isinstance(self.document.get("api"), str) or not self.document["api"]:
            self.faults.append(
                f"api must name the endpoint's API, such as predict; got {self.document.get('api')!r}"
            )
        contract = Contract(
            examples=tuple(self.examples()), response=self.response(), malformed=tuple(self.malformed())
        )
        if self.faults:
            raise InvalidSpecError(tuple(self.faults), str(self.file))
        return contract

    def entries(self, key: str) -> list[tuple[str, dict[str, Any]]]:
        """Return each entry of a list with the words to call it by."""
        found = self.document.get(key, [])
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            self.faults.append(f"{key} must be a list of objects, got {found!r:.80}")
            return []
        return [(f"{key}[{place}]", entry) for place, entry in enumerate(found)]

    def examples(self) -> list[Example]:
        found = []
        for where, entry in self.entries("requests"):
            self.unknown(where, entry, _REQUEST_KEYS | {"expect"})
            expect = entry.get("expect", {})
            if not isinstance(expect, dict):
                self.faults.append(f"{where}.expect must be an object, got {expect!r:.80}")
                expect = {}
            found.append(Example(request=self.request(where, entry), expect=expect))
        if not self.document.get("requests"):
            self.faults.append("requests must hold at least one request; nothing could be verified")
        return found

    def malformed(self) -> list[Request]:
        found = []
        for where, entry in self.entries("malformed"):
            self.unknown(where, entry, _REQUEST_KEYS)
            found.append(self.request(where, entry))
        if not self.document.get("malformed"):
            self.faults.append(
                "malformed must hold at least one request that is to be refused; nothing was tried"
            )
        return found

    def response(self) -> Mapping[str, Any]:
        import jsonschema  # type: ignore[import-untyped]

        schema = self.document.get("response", {})
        if not isinstance(schema, dict):
            self.faults.append(f"response must be a JSON Schema, got {schema!r:.80}")
            return {}
        try:
            jsonschema.validators.validator_for(schema).check_schema(schema)
        except jsonschema.SchemaError as exc:
            self.faults.append(f"response is no JSON Schema: {exc.message}")
        return schema

    def request(self, where: str, entry: Mapping[str, Any]) -> Request:
        for key in ("name", "path", "content_type", "form", "file", "body"):
            if not isinstance(entry.get(key, ""), str):
                self.faults.append(f"{where}.{key} must be a text, got {entry[key]!r:.80}")
        if not entry.get("name"):
            self.faults.append(f"{where} has no name")
        given = [key for key in _BODY_KEYS if key in entry]
        if len(given) != 1:
            self.faults.append(
                f"{where} must have exactly one of {', '.join(_BODY_KEYS)}; it has {given or 'none'}"
            )
        if "form" in entry and "file" not in entry:
            self.faults.append(f"{where}.form needs a file to put into the form")
        body, content_type = self.body(where, entry)
        return Request(
            name=str(entry.get("name")),
            path=str(entry.get("path", self.document.get("api"))).lstrip("/"),
            body=body,
            content_type=entry.get("content_type", content_type),
        )

    def body(self, where: str, entry: Mapping[str, Any]) -> tuple[bytes, str | None]:
        """Return the bytes to send, and their content type where the entry does not say."""
        if "json" in entry:
            return json.dumps(entry["json"]).encode(), "application/json"
        if "file" not in entry:
            return str(entry.get("body", "")).encode(), None
        name = str(entry["file"])
        content, guess = self.content(where, name), mimetypes.guess_type(name)[0]
        if "form" not in entry:
            return content, guess
        return _form(str(entry["form"]), Path(name).name, content, guess or "application/octet-stream")

    def content(self, where: str, name: str) -> bytes:
        folder = self.file.parent.resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            self.faults.append(f"{where}.file {name!r} leaves the folder of the contract")
        elif not path.is_file():
            self.faults.append(f"{where}.file {name!r} is missing")
        else:
            return path.read_bytes()
        return b""

    def unknown(self, where: str, entry: Mapping[str, Any], known: frozenset[str]) -> None:
        for key in sorted(set(entry) - known):
            self.faults.append(f"{where} has an unknown key {key!r}; known: {', '.join(sorted(known))}")


def _form(field: str, file_name: str, content: bytes, content_type: str) -> tuple[bytes, str]:
    """Return a form with one file, and its content type. Source: RFC 7578."""
    disposition = f'content-disposition: form-data; name="{field}"; filename="{file_name}"'
    head = f"--{_BOUNDARY}\r\n{disposition}\r\ncontent-type: {content_type}\r\n\r\n"
    body = head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={_BOUNDARY}"
