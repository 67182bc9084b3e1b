"""What a contract file may say, and that every fault in it is named at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.evidence.contract import read_contract

GOOD: dict[str, Any] = {
    "api": "predict",
    "requests": [{"name": "one", "json": {"x": 1}, "expect": {"label": 1}}],
    "response": {"type": "object"},
    "malformed": [{"name": "none", "body": ""}],
}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "contract.json").write_text(json.dumps(GOOD | changes))
    return folder


def faults(folder: Path) -> tuple[str, ...]:
    with pytest.raises(InvalidSpecError) as caught:
        read_contract(folder)
    return caught.value.faults


def test_contract_is_read_from_its_folder_or_its_file(tmp_path: Path) -> None:
    contract = read_contract(write(tmp_path))
    assert contract == read_contract(tmp_path / "contract.json")
    assert contract.examples[0].request.body == b'{"x": 1}'
    assert contract.examples[0].request.content_type == "application/json"
    assert contract.examples[0].request.path == "predict"


def test_contract_sends_a_file_bare_or_in_a_form(tmp_path: Path) -> None:
    (tmp_path / "dot.png").write_bytes(b"pixels")
    entries = [
        {"name": "bare", "file": "dot.png"},
        {"name": "form", "file": "dot.png", "form": "image", "path": "/upload"},
    ]
    bare, form = (example.request for example in read_contract(write(tmp_path, requests=entries)).examples)
    assert (bare.body, bare.content_type) == (b"pixels", "image/png")
    assert (form.content_type or "").startswith("multipart/form-data; boundary=")
    assert b'name="image"; filename="dot.png"\r\ncontent-type: image/png\r\n\r\npixels\r\n--' in form.body
    assert form.path == "upload"


def test_contract_names_every_fault_at_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        api="",
        surprise=1,
        requests=[
            {"file": "missing.png", "json": {}},
            {"name": "out", "file": "../out.png", "expect": 3},
            {"name": "odd", "body": "", "form": "image", "colour": "red"},
        ],
        response={"type": "digit"},
        malformed=[{"name": 5}],
    )
    found = "\n".join(faults(tmp_path))
    for expected in (
        "unknown key 'surprise'",
        "api must name the endpoint's API",
        "requests[0] has no name",
        "requests[0] must have exactly one of file, json, body",
        "requests[1].file '../out.png' leaves the folder",
        "requests[1].expect must be an object",
        "requests[2] has an unknown key 'colour'",
        "requests[2].form needs a file",
        "response is no JSON Schema",
        "malformed[0].name must be a text, got 5",
        "malformed[0] must have exactly one of",
    ):
        assert expected in found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"requests": []}, "at least one request"),
        ({"requests": {"name": "one"}}, "requests must be a list of objects"),
        ({"response": []}, "response must be a JSON Schema"),
        ({"requests": [{"name": "one", "file": "missing.png"}]}, "'missing.png' is missing"),
    ],
    ids=["no requests", "no list", "no schema", "no file"],
)
def test_contract_refuses(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert any(expected in fault for fault in faults(write(tmp_path, **changes)))


@pytest.mark.parametrize("text", [None, "{", "[]"], ids=["missing", "broken", "no object"])
def test_contract_that_is_no_object_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "contract.json").write_text(text)
    assert len(faults(tmp_path)) == 1
