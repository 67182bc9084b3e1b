"""Reads the model registry over MLflow's documented REST interface, without importing mlflow.

Importing mlflow costs a task 2 s; one that only looks something up needs a few questions, which is all there is here.
Everything else, and a server that wants credentials or certificates of its own, goes through `tracking.py`.

Source: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taxiway.errors import InvalidSpecError, TransportError
from taxiway.settings import Settings
from taxiway.tools import redact

if TYPE_CHECKING:
    import ssl

PAGE, MOST_RUNS = 200, 1000
TIMEOUT_S = 30.0
NEWEST_FIRST = "creation_timestamp DESC"
# MLflow answers an unknown version with the first, an unknown alias with the second.
ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a registered model, as it was when it was read; made at `created_at_s` since the epoch."""

    name: str
    number: int
    run_id: str
    source: str
    tags: Mapping[str, str]
    created_at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some versions of all names, the newest first, and what asks for the next page; "" after the last."""

    versions: tuple[Version, ...]
    token: str


def version(name: str, which: int | str, settings: Settings) -> Version | None:
    """Return a version by number or alias, or None.

    Raises:
        TransportError: If MLflow does not answer, or not in its own form.
    """
    if isinstance(which, int):
        found = _get("model-versions/get", {"name": name, "version": str(which)}, settings)
    else:
        found = _get("registered-models/alias", {"name": name, "alias": which}, settings)
    return _version(found["model_version"]) if found else None


def find_versions(name: str, tags: Mapping[str, str], settings: Settings) -> tuple[Version, ...]:
    """Return the versions that carry all the tags, the newest first, up to `PAGE`; none for an unknown name.

    Raises:
        TransportError: If MLflow does not answer, or not in its own form.
    """
    params = {"filter": query(name, tags), "max_results": str(PAGE), "order_by": "version_number DESC"}
    found = _get("model-versions/search", params, settings) or {}
    return tuple(_version(item) for item in found.get("model_versions", []))


def newest(settings: Settings, *, token: str = "", limit: int = PAGE) -> Page:
    """Return a page of the versions of all names, the newest first.

    Raises:
        TransportError: If MLflow does not answer, or not in its own form.
    """
    params = {"max_results": str(limit), "order_by": NEWEST_FIRST} | ({"page_token": token} if token else {})
    found = _get("model-versions/search", params, settings) or {}
    versions = tuple(_version(item) for item in found.get("model_versions", []))
    return Page(versions=versions, token=found.get("next_page_token", ""))


def find_tagged(tags: Mapping[str, str], settings: Settings) -> tuple[Version, ...]:
    """Return the versions of any name that carry all the tags, the newest first, up to `PAGE`.

    Raises:
        TransportError: If MLflow does not answer, or not in its own form.
    """
    params = {
        "filter": " and ".join(tag_terms(tags)),
        "max_results": str(PAGE),
        "order_by": NEWEST_FIRST,
    }
    found = _get("model-versions/search", params, settings) or {}
    return tuple(_version(item) for item in found.get("model_versions", []))


def all_runs(terms: Sequence[str], settings: Settings) -> Iterator[Mapping[str, Any]]:
    """Yield the runs of every experiment that all terms of MLflow's filter hold for, the newest first, as MLflow does.

    Raises:
        TransportError: If MLflow does not answer, or not in its own form.
    """
    experiments = _pages("GET", "experiments", {"max_results": MOST_RUNS}, settings)
    asked = {
        "experiment_ids": [each["experiment_id"] for each in experiments],
        "filter": " and ".join(terms),
        "max_results": MOST_RUNS,
    }
    if asked["experiment_ids"]:
        yield from _pages("POST", "runs", asked, settings)


def query(name: str, tags: Mapping[str, str]) -> str:
    """Return MLflow's filter for a registered model's versions with these tags."""
    return " and ".join([f"name = {quoted(name)}", *tag_terms(tags)])


def tag_terms(tags: Mapping[str, str]) -> list[str]:
    """Return the terms of MLflow's filter that ask for these tags."""
    return [f"tags.`{key}` = {quoted(value)}" for key, value in tags.items()]


def quoted(value: str) -> str:
    """Return a value as text of MLflow's filter language, which knows two quotes and no escape.

    Raises:
        InvalidSpecError: If the value holds both quotes.
    """
    for quote in ("'", '"'):
        if quote not in value:
            return f"{quote}{value}{quote}"
    raise InvalidSpecError((f"{value!r} holds both kinds of quotes",), "MLflow filter")


def _pages(method: str, what: str, asked: Mapping[str, Any], settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield what a search finds, page after page."""
    token = ""
    while True:
        page = (
            _ask(method, f"{what}/search", {**asked, **({"page_token": token} if token else {})}, settings)
            or {}
        )
        yield from page.get(what, ())
        token = page.get("next_page_token", "")
        if not token:
            return


def _get(path: str, params: Mapping[str, str], settings: Settings) -> dict[str, Any] | None:
    return _ask("GET", path, params, settings)


def _ask(method: str, path: str, asked: Mapping[str, Any], settings: Settings) -> dict[str, Any] | None:
    import httpx

    base = settings.tracking_uri.rstrip("/")
    given: dict[str, Any] = {"json": dict(asked)} if method == "POST" else {"params": dict(asked)}
    try:
        answer = httpx.request(
            method, f"{base}/api/2.0/mlflow/{path}", timeout=TIMEOUT_S, verify=_certificates(), **given
        )
        document: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as exc:
        raise TransportError(f"MLflow at {redact(base)}", redact(f"{type(exc).__name__}: {exc}")) from exc
    if answer.is_success:
        return document
    if document.get("error_code") in ABSENT:
        return None
    raise TransportError(
        f"MLflow at {redact(base)}", f"HTTP {answer.status_code}: {document.get('message', '')}"
    )


@functools.lru_cache(maxsize=1)
def _certificates() -> "ssl.SSLContext":
    """Return whom to trust, read once: reading it takes longer than most answers."""
    import httpx

    return httpx.create_ssl_context()


def _version(found: Mapping[str, Any]) -> Version:
    return Version(
        name=found["name"],
        number=int(found["version"]),
        run_id=found.get("run_id", ""),
        source=found.get("source", ""),
        tags={tag["key"]: tag.get("value", "") for tag in found.get("tags", [])},
        created_at_s=float(found.get("creation_timestamp", 0)) / 1000,
    )
