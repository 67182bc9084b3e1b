"""Ports are chosen once and kept, so that the endpoint's address outlives a trial."""

import json
import socket
from pathlib import Path

import pytest

from taxiway.trial.layout import PORT_NAMES, choose_ports


def test_ports_are_all_different(tmp_path: Path) -> None:
    ports = choose_ports(tmp_path / "ports.json")

    assert tuple(ports) == PORT_NAMES
    assert len(set(ports.values())) == len(PORT_NAMES)


def test_ports_are_the_same_again(tmp_path: Path) -> None:
    assert choose_ports(tmp_path / "ports.json") == choose_ports(tmp_path / "ports.json")


def test_ports_that_were_taken_meanwhile_are_replaced(tmp_path: Path) -> None:
    before = choose_ports(tmp_path / "ports.json")
    with socket.create_server(("127.0.0.1", before["mlflow"])):
        after = choose_ports(tmp_path / "ports.json")

    assert after["mlflow"] != before["mlflow"]
    assert {name: port for name, port in after.items() if name != "mlflow"}.items() <= before.items()


@pytest.mark.parametrize(
    "text", ["{", json.dumps({"mlflow": "5000", "airflow": 70000})], ids=["torn", "nonsense"]
)
def test_ports_file_that_is_broken_is_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)

    ports = choose_ports(tmp_path / "ports.json")

    assert json.loads((tmp_path / "ports.json").read_text()) == ports
