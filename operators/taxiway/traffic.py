"""Moves live traffic between model versions: rollouts, groups of them, undo, a person's verbs, and looking.

All of it through the controller's client. The controller carries a rollout; a caller that dies here leaves it as it
is, and the next call with the same id follows it again. Nothing is deployed here: see `deployment.py`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from taxiway.champion import project_aliases
from taxiway.datasets import promotion_faults
from taxiway.errors import (
    ForbiddenDataError,
    ForbiddenStrategyError,
    InvalidSpecError,
    NotFoundError,
    TransportError,
)
from taxiway.packaging.package import CodePackage
from taxiway.progress import Progress
from taxiway.registry import models, packages
from taxiway.registry.models import ModelVersion
from taxiway.reproduction import stages
from taxiway.rollouts import RolloutResult, Standing, ending, result_of, standing_of
from taxiway.settings import Settings
from taxiway_serving.client import Controller

Log = Callable[[str], None]
POLL_S = 0.5
PATIENCE_S = 120.0
ROLLOUT_OPTIONS = (
    *("rivals", "metrics", "availability", "latency_ms", "alpha", "shield", "warm_s", "max_users"),
    *("on_failure", "on_running", "reverify", "group"),
)
"""What a strategy's specification may say of the rollout; the rest is the strategy's own."""
TOTAL_DEADLINE = "total_deadline_s"
"""The rollout's own deadline, under a name that no strategy has: `deadline_s` is an option of several strategies."""

UNTIL = ("ended", "paused", "begun")


def shift(
    handle: str,
    version: int,
    settings: Settings,
    *,
    strategy: Mapping[str, Any],
    rollout_id: str,
    until: str = "ended",
    actor: str = "airflow",
    log: Log = print,
) -> RolloutResult:
    """Ask the controller to move live traffic to a version, and follow the rollout.

    The controller carries it: a caller that dies, or loses the controller for a while, asks again with the same id
    and follows the same rollout.

    Args:
        handle: The handle.
        version: The deployed version.
        settings: Where everything is.
        strategy: `{"kind": "canary"}` or another, with the strategy's own options or steps; beside them any of
            `ROLLOUT_OPTIONS`, and `total_deadline_s`, after which a rollout that is not over pauses as inconclusive.
            Availability and latency come from the SLA where they are not given.
        rollout_id: Name of this rollout; the same for every try of a task.
        until: Follow to its end (`ended`), to its end or its next pause (`paused`), or not at all (`begun`).
        actor: Who asks, for the ledger.
        log: Called with a line whenever the rollout moves.

    Raises:
        RolledBackError: If the evidence sent all traffic back.
        SupersededError: If a newer rollout took its place.
        RolloutEndedError: If it ended otherwise without promoting.
        ForbiddenStrategyError: If the model project rules this strategy out.
        ForbiddenDataError: If the data repository's policy keeps the data of a version out of promotion.
        UntraceableError: If nobody could say what a version was made of.
        InvalidSpecError: If the strategy is none.
        ConflictError: If another rollout is under way on the handle and `on_running` is `reject`.
        TransportError: If the controller does not answer for `PATIENCE_S`; the rollout goes on without us.
    """
    if until not in UNTIL:
        raise InvalidSpecError((f"got {until!r}; known are {', '.join(UNTIL)}",), "until")
    wanted = _request(handle, version, settings, strategy) | {"id": rollout_id}
    controller = _controller(settings, actor)
    begun = controller.start_rollout(handle, wanted)
    log(f"rollout {rollout_id} of {handle} version {version}")
    if until != "begun":
        begun = follow(controller, {handle: rollout_id}, log, until=until)[handle]
    return _result(begun, settings)


def shift_group(
    versions: Mapping[str, int],
    settings: Settings,
    *,
    strategy: Mapping[str, Any],
    group: str,
    actor: str = "airflow",
    log: Log = print,
) -> dict[str, RolloutResult]:
    """Move several handles together, all or nothing: one that goes back takes the others with it.

    Args:
        versions: The deployed version of each handle.
        settings: Where everything is.
        strategy: As for `shift`, the same for every handle.
        group: Name of the group; the same for every try of a task.
        actor: Who asks, for the ledger.
        log: Called with a line whenever one of the rollouts moves.

    Raises:
        RolledBackError: If one of them was sent back; so were the others.
        RolloutEndedError: If one ended otherwise without promoting.
        TaxiwayError: As `shift` does. Then none has begun, and a later call with the same name may begin them.
    """
    names = names_of_group(group, versions)
    together = {"name": group, "handles": list(versions)}
    wanted = [
        {"handle": handle, "id": names[handle], "group": together}
        | _request(handle, version, settings, strategy)
        for handle, version in versions.items()
    ]
    controller = _controller(settings, actor)
    for each in controller.start_group(wanted):
        log(f"rollout {each['id']} of {each['handle']} version {each['version']}")
    ended = follow(controller, names, log)
    # The one that failed is named, not one that went back because of it.
    ranked = sorted(ended.values(), key=lambda seen: (seen["outcome"] != "RolledBack", seen["ended_at_s"]))
    results = {seen["handle"]: _result(seen, settings) for seen in ranked}
    return {handle: results[handle] for handle in versions}


def names_of_group(group: str, versions: Mapping[str, int]) -> dict[str, str]:
    """Return the id of each handle's rollout in a group."""
    return {handle: f"{group}-{handle}-v{version}" for handle, version in versions.items()}


def undo(
    handle: str,
    settings: Settings,
    *,
    undo_id: str,
    to: int | str | None = None,
    actor: str = "airflow",
    log: Log = print,
) -> RolloutResult:
    """Go back to a version that was live before, and follow until it is.

    Args:
        handle: The handle.
        settings: Where everything is.
        undo_id: Name of this undo; asked again with it, it is the same one.
        to: None or empty is the version before; a number is that version; a time in ISO 8601 (`2026-05-01T12:00:00Z`,
            UTC without an offset) is the version that was live then, as the controller remembers.
        actor: Who asks, for the ledger.
        log: Called with a line whenever it moves.

    Raises:
        NotFoundError: If there was none.
        ConflictError: If a rollout is under way: abort that one.
        RolloutEndedError: If that version could not take the traffic.
        InvalidSpecError: If `to` is neither a version nor a time.
    """
    controller = _controller(settings, actor)
    begun = controller.undo(handle, undo_id, **_target(to))
    return _result(follow(controller, {handle: begun["id"]}, log)[handle], settings)


def command(
    handle: str,
    rollout_id: str,
    verb: str,
    settings: Settings,
    *,
    version: int | None = None,
    step: int | None = None,
    command_id: str = "",
    actor: str = "airflow",
    timeout_s: float = 10.0,
) -> dict[str, Any]:
    """Do a verb to a rollout, and return how it stands; after `retry`, how the new one does.

    Where there is nothing to do nothing is done: a rollout that was sent back stays so. Sent again after an answer
    that was lost, `promote` would end the next step as well: name the command or the step, and it is done once.

    Args:
        handle: The handle.
        rollout_id: The rollout.
        verb: `promote`, `promote-full`, `abort`, `pause`, `resume`, `retry`; `add` or `remove` for a version of an
            experiment.
        settings: Where everything is.
        version: The version of `add` and `remove`.
        step: The step that `promote` ends; at another one nothing is done.
        command_id: The caller's name for this command, the same for every try: it is done once. "" has none.
        actor: Who says so, for the ledger.
        timeout_s: Longest wait for the answer, in seconds.

    Raises:
        NotFoundError: If the handle has no such rollout.
        InvalidSpecError: If there is no such verb.
        TransportError: If the controller does not answer.
    """
    controller = _controller(settings, actor, timeout_s=timeout_s)
    return controller.act(handle, rollout_id, verb, version=version, step=step, command_id=command_id)


def look(
    handle: str,
    settings: Settings,
    *,
    rollout_id: str | None = None,
    outcome: str | Sequence[str] | None = None,
    phase: str | None = None,
    version: int | None = None,
) -> Standing:
    """Return whether an endpoint stands where it is wanted. What is not given is not asked for.

    An endpoint that nobody has deployed yet, and a controller that does not answer, stand nowhere yet.

    Args:
        handle: The handle.
        settings: Where everything is.
        rollout_id: The rollout that `outcome` and `phase` are of; None is the handle's latest.
        outcome: Outcome that the rollout shall have, or several of which one will do.
        phase: Phase that it shall be in: `Healthy`, `Progressing`, `Paused`, `RollingBack`, `Degraded`.
        version: Version that shall be live.

    Raises:
        RolloutEndedError: If the rollout that was named ended with another outcome than the one that is waited for
            (`RolledBackError`, `SupersededError`).
        NotFoundError: If a rollout was named that an endpoint which is known does not have.
    """
    controller = _controller(settings, "airflow")
    try:
        endpoint = controller.endpoint(handle)
        rollout = controller.rollout(handle, rollout_id) if rollout_id else endpoint["rollout"] or {}
    except (TransportError, NotFoundError) as exc:
        if isinstance(exc, NotFoundError) and exc.what != "endpoint":
            raise
        return Standing(is_reached=False, reason=str(exc))
    wanted = (outcome,) if isinstance(outcome, str) else tuple(outcome or ())
    if rollout_id and wanted and rollout["status"] == "ended" and rollout["outcome"] not in wanted:
        raise ending(rollout)
    has_ended_so = rollout.get("status") == "ended" and rollout["outcome"] in wanted
    asked = {
        "version": version in (None, endpoint["stable"]),
        "phase": phase in (None, (rollout if rollout_id else endpoint)["phase"]),
        "outcome": not wanted or has_ended_so,
    }
    return standing_of(endpoint, rollout, asked)


def follow(
    controller: Controller, rollouts: Mapping[str, str], log: Log, *, until: str = "ended"
) -> dict[str, dict[str, Any]]:
    """Return rollouts when all of them have ended, by handle; an absent controller is waited for.

    Args:
        controller: Who carries them.
        rollouts: Id of the rollout of each handle.
        log: Called with a line whenever one moves.
        until: `ended`, or `paused` to come back at a pause as well.

    Raises:
        TransportError: If the controller does not answer for `PATIENCE_S`.
    """
    told = {handle: Progress(f"{handle}: " if len(rollouts) > 1 else "") for handle in rollouts}
    seen: dict[str, dict[str, Any]] = {}
    answered_at_s = time.monotonic()
    while True:
        for handle in [name for name in rollouts if not _is_over(seen.get(name), until)]:
            try:
                seen[handle] = controller.rollout(handle, rollouts[handle])
                answered_at_s = time.monotonic()
            except TransportError as exc:
                if time.monotonic() - answered_at_s > PATIENCE_S:
                    raise
                seen[handle] = {"outcome": None, "phase": "Unknown", "status": "unknown", "reason": str(exc)}
            for line in told[handle].lines(seen[handle], time.monotonic()):
                log(line)
        if all(_is_over(seen.get(handle), until) for handle in rollouts):
            return seen
        time.sleep(POLL_S)


def _target(to: int | str | None) -> dict[str, Any]:
    """Return what an undo goes to, as the controller takes it: a version, a time, or nothing for the one before."""
    text = "" if to is None else str(to).strip()
    if not text:
        return {}
    if text.isdecimal():
        return {"version": int(text)}
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        what = f"got {text!r}; give a model version, or a time such as 2026-05-01T12:00:00Z"
        raise InvalidSpecError((what,), "undo: to") from exc
    return {"at_s": (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()}


def _is_over(seen: Mapping[str, Any] | None, until: str) -> bool:
    if seen is None:
        return False
    return seen["status"] == "ended" or (until == "paused" and seen["status"] == "paused")


def _request(handle: str, version: int, settings: Settings, strategy: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rollout as the controller takes it: options of the rollout stand beside the strategy, not in it."""
    code = _candidate(handle, version, settings)
    _refuse_forbidden(code, str(strategy.get("kind", "canary")))
    for rival in strategy.get("rivals") or ():
        _candidate(handle, rival, settings)
    sla = code.manifest["sla"]
    options = {"availability": sla["availability"], "latency_ms": sla["p99_ms"]}
    options |= {name: strategy[name] for name in ROLLOUT_OPTIONS if strategy.get(name) is not None}
    if strategy.get(TOTAL_DEADLINE) is not None:
        options["deadline_s"] = strategy[TOTAL_DEADLINE]
    own = {name: value for name, value in strategy.items() if name not in (*ROLLOUT_OPTIONS, TOTAL_DEADLINE)}
    return {"version": version, "strategy": own, **options}


def _candidate(handle: str, version: int, settings: Settings) -> CodePackage:
    model = models.get(handle, version, settings)
    models.refuse_untraceable(model)
    # One whose training was killed between its registration and its stage could not be reproduced.
    stages.leave(model, settings)
    reasons = _forbidden_data(model, settings)
    if reasons:
        raise ForbiddenDataError(handle, version, reasons)
    return packages.lookup(handle, "inference", settings, model.inference_digest)


def _forbidden_data(model: ModelVersion, settings: Settings) -> tuple[str, ...]:
    """Return why the data of a model, or of the models that it started from, keep it from promotion."""
    own = promotion_faults(model.dataset, settings)
    sources = [models.get(name, number, settings) for name, number in model.source_models.items()]
    return (*own, *(fault for source in sources for fault in _forbidden_data(source, settings)))


def _refuse_forbidden(code: CodePackage, kind: str) -> None:
    policy = code.manifest.get("traffic") or {}
    if kind in policy.get("forbid", ()):
        raise ForbiddenStrategyError(code.handle, kind, policy["reason"])


def _result(seen: Mapping[str, Any], settings: Settings) -> RolloutResult:
    """Return a rollout that did what it was for; another end is an error. MLflow's aliases follow either way."""
    if seen["status"] == "ended":
        project_aliases(seen["handle"], settings)
    return result_of(seen)


def _controller(settings: Settings, actor: str, *, timeout_s: float = 10.0) -> Controller:
    return Controller(
        settings.controller_url, settings.controller_token or "", timeout_s=timeout_s, actor=actor
    )
