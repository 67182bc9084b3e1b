"""What a search finds after a dataset has grown: what was said of it before still holds."""

from pathlib import Path

from taxiway.datasets import append, search, snapshot
from taxiway.settings import Settings


def test_dataset_is_found_after_an_append_as_before_it(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    said = {
        "licence": "mit",
        "owner": "post office",
        "description": "Scanned envelopes",
        "keywords": ["images"],
    }
    snapshot(data, "letters", settings, card=said)
    more = tmp_path / "more"
    more.mkdir()
    (more / "new.txt").write_text("new")
    second = append(more, "letters", settings, card={"licence": "cc0-1.0"})
    questions = (
        {"licence": "mit"},
        {"licence": "cc0-1.0"},
        {"keyword": "images"},
        {"text": "post envelopes"},
    )
    for asked in questions:
        (found,) = search(settings, **asked)
        assert found.version == second
    assert found.words["licence"] == ("cc0-1.0", "mit")
    assert "cc0-1.0, mit" in found.text
    assert found.to_json()["words"]["description"] == ["Scanned envelopes"]
