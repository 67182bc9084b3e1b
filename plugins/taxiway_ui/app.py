"""The pages as an application that Airflow's API server mounts. Reads only: every route is a GET.

Airflow does not guard what a plugin mounts, so every route here depends on Airflow's own check of the session or
token, and of the right to see plugins. What the routes answer is made in `source.py`.
"""

import tempfile
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse, JSONResponse

from taxiway.errors import AuthenticationError, NotFoundError, TaxiwayError, TransportError
from taxiway_ui import source

STATIC = files("taxiway_ui") / "static"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'self'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
CONNECTIONS = f"the Airflow connection {source.VIEWER_CONNECTION}, or taxiway_default where there is none"
AWAY = (
    f"Start the controller (taxiway-controller), or correct host and port in {CONNECTIONS}. "
    "Live traffic goes on: the gateway keeps the split it was given last."
)
NEXT_STEPS: Mapping[type[TaxiwayError], tuple[int, str]] = {
    TransportError: (503, AWAY),
    AuthenticationError: (502, f"Put the controller's token into the password of {CONNECTIONS}."),
    NotFoundError: (404, ""),
}
LOG_IN = """<!doctype html><meta charset="utf-8"><title>Taxiway</title>
<p>This page is for users of Airflow who may see plugins: <a href="{root}" target="_top">log in</a> first.</p>"""


def create_app() -> FastAPI:
    """Return the application."""
    guard = Depends(requires_access_view(AccessView.PLUGINS))
    app = FastAPI(
        title="Taxiway pages", dependencies=[guard], docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_exception_handler(TaxiwayError, _refused)
    app.add_exception_handler(HTTPException, _not_for_you)

    @app.middleware("http")
    async def with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        answer = await call_next(request)
        answer.headers.update(HEADERS)
        return answer

    _add_pages(app)
    _add_data(app)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/", response_class=HTMLResponse)
    @app.get("/endpoints/{handle}", response_class=HTMLResponse)
    def page(request: Request) -> str:
        """Return the frame that both pages share; its script reads the address and asks for the data."""
        text = (STATIC / "page.html").read_text(encoding="utf-8")
        return text.replace("{root}", escape(str(request.scope.get("root_path", "")), quote=True))

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        """Return a script, a style sheet or an icon."""
        known = {file.name: file for file in STATIC.iterdir()}
        media_type = MEDIA_TYPES.get(Path(name).suffix)
        if name not in known or media_type is None:
            raise HTTPException(404, f"no file {name!r}")
        return Response(known[name].read_bytes(), media_type=media_type)


def _add_data(app: FastAPI) -> None:
    @app.get("/api/endpoints")
    def endpoints() -> dict[str, Any]:
        """List every endpoint: what is live, the split, the rollout."""
        return source.endpoints()

    @app.get("/api/endpoints/{handle}")
    def endpoint(handle: str) -> dict[str, Any]:
        """Show one endpoint."""
        return source.endpoint(handle)

    @app.get("/api/endpoints/{handle}/history")
    def history(handle: str, after: Annotated[int, Query(ge=0)] = 0) -> dict[str, Any]:
        """Show how the split changed, and who or what decided it."""
        return source.history(handle, after)

    @app.get("/api/endpoints/{handle}/timeline")
    def timeline(handle: str, since_s: float, until_s: float) -> dict[str, Any]:
        """Show how each version did."""
        return source.timeline(handle, since_s, until_s)

    @app.get("/api/endpoints/{handle}/export.{suffix}")
    def export(handle: str, suffix: Literal["csv", "json"]) -> Response:
        """Return split and metrics as a file; `taxiway.history.export` writes the same."""
        from taxiway.history import export as write

        with tempfile.TemporaryDirectory(prefix="taxiway-") as folder:
            path = write(handle, Path(folder) / f"{handle}.{suffix}", source.settings())
            content = path.read_bytes()
        disposition = f'attachment; filename="{path.name}"'
        media_type = "text/csv" if suffix == "csv" else "application/json"
        return Response(content, media_type=media_type, headers={"Content-Disposition": disposition})


def _refused(_request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with the controller, and what to do."""
    status, next_step = next(
        (answer for kind, answer in NEXT_STEPS.items() if isinstance(error, kind)), (502, "")
    )
    return JSONResponse({"message": str(error), "next_step": next_step}, status_code=status)


async def _not_for_you(request: Request, error: Exception) -> Response:
    """Answer a person who is not logged in with a way in, and a program as FastAPI does."""
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is registered for it alone
    if error.status_code in {401, 403} and "text/html" in request.headers.get("accept", ""):
        root = str(request.scope.get("root_path", "")).rpartition("/")[0] + "/"
        return HTMLResponse(LOG_IN.format(root=escape(root, quote=True)), status_code=error.status_code)
    return await http_exception_handler(request, error)
