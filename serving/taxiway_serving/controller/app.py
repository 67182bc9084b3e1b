"""The controller's HTTP interface. Bytes become values here; what they mean is in `commands.py`.

Every route but `/healthz` and the API's own description asks for `Authorization: Bearer <token>`, and its role for a
right: see `roles.py`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict

from taxiway_serving.controller import views
from taxiway_serving.controller.answered import add_request_route
from taxiway_serving.controller.commands import Commands
from taxiway_serving.controller.error_answers import add_error_answers
from taxiway_serving.controller.feedback import Evidence, add_evidence_routes
from taxiway_serving.controller.limits import BodyLimit
from taxiway_serving.controller.roles import Right, Tokens, allowed
from taxiway_serving.controller.tick import Reconciler
from taxiway_serving.errors import NotFoundError
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.feedback import Exposure
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.store import Store
from taxiway_serving.ledger.timeline import SqlTimeline
from taxiway_serving.names import READY_PATH, VariantId, check_handle
from taxiway_serving.rollout.spec import spec_from_json
from taxiway_serving.runtimes.runtime import Runtime, Server, VariantSpec


class VariantBody(BaseModel):
    """A model version to run; see `VariantSpec` for what each field means."""

    model_config = ConfigDict(extra="forbid")
    model: str
    bento_dir: Path | None = None
    python: Path | None = None
    model_dir: Path | None = None
    image: str = ""
    url: str = ""
    server: Server = "bento"
    ready_path: str = READY_PATH
    replicas: int = 1
    most_replicas: int | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    environment: dict[str, str] = {}
    ready_deadline_s: float = 60.0
    max_rps: float | None = None
    contract: Path | None = None
    lineage: dict[str, str] = {}
    forbid: tuple[str, ...] = ()
    forbid_reason: str = ""


class UndoBody(BaseModel):
    """The caller's name for an undo, and what to go back to: neither is the version before."""

    model_config = ConfigDict(extra="forbid")
    id: str | None = None
    version: int | None = None
    at_s: float | None = None


class VerbBody(BaseModel):
    """What a verb means: a candidate, and the step that it is about; at another step nothing is done.

    A command with an id of the caller's is done once, however often it is sent.
    """

    model_config = ConfigDict(extra="forbid")
    version: int | None = None
    step: int | None = None
    command_id: str = ""


class GroupBody(BaseModel):
    """The rollouts of a group, each with its handle."""

    model_config = ConfigDict(extra="forbid")
    rollouts: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the interface speaks for.

    Attributes:
        token: The operator's.
        viewer_token: Of those who may only read; "" lets none in.
        reporter_token: Of those who may only report feedback; "" lets none in.
        rewards: What was reported; None leaves the routes of feedback out.
        timeline: What happened when; None leaves its route out.
        attempts_of: What the gateway's log has of a request.
        runtime_name: What the settings call the runtime.
    """

    store: Store
    commands: Commands
    reconciler: Reconciler
    runtime: Runtime
    token: str
    gateway_url: str
    clock: Callable[[], float] = time.time
    viewer_token: str = ""
    reporter_token: str = ""
    rewards: SqlRewards | None = None
    timeline: SqlTimeline | None = None
    attempts_of: Callable[[str], Sequence[Attempt]] = lambda _request_id: ()
    runtime_name: str = "process"

    @property
    def tokens(self) -> Tokens:
        """The tokens of all roles."""
        return Tokens(operator=self.token, viewer=self.viewer_token, reporter=self.reporter_token)


def create_app(parts: Parts) -> FastAPI:
    """Return the application of a controller that leads.

    Args:
        parts: What it speaks for.
    """
    app = FastAPI(title="Taxiway controller", version="1")
    add_error_answers(app)
    app.add_middleware(BodyLimit)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Answer that the controller runs, and leads; see `standby.py` for the other answer."""
        return {"status": "ok", "role": "leader"}

    _add_endpoint_routes(app, parts)
    _add_variant_routes(app, parts)
    _add_rollout_routes(app, parts)
    _add_evidence_routes(app, parts)
    _add_request_route(app, parts)
    return app


def _add_evidence_routes(app: FastAPI, parts: Parts) -> None:
    evidence = Evidence(
        rewards=parts.rewards,
        timeline=parts.timeline,
        store=parts.store,
        tokens=parts.tokens,
        clock=parts.clock,
    )
    add_evidence_routes(app, evidence)


def _add_request_route(app: FastAPI, parts: Parts) -> None:
    def exposure_of(request_id: str) -> Exposure | None:
        account = parts.rewards.account(request_id, now_s=parts.clock()) if parts.rewards else None
        return account.exposure if account else None

    add_request_route(app, attempts_of=parts.attempts_of, exposure_of=exposure_of, tokens=parts.tokens)


def _add_endpoint_routes(app: FastAPI, parts: Parts) -> None:
    viewer, operator = (Depends(allowed(parts.tokens, right)) for right in (Right.READ, Right.ACT))

    @app.get("/v1/endpoints")
    def list_endpoints(_: str = viewer) -> dict[str, Any]:
        """List every endpoint."""
        return {
            "endpoints": [_endpoint(parts, endpoint.handle) for endpoint in parts.store.fleet().endpoints]
        }

    @app.get("/v1/endpoints/{handle}")
    def show_endpoint(handle: str, _: str = viewer) -> dict[str, Any]:
        """Show one endpoint: what is live, the split wanted and read back, its variants and its rollout."""
        return _endpoint(parts, check_handle(handle))

    @app.get("/v1/endpoints/{handle}/ledger")
    def show_ledger(
        handle: str,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        _: str = viewer,
    ) -> dict[str, Any]:
        """Show the history of splits, verdicts and their evidence."""
        entries = parts.store.entries(check_handle(handle), after=after, limit=limit)
        return {"entries": [entry.to_json() for entry in entries]}

    @app.get("/v1/ledger")
    def show_whole_ledger(
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        _: str = viewer,
    ) -> dict[str, Any]:
        """Show the history of all handles, entry by entry: the hash chain runs through all of them."""
        entries = parts.store.entries(None, after=after, limit=limit)
        return {"entries": [entry.to_json() for entry in entries]}

    @app.post("/v1/endpoints/{handle}/undo")
    def undo(handle: str, body: UndoBody | None = None, who: str = operator) -> dict[str, Any]:
        """Go back to a version that was live: the last one, a named one, or the one of a time. Same id, same undo."""
        asked = body or UndoBody()
        undone = parts.commands.undo(
            check_handle(handle), actor=who, rollout_id=asked.id, version=asked.version, at_s=asked.at_s
        )
        return views.rollout_view(undone, parts.clock())


def _add_variant_routes(app: FastAPI, parts: Parts) -> None:
    viewer, operator = (Depends(allowed(parts.tokens, right)) for right in (Right.READ, Right.ACT))

    @app.get("/v1/runtime")
    def show_runtime(_: str = viewer) -> dict[str, str]:
        """Show where variants run: what a deployment brings along depends on it."""
        return {"runtime": parts.runtime_name}

    @app.put("/v1/endpoints/{handle}/variants/{version}")
    def deploy(handle: str, version: int, body: VariantBody, who: str = operator) -> dict[str, Any]:
        """Run a model version, without live traffic."""
        parts.commands.deploy(VariantSpec(handle=handle, version=version, **body.model_dump()), actor=who)
        return _endpoint(parts, handle)

    @app.delete("/v1/endpoints/{handle}/variants/{version}")
    def retire(handle: str, version: int, who: str = operator) -> dict[str, Any]:
        """Stop a model version that has no traffic."""
        parts.commands.retire(check_handle(handle), version, actor=who)
        return _endpoint(parts, handle)

    @app.get("/v1/endpoints/{handle}/variants/{version}/log")
    def show_log(
        handle: str, version: int, tail: Annotated[int, Query(ge=1, le=1000)] = 50, _: str = viewer
    ) -> dict[str, str]:
        """Show the end of a variant's log."""
        return {"log": parts.runtime.logs(VariantId(handle=check_handle(handle), version=version), tail=tail)}


def _add_rollout_routes(app: FastAPI, parts: Parts) -> None:
    viewer, operator = (Depends(allowed(parts.tokens, right)) for right in (Right.READ, Right.ACT))

    @app.post("/v1/endpoints/{handle}/rollouts")
    def start(handle: str, body: Annotated[dict[str, Any], Body()], who: str = operator) -> dict[str, Any]:
        """Begin a rollout; the same id again returns the one that runs."""
        spec = spec_from_json({**body, "handle": handle, "actor": who})
        return views.rollout_view(parts.commands.start(spec), parts.clock())

    @app.post("/v1/groups")
    def start_group(body: GroupBody, who: str = operator) -> dict[str, Any]:
        """Begin the rollouts of a group, all of them or none; the same ones again return as they stand."""
        specs = [spec_from_json({**rollout, "actor": who}) for rollout in body.rollouts]
        begun = parts.commands.start_group(specs)
        return {"rollouts": [views.rollout_view(rollout, parts.clock()) for rollout in begun]}

    @app.get("/v1/endpoints/{handle}/rollouts")
    def list_rollouts(
        handle: str, limit: Annotated[int, Query(ge=1, le=1000)] = 50, _: str = viewer
    ) -> dict[str, Any]:
        """List the handle's rollouts, the newest first: what waits, what runs, what has ended."""
        found = parts.store.recent(check_handle(handle), limit=limit)
        return {"rollouts": [views.rollout_view(rollout, parts.clock()) for rollout in found]}

    @app.get("/v1/endpoints/{handle}/rollouts/{rollout_id}")
    def show(handle: str, rollout_id: str, _: str = viewer) -> dict[str, Any]:
        """Show a rollout: its step, its reason in words, its evidence."""
        rollout = parts.store.rollout(rollout_id)
        if rollout is None or rollout.spec.handle != handle:
            raise NotFoundError("rollout", rollout_id, f"see the ledger of {handle}")
        return views.rollout_view(rollout, parts.clock())

    @app.post("/v1/endpoints/{handle}/rollouts/{rollout_id}/{verb}")
    def act(
        handle: str, rollout_id: str, verb: str, body: VerbBody | None = None, who: str = operator
    ) -> dict[str, Any]:
        """Promote, abort, pause, resume or retry a rollout; add a candidate to an experiment, or remove one."""
        meant = body or VerbBody()
        rollout = parts.commands.act(
            check_handle(handle),
            rollout_id,
            verb,
            actor=who,
            version=meant.version,
            step=meant.step,
            command_id=meant.command_id,
        )
        return views.rollout_view(rollout, parts.clock())


def _endpoint(parts: Parts, handle: str) -> dict[str, Any]:
    fleet = parts.store.fleet()
    endpoint = fleet.endpoint(handle)
    if endpoint is None:
        raise NotFoundError("endpoint", handle, "deploy a model version under this handle first")
    return views.endpoint_view(
        endpoint,
        fleet,
        parts.reconciler.world,
        latest=fleet.active(handle) or parts.store.latest(handle),
        gateway_url=parts.gateway_url,
        now_s=parts.clock(),
    )
