"""How an error is answered over HTTP: its status, its class, its message and its facts. Nothing is raised here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from taxiway_serving.errors import (
    AuthenticationError,
    ConflictError,
    InvalidSpecError,
    NotFoundError,
    OverloadError,
    RoleError,
    TaxiwayError,
    TransportError,
)

STATUS_OF: Final[Mapping[type[TaxiwayError], int]] = {
    InvalidSpecError: 422,
    NotFoundError: 404,
    ConflictError: 409,
    OverloadError: 429,
    RoleError: 403,
    AuthenticationError: 401,
    TransportError: 503,
}


def add_error_answers(app: FastAPI) -> None:
    """Let an application answer with the errors that Taxiway raises, and with FastAPI's own in their form."""
    app.add_exception_handler(TaxiwayError, _error_answer)
    app.add_exception_handler(RequestValidationError, _malformed_answer)


def _error_answer(_request: Request, error: Exception) -> JSONResponse:
    code = next((status for kind, status in STATUS_OF.items() if isinstance(error, kind)), 500)
    return _answer(code, type(error).__name__, str(error), error.args)


def _malformed_answer(request: Request, error: Exception) -> JSONResponse:
    """Return FastAPI's refusal of a malformed request in the form of every other one."""
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    faults = tuple(f"{'.'.join(str(part) for part in each['loc'][1:])}: {each['msg']}" for each in found)
    return _error_answer(request, InvalidSpecError(faults, "request"))


def _answer(code: int, reason: str, message: str, facts: Sequence[Any] = ()) -> JSONResponse:
    error = {"code": code, "reason": reason, "message": message, "facts": list(facts)}
    return JSONResponse({"error": error}, status_code=code)
