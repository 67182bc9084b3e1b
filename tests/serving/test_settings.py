"""Where things are kept and what children inherit."""

from pathlib import Path

import pytest

from taxiway_serving.controller.gateways import unmirrored
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.settings import ServingSettings, inherited_environment


def test_settings_have_defaults_below_home(tmp_path: Path) -> None:
    settings = ServingSettings.from_environment({"TAXIWAY_HOME": str(tmp_path)})
    assert settings == ServingSettings.under(tmp_path, envoy_spare_admin_port=8582)
    assert settings.database_url == f"sqlite:///{tmp_path}/controller.db"
    assert settings.controller_url == "http://127.0.0.1:8570"
    assert settings.gateway_url == "http://127.0.0.1:8580"
    assert settings.attempt_log == tmp_path / "envoy" / "attempts.jsonl"


def test_settings_follow_every_variable(tmp_path: Path) -> None:
    settings = ServingSettings.from_environment(
        {
            "TAXIWAY_HOME": str(tmp_path),
            "TAXIWAY_DATABASE_URL": "sqlite:///x.db",
            "TAXIWAY_TOKEN_FILE": "/secret/token",
            "TAXIWAY_CONTROLLER_HOST": "127.0.0.2",
            "TAXIWAY_CONTROLLER_PORT": "1",
            "TAXIWAY_ENVOY_DIR": "/envoy",
            "TAXIWAY_GATEWAY_PORT": "2",
            "TAXIWAY_ENVOY_ADMIN_PORT": "3",
            "TAXIWAY_TICK_S": "0.1",
            "TAXIWAY_FEEDBACK_RETENTION_S": "60",
            "TAXIWAY_MOST_ROLLOUTS": "7",
            "TAXIWAY_ROLLBACK_WINDOW": "5",
            "TAXIWAY_METRIC_SOURCES_FILE": "/secret/sources.json",
        }
    )
    assert settings == ServingSettings(
        home=tmp_path,
        database_url="sqlite:///x.db",
        token_file=Path("/secret/token"),
        gateway_token_file=Path("/secret/token.gateway"),
        envoy_spare_admin_port=8582,
        host="127.0.0.2",
        port=1,
        envoy_dir=Path("/envoy"),
        envoy_port=2,
        envoy_admin_port=3,
        tick_s=0.1,
        feedback_retention_s=60.0,
        most_rollouts=7,
        rollback_window=5,
        metric_sources_file=Path("/secret/sources.json"),
    )


def test_settings_name_every_fault_at_once() -> None:
    wrong = {"TAXIWAY_CONTROLLER_PORT": "http", "TAXIWAY_GATEWAY_PORT": "70000", "TAXIWAY_TICK_S": "0"}
    wrong |= {"TAXIWAY_MOST_ROLLOUTS": "0", "TAXIWAY_ROLLBACK_WINDOW": "many"}
    with pytest.raises(InvalidSpecError) as caught:
        ServingSettings.from_environment(wrong)
    assert len(caught.value.faults) == 5


def test_fleet_is_this_host_unless_one_says_otherwise(tmp_path: Path) -> None:
    home = {"TAXIWAY_HOME": str(tmp_path)}
    settings = ServingSettings.from_environment(home)
    assert settings.controller_ads_addresses == (("127.0.0.1", 8571),)
    assert settings.fleet_admin_urls == ("http://127.0.0.1:8581", "http://127.0.0.1:8582")
    told = {
        "TAXIWAY_ADS_ADDRESSES": "one:8571, two:8572",
        "TAXIWAY_ENVOY_ADMIN_URLS": "http://gate1:8581/,http://gate2:8581",
    }
    settings = ServingSettings.from_environment({**home, **told})
    assert settings.controller_ads_addresses == (("one", 8571), ("two", 8572))
    assert settings.fleet_admin_urls == ("http://gate1:8581", "http://gate2:8581")
    wrong = {"TAXIWAY_ADS_ADDRESSES": "one,two:0", "TAXIWAY_ENVOY_ADMIN_URLS": "gate1"}
    with pytest.raises(InvalidSpecError) as caught:
        ServingSettings.from_environment({**home, **wrong})
    assert len(caught.value.faults) == 3


def test_gateway_is_where_its_setting_says(tmp_path: Path) -> None:
    home = {"TAXIWAY_HOME": str(tmp_path), "TAXIWAY_GATEWAY_PORT": "2"}
    assert ServingSettings.from_environment(home).gateway_url == "http://127.0.0.1:2"
    told = {"TAXIWAY_GATEWAY_URL": "https://models.example/", "TAXIWAY_SHADOW_HOST": "10.0.0.5"}
    settings = ServingSettings.from_environment({**home, **told})
    assert (settings.gateway_url, settings.shadow_host) == ("https://models.example", "10.0.0.5")
    wrong = {"TAXIWAY_GATEWAY_URL": "gate1:8580", "TAXIWAY_SHADOW_HOST": "::"}
    with pytest.raises(InvalidSpecError) as caught:
        ServingSettings.from_environment({**home, **wrong})
    assert len(caught.value.faults) == 2
    with pytest.raises(InvalidSpecError, match="TAXIWAY_GATEWAY_URL must hold no password") as caught:
        ServingSettings.from_environment({**home, "TAXIWAY_GATEWAY_URL": "http://ann:hunter2@gate1:8580"})
    assert "hunter2" not in str(caught.value)


GATES = {"TAXIWAY_ENVOY_ADMIN_URLS": "http://gate1:8583,http://127.0.0.1:8581,http://localhost:8582"}
FLEET = {"TAXIWAY_ROUTER": "ads", **GATES}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, ()),
        ({"TAXIWAY_ROUTER": "ads"}, ()),
        (GATES, ()),
        (FLEET, ("http://gate1:8583",)),
        ({**FLEET, "TAXIWAY_SHADOW_HOST": "10.0.0.5"}, ()),
    ],
    ids=["files", "fleet of this host", "addresses that files do not need", "elsewhere", "reached"],
)
def test_envoys_elsewhere_mirror_to_an_address_that_they_reach(
    told: dict[str, str], expected: tuple[str, ...], tmp_path: Path
) -> None:
    settings = ServingSettings.from_environment({"TAXIWAY_HOME": str(tmp_path), **told})
    assert unmirrored(settings) == expected


def test_children_inherit_no_secret() -> None:
    parent = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "AWS_SECRET_ACCESS_KEY": "x",
        "TAXIWAY_TOKEN_FILE": "y",
        "PGPASSWORD": "z",
    }
    assert inherited_environment(parent) == {"PATH": "/bin", "LC_ALL": "C"}
