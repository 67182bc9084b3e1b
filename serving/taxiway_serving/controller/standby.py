"""What a controller answers that does not lead: that it stands by, and who leads."""

from collections.abc import Callable

from fastapi import FastAPI

from taxiway_serving.controller.error_answers import add_error_answers
from taxiway_serving.errors import NotLeaderError

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]


def create_standby(address: str, leader: Callable[[], str]) -> FastAPI:
    """Return the application of a standby.

    Args:
        address: Its own.
        leader: Returns the address of who leads; "" for nobody.
    """
    app = FastAPI(title="Taxiway controller", version="1", openapi_url=None)
    add_error_answers(app)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Answer that the controller runs, and stands by."""
        return {"status": "ok", "role": "standby", "leader": leader()}

    @app.api_route("/{_path:path}", methods=METHODS)
    def refuse(_path: str) -> None:
        """Refuse everything else: what a standby knows may be old."""
        raise NotLeaderError(address, leader())

    return app
