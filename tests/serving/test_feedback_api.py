"""Feedback, the timeline, roles and limits over HTTP, by the controller's own client where it has a method."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import pytest

from taxiway_serving.client import Controller
from taxiway_serving.controller.app import create_app
from taxiway_serving.controller.limits import MOST_BODY_BYTES
from taxiway_serving.controller.sightings import Shares, exposures_of, served_of
from taxiway_serving.errors import ConflictError, InvalidSpecError, NotFoundError, OverloadError, RoleError
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.feedback import Exposure, Metric
from taxiway_serving.ledger.reward_receipts import UNKNOWN_AFTER_S
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.timeline import SqlTimeline
from tests.serving.interface import TOKENS, listening, parts_of
from tests.serving.plane import HANDLE, Plane

CLICK = Metric(name="click", window_s=60.0)


class Served:
    """A controller's interface over a plane in memory, on a real socket.

    Attributes:
        waited_s: Time that has passed beside the plane's own.
    """

    def __init__(self, plane: Plane) -> None:
        database = f"sqlite:///{plane.home / 'controller.db'}"
        self.plane, self.waited_s = plane, 0.0
        self._stack = ExitStack()
        self.rewards = self._stack.enter_context(closing(SqlRewards(database)))
        self.timeline = self._stack.enter_context(closing(SqlTimeline(database)))
        parts = parts_of(
            plane,
            clock=lambda: self.now_s,
            rewards=self.rewards,
            timeline=self.timeline,
            attempts_of=AttemptLog(plane.home / "attempts.jsonl").find,
        )
        self.url = self._stack.enter_context(listening(create_app(parts)))

    @property
    def now_s(self) -> float:
        return self.plane.now_s + self.waited_s

    def close(self) -> None:
        self._stack.close()

    def client(self, role: str = "operator") -> Controller:
        return Controller(self.url, TOKENS[role], timeout_s=60)

    def post(self, body: object, *, role: str = "reporter") -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKENS[role]}"}
        return httpx.post(f"{self.url}/v1/feedback", json=body, headers=headers, trust_env=False, timeout=60)

    def expose(self, request_id: str, *, version: int = 1) -> None:
        self.rewards.record(
            [
                Exposure(
                    request_id=request_id,
                    handle=HANDLE,
                    version=version,
                    unit=f"request:{request_id}",
                    at_s=self.now_s,
                    share=1.0,
                )
            ]
        )


@pytest.fixture
def served(plane: Plane) -> Iterator[Served]:
    with ExitStack() as stack:
        yield stack.enter_context(closing(Served(plane)))


def _event(request_id: str = "r1", value: float = 1, **changes: object) -> dict[str, object]:
    return {"request_id": request_id, "metric": "click", "value": value, **changes}


def test_feedback_is_credited_to_the_version_that_answered(served: Served) -> None:
    served.expose("r1", version=7)
    answer = served.client("reporter").feedback("r1", "click", 1)
    assert (answer["status"], answer["version"], answer["handle"]) == ("attributed", 7, HANDLE)
    account = served.client("viewer").feedback_status("r1")
    assert (account["exposure"]["version"], account["events"][0]["value"]) == (7, 1.0)


def test_feedback_again_is_a_no_op_that_says_so(served: Served) -> None:
    served.expose("r1")
    served.post(_event())
    again = served.post(_event(event_at_s=served.now_s + 5))
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    assert len(served.client().feedback_status("r1")["events"]) == 1


def test_feedback_with_another_value_is_refused_with_the_way_out(served: Served) -> None:
    served.client().feedback("r1", "click", 1)
    with pytest.raises(ConflictError, match=r"is 1\.0 already, got 0\.0.*event_id of its own"):
        served.client().feedback("r1", "click", 0)
    assert served.post(_event(value=0)).status_code == 409


def test_feedback_that_overtakes_the_log_is_answered_202_and_attributed_later(served: Served) -> None:
    early = served.post(_event())
    assert (early.status_code, early.json()["status"], early.json()["version"]) == (202, "pending", None)
    assert served.client().feedback_status("r1")["exposure"] is None
    served.expose("r1")
    (event,) = served.client().feedback_status("r1")["events"]
    assert (event["status"], event["version"]) == ("attributed", 1)


def test_feedback_on_a_request_that_never_came_is_not_found_and_counted(served: Served, plane: Plane) -> None:
    plane.deploy(1)
    served.post(_event())
    served.waited_s += UNKNOWN_AFTER_S
    with pytest.raises(NotFoundError, match=r"x-request-id of an answer; 1 event"):
        served.client().feedback_status("r1")
    timeline = httpx.get(
        f"{served.url}/v1/endpoints/{HANDLE}/timeline",
        headers={"Authorization": f"Bearer {TOKENS['viewer']}"},
        trust_env=False,
        timeout=60,
    )
    assert timeline.json()["feedback"] == {"pending": 0, "unknown": 1}


def test_feedback_after_the_window_is_kept_and_flagged(served: Served) -> None:
    served.rewards.follow(HANDLE, [CLICK])
    served.expose("r1")
    served.waited_s += 61.0
    answer = served.client().feedback("r1", "click", 1)
    assert (answer["status"], answer["note"]) == (
        "late",
        "came 61 s after its request, the window is 60 s; kept, not counted",
    )


def test_feedback_for_a_version_without_traffic_is_kept_and_flagged(served: Served, plane: Plane) -> None:
    plane.go_live(1)
    served.expose("r1", version=1)
    served.expose("r2", version=2)
    told = served.client().feedback_batch([_event("r1"), _event("r2")])
    assert [event["status"] for event in told] == ["attributed", "removed_arm"]
    assert "version 2 has no traffic now" in told[1]["note"]


def test_feedback_takes_a_list_whole_or_not_at_all(served: Served) -> None:
    good = [_event(f"r{number}") for number in range(3)]
    with pytest.raises(InvalidSpecError) as caught:
        served.client().feedback_batch([*good, _event(value="x"), _event(metric="Bad", colour=1)])  # type: ignore[arg-type]
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["event 4", "event 5", "event 5"]
    with pytest.raises(NotFoundError):
        served.client().feedback_status("r0")
    assert [one["status"] for one in served.client().feedback_batch(good)] == ["pending"] * 3


def test_feedback_takes_a_thousand_events_and_no_more(served: Served) -> None:
    events = [_event(f"r{number}") for number in range(1001)]
    assert len(served.client().feedback_batch(events[:1000])) == 1000
    with pytest.raises(InvalidSpecError, match="takes 1 to 1,000 events at once, got 1,001"):
        served.client().feedback_batch(events)


@pytest.mark.parametrize("is_chunked", [True, False], ids=["in chunks", "announced"])
def test_body_above_the_limit_is_refused_however_it_is_sent(served: Served, is_chunked: bool) -> None:
    body = b"[" + b" " * MOST_BODY_BYTES + b"]"
    content = (body[start : start + 65_536] for start in range(0, len(body), 65_536)) if is_chunked else body
    headers = {"Authorization": f"Bearer {TOKENS['reporter']}"}
    answer = httpx.post(
        f"{served.url}/v1/feedback", content=content, headers=headers, trust_env=False, timeout=60
    )
    assert (answer.status_code, answer.json()["error"]["reason"]) == (413, "TooLarge")


def test_body_in_chunks_is_read_whole(served: Served) -> None:
    chunks = (part for part in (b'{"request_id": "r1", ', b'"metric": "click", ', b'"value": 1}'))
    headers = {"Authorization": f"Bearer {TOKENS['reporter']}", "content-type": "application/json"}
    answer = httpx.post(
        f"{served.url}/v1/feedback", content=chunks, headers=headers, trust_env=False, timeout=60
    )
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")


def test_timeline_joins_split_requests_and_rewards(served: Served, plane: Plane) -> None:
    plane.go_live(1)
    shares, begin_s = Shares(), plane.now_s // 10 * 10
    shares.note(plane.reconciler.world.splits, now_s=0.0)
    plane.tick(3, requests=20)
    attempts = plane.source.read("").attempts[-60:]
    served.timeline.record(served_of(attempts), {HANDLE: {1: 100.0}}, now_s=plane.now_s)
    served.rewards.record(exposures_of(attempts, shares))
    served.client().feedback_batch([_event(attempt.request_id, n % 2) for n, attempt in enumerate(attempts)])
    found = served.client("viewer").timeline(HANDLE, since_s=begin_s, step_s=60)
    assert sum(row["requests"] for row in found) == 60
    assert {row["version"] for row in found} == {1}
    assert sum(row["rewards"]["click"]["n"] for row in found) == 60
    assert sum(row["rewards"]["click"]["sum"] for row in found) == 30
    assert {row["weight_pct"] for row in found} >= {100.0}
    assert found[0]["p50_ms"] == pytest.approx(2.0, rel=0.08)


def test_feedback_that_would_wait_without_room_is_refused_with_the_way_out(served: Served) -> None:
    served.rewards._most_waiting = 1
    served.expose("r1")
    assert served.post([_event("r1"), _event("r7")]).status_code == 202
    assert served.post(_event("r8")).status_code == 429
    with pytest.raises(OverloadError, match="at most 1; send the x-request-id of answers"):
        served.client().feedback("r8", "click", 1)
    assert served.client().feedback("r1", "sale", 1)["status"] == "attributed"


def _half(served: Served, *, rate: int) -> None:
    """Let 400 requests go to two versions by turns; version 2 earns once in so many."""
    served.rewards.follow(HANDLE, [CLICK])
    served.rewards.record(
        [
            Exposure(
                request_id=f"r{number}",
                handle=HANDLE,
                version=1 + number % 2,
                unit=f"user:{number}",
                at_s=served.now_s,
                share=0.5,
            )
            for number in range(400)
        ]
    )
    served.client().feedback_batch([_event(f"r{number}") for number in range(1, 400, 2 * rate)])


def test_counterfactual_foretells_what_a_version_would_earn_at_100_per_cent(
    served: Served, plane: Plane
) -> None:
    plane.deploy(1)
    _half(served, rate=4)
    served.waited_s += 61.0
    found = served.client("viewer").counterfactual(HANDLE, 2, "click")
    assert (found["handle"], found["version"], found["metric"], found["window_s"]) == (HANDLE, 2, "click", 60)
    assert (found["decisions"], found["drawn"], found["reason"]) == (400, 200, "")
    assert found["low"] < found["value"] < found["high"]
    assert found["value"] == pytest.approx(0.25, abs=0.01)


def test_counterfactual_says_why_it_has_no_value(served: Served, plane: Plane) -> None:
    plane.deploy(1)
    _half(served, rate=4)
    early = served.client().counterfactual(HANDLE, 2, "click")
    assert (early["value"], early["low"], early["high"]) == (None, 0.0, 1.0)
    assert "drawn 0 times" in early["reason"]
    served.waited_s += 61.0
    later = served.client().counterfactual(HANDLE, 2, "click", since_s=served.now_s)
    assert later["value"] is None


def test_counterfactual_is_on_the_scale_and_by_the_window_that_are_asked_for(
    served: Served, plane: Plane
) -> None:
    plane.deploy(1)
    _half(served, rate=1)
    served.waited_s += 61.0
    found = served.client().counterfactual(HANDLE, 2, "click", least=-1, most=0.5, window_s=30)
    assert (found["value"], found["window_s"]) == (0.5, 30)
    with pytest.raises(InvalidSpecError):
        served.client().counterfactual(HANDLE, 2, "click", window_s=0)
    with pytest.raises(NotFoundError, match="deploy a model version"):
        served.client().counterfactual("nothing", 2, "click")


def test_timeline_of_an_unknown_handle_is_not_found(served: Served) -> None:
    with pytest.raises(NotFoundError, match="deploy a model version"):
        served.client().timeline("nothing")


def test_timeline_chooses_a_width_that_shows_the_time_asked_for(served: Served, plane: Plane) -> None:
    plane.deploy(1)

    def step_s(hours: float) -> int:
        answer = httpx.get(
            f"{served.url}/v1/endpoints/{HANDLE}/timeline",
            params={"since_s": 0, "until_s": hours * 3600},
            headers={"Authorization": f"Bearer {TOKENS['viewer']}"},
            trust_env=False,
            timeout=60,
        )
        return int(answer.json()["step_s"])

    assert [step_s(hours) for hours in (1, 24, 24 * 90)] == [10, 300, 21_600]


READS = ("/v1/endpoints", f"/v1/endpoints/{HANDLE}", f"/v1/endpoints/{HANDLE}/ledger", "/v1/feedback/r1")
ACTS = (
    ("PUT", f"/v1/endpoints/{HANDLE}/variants/1"),
    ("DELETE", f"/v1/endpoints/{HANDLE}/variants/1"),
    ("POST", f"/v1/endpoints/{HANDLE}/rollouts"),
    ("POST", f"/v1/endpoints/{HANDLE}/rollouts/r/abort"),
    ("POST", f"/v1/endpoints/{HANDLE}/undo"),
)


def _status(served: Served, method: str, path: str, token: str | None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx.request(
        method, served.url + path, headers=headers, json={} if method != "GET" else None, trust_env=False
    ).status_code


def _routes(served: Served) -> list[tuple[str, str]]:
    """Return every route that the interface describes, with its parameters filled in."""
    paths = httpx.get(f"{served.url}/openapi.json", trust_env=False, timeout=60).json()["paths"]
    named = {
        "{handle}": HANDLE,
        "{version}": "1",
        "{rollout_id}": "r",
        "{verb}": "abort",
        "{request_id}": "r1",
    }
    found = []
    for path, methods in paths.items():
        filled = "/".join(named.get(part, part) for part in path.split("/"))
        found += [(method.upper(), filled) for method in methods]
    return [route for route in found if route != ("GET", "/healthz")]


def test_every_route_refuses_who_shows_no_token_or_a_wrong_one(served: Served) -> None:
    routes = _routes(served)
    assert {("GET", path) for path in READS} | set(ACTS) | {("POST", "/v1/feedback")} <= set(routes)
    for method, path in routes:
        for token in (None, "wrong", TOKENS["operator"] + "x"):
            assert _status(served, method, path, token) == 401, (method, path, token)


def test_viewer_may_read_and_nothing_else(served: Served) -> None:
    for method, path in _routes(served):
        is_refused = _status(served, method, path, TOKENS["viewer"]) == 403
        assert is_refused == (method != "GET"), (method, path)


def test_reporter_may_report_and_nothing_else(served: Served) -> None:
    for method, path in _routes(served):
        is_refused = _status(served, method, path, TOKENS["reporter"]) == 403
        assert is_refused == (path != "/v1/feedback"), (method, path)


def test_operator_may_do_all(served: Served) -> None:
    for method, path in _routes(served):
        assert _status(served, method, path, TOKENS["operator"]) not in (401, 403), (method, path)


def test_refusal_of_a_role_says_whose_token_it_takes(served: Served) -> None:
    with pytest.raises(RoleError, match=r"it is a reporter's, who may not act; use the token of: operator"):
        served.client("reporter").undo(HANDLE, "u1")
    with pytest.raises(RoleError, match="operator, viewer"):
        served.client("reporter").endpoints()
