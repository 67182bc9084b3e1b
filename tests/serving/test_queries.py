"""Metrics asked of Prometheus and SQL: by name only, in the background, and without a secret in any message."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
import sqlalchemy as sa

from taxiway_serving.errors import InvalidSpecError, TransportError
from taxiway_serving.evidence.queries import LARGEST, Queries, Query, Sources, ask
from tests.serving.conftest import wait_until


class Prometheus(HTTPServer):
    """A server that answers the query API of Prometheus, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.answer: dict[str, Any] = {"data": {"result": [{"metric": {}, "value": [0, "0.25"]}]}}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        self.server.asked.append(parse_qs(urlparse(self.path).query)["query"][0])
        body = json.dumps(self.server.answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    server = Prometheus()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _query(kind: str, text: str, source: str = "", **asker: str) -> Query:
    by = {"rollout": "r", "metric": "m", **asker}
    return Query(**by, kind=kind, source=source, text=text, handle="digits", version=2)


def test_prometheus_is_asked_about_the_version(prometheus: Prometheus) -> None:
    sources = Sources({"prometheus": {"main": prometheus.url}})
    assert ask(_query("prometheus", 'cpu{handle="{handle}",v="{version}"}'), sources) == 0.25
    assert prometheus.asked == ['cpu{handle="digits",v="2"}']


def test_prometheus_without_a_series_has_no_value_yet(prometheus: Prometheus) -> None:
    prometheus.answer = {"data": {"result": []}}
    assert ask(_query("prometheus", "up"), Sources({"prometheus": {"main": prometheus.url}})) is None


def test_sql_binds_the_version_and_returns_the_first_value(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE sales (version INTEGER, amount REAL)"))
        connection.execute(sa.text("INSERT INTO sales VALUES (1, 9.0), (2, 3.5), (2, 4.5)"))
    engine.dispose()
    query = _query("sql", "SELECT avg(amount) FROM sales WHERE version = :version", "shop")
    assert ask(query, Sources({"sql": {"shop": url}})) == 4.0


def test_source_that_its_owner_did_not_name_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="known of sql are shop"):
        ask(_query("sql", "SELECT 1", "other"), Sources({"sql": {"shop": "sqlite://", "b": "sqlite://"}}))


def test_failing_sql_source_shows_no_password() -> None:
    sources = Sources({"sql": {"shop": "sqlite:////no/such/folder/secret-password.db"}})
    with pytest.raises(TransportError) as caught:
        ask(_query("sql", "SELECT 1"), sources)
    assert "secret-password" not in str(caught.value)


def test_sources_file_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metric_sources.json"
    path.write_text("[1]")
    with pytest.raises(InvalidSpecError, match="write an object"):
        Sources.from_file(path)


def test_queries_return_each_value_once_and_ask_again_at_their_interval(prometheus: Prometheus) -> None:
    queries = Queries(Sources({"prometheus": {"main": prometheus.url}}))
    query, found = _query("prometheus", "up"), []
    try:
        for now_s in (0.0, 5.0, 10.0, 31.0, 32.0):
            found.append(queries.news(query, interval_s=30, now_s=now_s))
            wait_until(queries._asked[query][1].done)
    finally:
        queries.close()
    assert found == [None, 0.25, None, None, 0.25]
    assert len(prometheus.asked) == 2


@pytest.mark.parametrize(("told", "value"), [("NaN", None), ("+Inf", LARGEST), ("-Inf", -LARGEST)])
def test_what_is_no_number_is_no_measurement_and_what_has_no_bound_is_the_largest(
    prometheus: Prometheus, told: str, value: float | None
) -> None:
    """0 of 0 requests are no failure rate; 1 of 0 is more than any limit."""
    prometheus.answer = {"data": {"result": [{"metric": {}, "value": [0, told]}]}}
    assert ask(_query("prometheus", "up"), Sources({"prometheus": {"main": prometheus.url}})) == value


def test_answer_is_news_to_the_rollout_and_the_metric_that_asked(prometheus: Prometheus) -> None:
    queries = Queries(Sources({"prometheus": {"main": prometheus.url}}))
    first, other = _query("prometheus", "up"), _query("prometheus", "up", metric="n")
    later = _query("prometheus", "up", rollout="later")
    try:
        for query in (first, other):
            assert queries.news(query, interval_s=30, now_s=0) is None
            wait_until(queries._asked[query][1].done)
        assert [queries.news(query, interval_s=30, now_s=1) for query in (first, other)] == [0.25, 0.25]
        assert queries.news(later, interval_s=30, now_s=1) is None
        wait_until(queries._asked[later][1].done)
        queries.keep({"r"})
        assert queries.news(later, interval_s=30, now_s=2) is None
    finally:
        queries.close()


def test_query_that_fails_is_no_measurement(caplog: pytest.LogCaptureFixture) -> None:
    queries = Queries(Sources({}))
    query = _query("prometheus", "up", "gone")
    try:
        queries.news(query, interval_s=1, now_s=0)
        wait_until(queries._asked[query][1].done)
        assert queries.news(query, interval_s=1, now_s=2) is None
    finally:
        queries.close()
    assert "gone" in caplog.text
