"""Who is let in: nobody without Airflow's session or token, and nobody is shown the controller's token."""

import re

import httpx
import pytest

from tests.page.world import TOKEN, Airflow, Served

pytestmark = pytest.mark.slow

PATHS = (
    "/",
    "/endpoints/digits",
    "/static/main.js",
    "/static/icon.svg",
    "/api/endpoints",
    "/api/endpoints/digits",
    "/api/endpoints/digits/history",
    "/api/endpoints/digits/timeline?since_s=0&until_s=2000000000",
    "/api/endpoints/digits/export.csv",
    "/api/endpoints/digits/export.json",
)


@pytest.mark.parametrize("path", [*PATHS, "/static/nothing.js", "/api/endpoints/nothing"])
def test_nobody_is_let_in_without_a_login(airflow: Airflow, path: str) -> None:
    assert airflow.get(path).status_code == 401
    for token in ("garbage", TOKEN):
        assert airflow.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 403
        assert airflow.get(path, cookies={"_token": token}).status_code in (401, 403)


@pytest.mark.parametrize("path", PATHS)
def test_viewer_may_read(airflow: Airflow, path: str) -> None:
    answer = airflow.get(path, headers=bearer(airflow, "ben"))
    assert answer.status_code == 200, answer.text
    assert TOKEN not in answer.text
    assert TOKEN not in str(answer.headers)


def test_session_cookie_is_enough(airflow: Airflow) -> None:
    assert airflow.get("/api/endpoints", cookies={"_token": airflow.token("ben")}).is_success


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(airflow: Airflow, method: str) -> None:
    url = f"{airflow.url}/taxiway/api/endpoints/digits"
    answer = httpx.request(method, url, headers=bearer(airflow, "ann"), trust_env=False, timeout=60)
    assert answer.status_code == 405


def test_person_without_a_login_is_shown_the_way(airflow: Airflow) -> None:
    answer = airflow.get("/", headers={"accept": "text/html"})
    assert answer.status_code == 401
    assert 'href="/"' in answer.text
    assert "<script" not in answer.text


def test_page_may_load_nothing_from_elsewhere(airflow: Airflow) -> None:
    answer = airflow.get("/", headers=bearer(airflow, "ben"))
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://", answer.text)


def test_page_tells_nothing_of_where_variants_run(airflow: Airflow) -> None:
    variants = airflow.get("/api/endpoints/digits", headers=bearer(airflow, "ben")).json()["endpoint"][
        "variants"
    ]
    assert {name for variant in variants.values() for name in variant} == {
        "version",
        "model",
        "phase",
        "reason",
        "restarts",
    }


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/page.html", "/static/%2e%2e%2fapp.py"])
def test_static_is_scripts_styles_and_icons_alone(airflow: Airflow, path: str) -> None:
    assert airflow.get(path, headers=bearer(airflow, "ben")).status_code == 404


def test_export_is_a_file(airflow: Airflow) -> None:
    answer = airflow.get("/api/endpoints/digits/export.csv", headers=bearer(airflow, "ben"))
    assert answer.headers["content-disposition"] == 'attachment; filename="digits.csv"'
    assert answer.text.startswith(
        "at,at_s,handle,version,dataset,dataset_hash,wanted_pct,observed_pct,requests"
    )


def test_viewer_connection_is_preferred_and_a_wrong_token_told(airflow: Airflow, served: Served) -> None:
    connection = {"connection_id": "taxiway_viewer", "conn_type": "taxiway", "host": "127.0.0.1"}
    connection |= {"port": served.port, "password": "not-the-token"}  # type: ignore[dict-item]
    connections = f"{airflow.url}/api/v2/connections"
    with httpx.Client(headers=bearer(airflow, "ann"), trust_env=False, timeout=60) as admin:
        admin.post(connections, json=connection).raise_for_status()
        refused = admin.get(f"{airflow.url}/taxiway/api/endpoints")
        admin.delete(f"{connections}/taxiway_viewer").raise_for_status()
        taken = admin.get(f"{airflow.url}/taxiway/api/endpoints")
    assert refused.status_code == 502
    assert "password of the Airflow connection taxiway_viewer" in refused.json()["next_step"]
    assert "not-the-token" not in refused.text
    assert taken.status_code == 200


def bearer(airflow: Airflow, user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {airflow.token(user)}"}
