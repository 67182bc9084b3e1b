"""What is told about a rollout to people who do not watch it, and its way to a webhook. No Airflow here."""

from collections.abc import Mapping
from typing import Any

from taxiway.errors import NotFoundError, TransportError
from taxiway.settings import Settings
from taxiway_serving.client import Controller

TIMEOUT_S = 5.0
_KEPT = ("id", "version", "stable", "outcome", "phase", "reason", "weight_pct", "weights", "winner")


def message(
    handle: str, settings: Settings, *, rollout_id: str | None = None, task: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what happened to a task and its rollout, for people (`text`) and for programs (the rest).

    A task that failed before it had a rollout tells why itself: the handle's latest rollout is none of its doing. A
    controller that does not answer is no reason to tell nobody: then the task's own facts stand alone.

    Args:
        handle: The handle; "" where the task has none.
        settings: Where the controller is.
        rollout_id: The rollout; None is the handle's latest, unless the task says what went wrong.
        task: Facts of the task: `dag_id`, `run_id`, `task_id`, `state`, `link`, and `error` if it failed.
    """
    error = str(task.get("error") or "")
    rollout = _rollout(handle, settings, rollout_id) if handle and (rollout_id or not error) else {}
    what = rollout.get("outcome") or rollout.get("phase") or task["state"]
    # Only a rollout that is over explains its task: one that goes on has a task that went wrong by itself.
    reasons = (rollout.get("reason"), error) if rollout.get("outcome") else (error, rollout.get("reason"))
    why = next(filter(None, reasons), "no reason is known").splitlines()[0]
    about = f"{handle} version {rollout['version']}" if rollout else handle or task["dag_id"]
    text = f"{about}: {what}: {why} ({task['dag_id']}.{task['task_id']} {task['state']})"
    kept = {name: rollout[name] for name in _KEPT if rollout.get(name) is not None}
    return {"text": f"{text} {task['link']}".strip(), "handle": handle, "rollout": kept, "task": dict(task)}


def send(url: str, content: Mapping[str, Any]) -> None:
    """Post a message to a webhook as JSON. Chat services show the key `text` of it.

    Raises:
        TransportError: If the webhook did not accept it.
    """
    import httpx

    try:
        httpx.post(url, json=dict(content), timeout=TIMEOUT_S).raise_for_status()
    except httpx.HTTPError as exc:
        # The address of a webhook is a secret: it is named by its host alone.
        raise TransportError(f"webhook at {httpx.URL(url).host}", type(exc).__name__) from None


def _rollout(handle: str, settings: Settings, rollout_id: str | None) -> Mapping[str, Any]:
    controller = Controller(
        settings.controller_url, settings.controller_token or "", timeout_s=TIMEOUT_S, actor="airflow"
    )
    try:
        if rollout_id:
            return controller.rollout(handle, rollout_id)
        return controller.endpoint(handle)["rollout"] or {}
    except (TransportError, NotFoundError):
        # What became of the task is told without the rollout rather than not at all.
        return {}
