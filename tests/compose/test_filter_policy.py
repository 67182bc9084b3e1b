"""What the filter of the engine's socket lets through, on values alone."""

import json
from typing import Any

import pytest

from taxiway_serving.socket_filter.policy import Asked, faults_of

NETWORKS = frozenset({"taxiway-variants"})
HOST: dict[str, Any] = {
    "NetworkMode": "none",
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "Memory": 2**28,
    "Init": True,
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "20m"}},
    "Mounts": [{"Type": "volume", "Target": "/taxiway/output"}],
}
BODY: dict[str, Any] = {"Image": "sha256:1", "User": "10001:10001", "Labels": {"taxiway.job": "true"}}
MEMORY = {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs", "o": "size=4096,mode=0755"}}


def create(host: dict[str, Any] | None = None, **body: Any) -> tuple[str, ...]:
    content = {**BODY, "HostConfig": {**HOST, **(host or {})}, **body}
    return created(json.dumps(content).encode())


def created(body: bytes) -> tuple[str, ...]:
    return ask("POST", "/v1.41/containers/create", "name=taxiway-a", body)


def ask(
    method: str, path: str, query: str = "", body: bytes = b"", ours: bool | None = True, kind: str = ""
) -> tuple[str, ...]:
    asked = Asked(method=method, path=path, query=query, kind=kind, body=body, networks=NETWORKS)
    return faults_of(asked, lambda _: ours)


def test_container_of_a_component_is_created() -> None:
    assert create() == ()


@pytest.mark.parametrize(
    "host",
    [
        pytest.param({"NetworkMode": "taxiway-variants"}, id="network_of_variants"),
        pytest.param({"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}, id="gpu"),
        pytest.param(
            {"Mounts": [{"Type": "volume", "Target": "/s", "VolumeOptions": {"DriverConfig": MEMORY}}]},
            id="volume_of_memory",
        ),
        pytest.param({"Tmpfs": {"/tmp": "rw,nosuid"}, "RestartPolicy": {"Name": "no"}}, id="variant"),
        pytest.param({"Privileged": False, "Binds": None, "PidMode": ""}, id="empty_wishes"),
    ],
)
def test_what_runner_and_runtime_ask_for_is_created(host: dict[str, Any]) -> None:
    assert create(host) == ()


@pytest.mark.parametrize(
    "host",
    [
        pytest.param({"Privileged": True}, id="privileged"),
        pytest.param({"privileged": True}, id="privileged_in_another_case"),
        pytest.param({"Binds": ["/:/host"]}, id="bind"),
        pytest.param({"Mounts": [{"Type": "bind", "Source": "/", "Target": "/h"}]}, id="bind_mount"),
        pytest.param(
            {"Mounts": [{"Type": "volume", "Source": "taxiway_postgres", "Target": "/h"}]}, id="named"
        ),
        pytest.param({"Mounts": [{"Type": "npipe", "Source": "x", "Target": "/h"}]}, id="pipe"),
        pytest.param(
            {
                "Mounts": [
                    {
                        "Type": "volume",
                        "Target": "/h",
                        "VolumeOptions": {
                            "DriverConfig": {
                                "Name": "local",
                                "Options": {"type": "none", "o": "bind", "device": "/"},
                            }
                        },
                    }
                ]
            },
            id="volume_that_binds",
        ),
        pytest.param({"VolumesFrom": ["taxiway_postgres_1"]}, id="volumes_of_another"),
        pytest.param({"NetworkMode": "host"}, id="host_network"),
        pytest.param({"NetworkMode": "container:postgres"}, id="network_of_another"),
        pytest.param({"NetworkMode": "bridge"}, id="bridge"),
        pytest.param({"NetworkMode": ""}, id="default_network"),
        pytest.param({"PidMode": "host"}, id="pids"),
        pytest.param({"IpcMode": "host"}, id="ipc"),
        pytest.param({"UsernsMode": "host"}, id="users"),
        pytest.param({"CapAdd": ["SYS_ADMIN"]}, id="capability"),
        pytest.param({"CapDrop": []}, id="capabilities_kept"),
        pytest.param({"SecurityOpt": ["no-new-privileges", "apparmor=unconfined"]}, id="unconfined"),
        pytest.param({"SecurityOpt": []}, id="new_privileges"),
        pytest.param({"Devices": [{"PathOnHost": "/dev/sda"}]}, id="device"),
        pytest.param({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["x"]}]}, id="device_driver"),
        pytest.param({"Runtime": "runc-other"}, id="runtime"),
        pytest.param({"CgroupParent": "/"}, id="cgroup"),
        pytest.param({"Sysctls": {"kernel.msgmax": "1"}}, id="sysctl"),
        pytest.param({"PortBindings": {"1/tcp": [{"HostPort": "1"}]}}, id="published_port"),
        pytest.param({"LogConfig": {"Type": "syslog", "Config": {}}}, id="log_elsewhere"),
        pytest.param({"ReadonlyPaths": []}, id="settings_of_the_kernel"),
        pytest.param({"MaskedPaths": []}, id="memory_of_the_kernel"),
        pytest.param({"SomethingNew": True}, id="what_nobody_knows"),
    ],
)
def test_what_could_reach_the_host_or_another_is_refused(host: dict[str, Any]) -> None:
    assert create(host)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"Labels": {}}, id="nobodys"),
        pytest.param({"Labels": {"taxiway.handle": "tiny"}}, id="unmarked"),
        pytest.param({"Labels": {"taxiway.job": "1", "com.docker.compose.project": "x"}}, id="composes"),
        pytest.param({"hostconfig": {"Privileged": True}}, id="second_host_config"),
        pytest.param({"NetworkingConfig": {"EndpointsConfig": {"taxiway_store": {}}}}, id="other_network"),
        pytest.param(
            {"NetworkingConfig": {"EndpointsConfig": {"taxiway-variants": {"Aliases": ["engine"]}}}},
            id="name_of_another",
        ),
        pytest.param({"Hostname": "postgres"}, id="host_name_of_another"),
        pytest.param({"HostConfig": None}, id="no_host_config"),
    ],
)
def test_body_that_hides_something_is_refused(body: dict[str, Any]) -> None:
    assert create(**body)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b'{"Image": "a"} {"HostConfig": {}}', b"[" * 100_000],
    ids=["nothing", "no_text", "two_objects", "deep"],
)
def test_body_that_is_no_json_is_refused(body: bytes) -> None:
    (fault,) = created(body)[:1]

    assert fault.startswith("the body is not JSON that this filter reads")


def test_body_that_is_no_object_is_refused() -> None:
    assert created(b"[]") == ("the body is no JSON object",)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"HostConfig": {**HOST, "Privileged": True}}, id="host_config"),
        pytest.param({"hostconfig": {**HOST, "Privileged": True}}, id="in_another_case"),
        # The engine's reader folds more letters than those of ASCII.
        pytest.param({"Ho\u017ftConfig": {**HOST, "Privileged": True}}, id="by_a_long_s"),
        pytest.param({"Labels": {"com.docker.compose.project": "x"}}, id="labels"),
        pytest.param({"Image": "sha256:2"}, id="what_may_be_anything"),
    ],
)
@pytest.mark.parametrize("comes_first", [True, False])
def test_key_that_is_there_twice_is_refused(more: dict[str, Any], comes_first: bool) -> None:
    """Each object of the two could be the one that the engine takes."""
    allowed = json.dumps({**BODY, "HostConfig": HOST}, ensure_ascii=False)[1:-1]
    twice = json.dumps(more, ensure_ascii=False)[1:-1]
    assert created(f"{{{allowed}}}".encode()) == ()

    parts = [twice, allowed] if comes_first else [allowed, twice]
    (fault,) = created(f"{{{', '.join(parts)}}}".encode())
    assert "an object has the same key twice" in fault


def test_key_that_is_there_twice_further_down_is_refused() -> None:
    allowed = json.dumps({**BODY, "HostConfig": HOST})
    twice = allowed.replace('"NetworkMode": "none"', '"NetworkMode": "host", "NetworkMode": "none"')

    assert twice != allowed
    assert "an object has the same key twice" in created(twice.encode())[0]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_number_that_is_none_is_refused(word: str) -> None:
    allowed = json.dumps({**BODY, "HostConfig": HOST})
    number = allowed.replace(f'"Memory": {HOST["Memory"]}', f'"Memory": {word}')

    assert number != allowed
    (fault,) = created(number.encode())
    assert f"{word} is no JSON" in fault


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/_ping", ""),
        ("HEAD", "/_ping", ""),
        ("GET", "/version", ""),
        ("GET", "/v1.41/info", ""),
        ("GET", "/v1.41/images/taxiway/tiny.training:0123/json", ""),
        ("GET", "/v1.41/containers/json", 'filters={"label":["taxiway.job=true"]}'),
        ("GET", "/v1.41/images/json", 'filters={"label":["taxiway.variant-owner=a"]}'),
        ("DELETE", "/v1.41/images/taxiway/variant.tiny:0123", ""),
        ("POST", "/v1.41/containers/abc/start", ""),
        ("POST", "/v1.41/containers/abc/stop", "t=2"),
        ("PUT", "/v1.41/containers/abc/archive", "path=/taxiway/data"),
        ("GET", "/v1.41/containers/abc/logs", "follow=1"),
        ("DELETE", "/v1.41/containers/abc", "v=1&force=1"),
        ("POST", "/v1.41/build", "t=taxiway/environment:0123&networkmode=none&rm=True"),
        ("POST", "/v1.41/build", 't=taxiway/a:b&networkmode=none&labels={"taxiway.handle":"a"}'),
    ],
)
def test_request_of_runner_or_runtime_passes(method: str, path: str, query: str) -> None:
    assert ask(method, path, query) == ()


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("POST", "/v1.41/images/create", "fromImage=x"),
        ("POST", "/v1.41/images/load", ""),
        ("POST", "/v1.41/images/x/push", ""),
        ("DELETE", "/v1.41/images/taxiway-compose/serving:local", ""),
        ("GET", "/v1.41/containers/json", ""),
        ("GET", "/v1.41/containers/json", 'filters={"label":["com.docker.compose.project=taxiway"]}'),
        ("POST", "/v1.41/containers/abc/exec", ""),
        ("POST", "/v1.41/containers/abc/attach", ""),
        ("POST", "/v1.41/containers/abc/update", ""),
        ("POST", "/v1.41/containers/abc/start", "checkpoint=a&checkpoint-dir=/"),
        ("POST", "/v1.41/containers/abc/rename", "name=postgres"),
        ("GET", "/v1.41/containers/abc/top", "ps_args=-ef"),
        ("POST", "/v1.41/containers/prune", ""),
        ("GET", "/v1.41/volumes", ""),
        ("POST", "/v1.41/networks/create", ""),
        ("POST", "/v1.41/swarm/init", ""),
        ("POST", "/v1.41/plugins/pull", ""),
        ("GET", "/v1.41/events", ""),
        ("POST", "/v1.23/containers/abc/start", ""),
        ("POST", "/v1.41/containers/%63reate", ""),
        ("POST", "/v1.41/build", "t=taxiway/a:b&networkmode=host"),
        ("POST", "/v1.41/build", "t=taxiway-compose/serving:local&networkmode=none"),
        ("POST", "/v1.41/build", "networkmode=none"),
        ("POST", "/v1.41/build", "t=taxiway/a:b&networkmode=none&remote=http://x"),
        ("POST", "/v1.41/build", "t=taxiway/a:b&networkmode=none&networkmode=host"),
        ("POST", "/v1.41/build", "t=taxiway/a:b&networkmode=none&rm=1;remote=http://x"),
        ("POST", "/v1.41/build", 't=taxiway/a:b&networkmode=none&labels={"taxiway.job":"true"}'),
        ("POST", "/v1.41/build", 't=taxiway/a:b&networkmode=none&labels={"taxiway.home":""}'),
        ("POST", "/v1.41/build", 't=taxiway/a:b&networkmode=none&labels=["taxiway.job"]'),
        ("POST", "/v1.41/build", "t=taxiway/a:b&networkmode=none&labels={"),
    ],
)
def test_any_other_request_is_refused(method: str, path: str, query: str) -> None:
    assert ask(method, path, query)


@pytest.mark.parametrize("verb", ["json", "logs", "archive"])
def test_container_of_somebody_else_is_not_looked_into(verb: str) -> None:
    assert ask("GET", f"/v1.41/containers/postgres/{verb}", ours=False)
    assert ask("GET", f"/v1.41/containers/postgres/{verb}", ours=None) == ()


@pytest.mark.parametrize("query", ["name=postgres", "name=engine", "name=taxiway-a&name=engine", ""])
def test_container_that_others_would_take_for_a_service_is_refused(query: str) -> None:
    body = json.dumps({**BODY, "HostConfig": HOST}).encode()

    assert ask("POST", "/v1.41/containers/create", query, body)


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "APPLICATION/X-WWW-FORM-URLENCODED; charset=utf-8",
        "multipart/form-data; boundary=a",
        "application/x-tar, multipart/form-data; boundary=a",
    ],
)
def test_form_that_brings_queries_of_its_own_is_refused(kind: str) -> None:
    assert ask("POST", "/v1.41/build", "t=taxiway/a:b&networkmode=none", kind=kind)
    assert ask("POST", "/v1.41/containers/abc/start", kind=kind)
    assert ask("POST", "/v1.41/containers/abc/start", kind="application/json") == ()
