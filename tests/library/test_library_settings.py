"""Settings come from the environment, and show no secret."""

from pathlib import Path

from taxiway.settings import Settings


def test_settings_have_defaults_below_one_home(tmp_path: Path) -> None:
    settings = Settings.from_environment({"TAXIWAY_HOME": str(tmp_path)})
    assert settings.data_repository == tmp_path / "datasets"
    assert settings.data_remote == str(tmp_path / "dvc-remote")
    assert settings.controller_token is None
    assert settings.constraints is None


def test_settings_know_when_mlflow_wants_more_than_its_address() -> None:
    plain = {"MLFLOW_TRACKING_URI": "http://mlflow"}
    assert not Settings.from_environment(plain).tracking_needs_client
    assert Settings.from_environment(plain | {"MLFLOW_TRACKING_TOKEN": "t"}).tracking_needs_client


def test_settings_read_every_variable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    settings = Settings.from_environment(
        {
            "TAXIWAY_HOME": str(tmp_path / "home"),
            "MLFLOW_TRACKING_URI": "http://mlflow",
            "TAXIWAY_DATA_REPOSITORY": str(tmp_path / "data"),
            "TAXIWAY_DATA_REMOTE": "s3://bucket",
            "TAXIWAY_CONTROLLER_URL": "http://controller",
            "TAXIWAY_TOKEN_FILE": str(tmp_path / "token"),
            "TAXIWAY_GATEWAY_URL": "http://gateway",
            "TAXIWAY_CONSTRAINTS": str(tmp_path / "constraints.txt"),
            "TAXIWAY_SECRETS_DIR": str(tmp_path / "secrets"),
            "TAXIWAY_ALLOW_UNTRACEABLE": "1",
        }
    )
    assert settings == Settings(
        home=tmp_path / "home",
        tracking_uri="http://mlflow",
        data_repository=tmp_path / "data",
        data_remote="s3://bucket",
        controller_url="http://controller",
        controller_token="s3cret",
        gateway_url="http://gateway",
        constraints=tmp_path / "constraints.txt",
        secrets_dir=tmp_path / "secrets",
        allow_untraceable=True,
    )
    assert "s3cret" not in repr(settings)
