"""`explain` walks the graph both ways from any name, says what it could not ask, and needs nothing but the sources."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway import cli, lineage
from taxiway.datasets import DatasetVersion, Origin, describe, repository, snapshot
from taxiway.errors import InvalidSpecError, NotFoundError, TransportError
from taxiway.lineage import data, explaining
from taxiway.lineage.graph import Edge, Node, kind_of
from taxiway.lineage.index import Index, path_of
from taxiway.registry import reading, tracking
from taxiway.settings import Settings
from tests.datasets.conftest import write
from tests.lineage.conftest import INFERENCE, TRAINING, Makes
from tests.serving.test_access_log import append, line
from tests.serving.test_feedback_api import Served

CHECK = "c" * 64


def make_package(handle: str, settings: Settings) -> None:
    told = {"handle": handle, "kind": "training", "digest": TRAINING, "commit": "c" * 40, "is_dirty": True}
    told |= {
        "source_hash": "s" * 64,
        "lock_hash": "l" * 64,
        "python": "3.11",
        "manifest": {"command": "python x"},
    }
    name = f"{handle}.training"
    run = tracking.create_run(tracking.ensure_experiment(handle, settings), "package", {}, settings)
    tracking.ensure_registered_model(name, {}, settings)
    tracking.create_version(name, run.run_id, "package", {"taxiway.package": json.dumps(told)}, "", settings)


def edges(found: lineage.Explanation, direction: str) -> set[tuple[str, str, str]]:
    return {(edge.child, edge.kind, edge.parent) for edge in getattr(found, direction)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("digits/7", "model"),
        ("digits", "endpoint"),
        ("digits@v3", "data"),
        ("digits.training@1f2e3d", "code"),
        ("0" * 32, "run"),
        ("8e3a6c1e-0f5d-4c1e-9d0e-5f6a7b8c9d0e", "request"),
        ("digits/0", "request"),
    ],
)
def test_name_says_what_it_stands_for(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.slow
def test_version_is_walked_up_to_all_it_was_made_of_and_down_to_its_endpoint(
    make: Makes, handle: str, dataset: DatasetVersion, watching: Settings, served: Served
) -> None:
    make_package(handle, watching)
    first, second = make(), make(sources={handle: 1})
    served.plane.deploy(2, handle=handle)
    served.plane.tick(3)
    found = lineage.explain(f"{handle}/2", watching)
    code = f"{handle}.training@{TRAINING}"
    assert edges(found, "up") >= {
        (f"{handle}/2", "trained_on", dataset.tag),
        (f"{handle}/2", "made_by", code),
        (f"{handle}/2", "ran_as", second.run_id),
        (f"{handle}/2", "uses", f"{handle}/1"),
        (f"{handle}/1", "ran_as", first.run_id),
    }
    assert edges(found, "down") == {(handle, "served_by", f"{handle}/2")}
    assert found.nodes[code].facts["is_dirty"] is True
    missing = f"{handle}.inference@{INFERENCE}"
    assert f"{missing} is named and not known: it was deleted, or is of another registry" in found.notes
    shown = lineage.render(found)
    for part in (
        "params: c 0.5",
        "files read (audit hook): 3 of dataset",
        "hosts asked for: example.org:443",
        f"trained on {dataset.tag} (1 files, 5 bytes, {dataset.hash})",
        "commit cccccccccccc, dirty",
        f"is served by {handle} at ",
        "task: dag_id paths",
    ):
        assert part in shown, shown
    assert json.loads(json.dumps(found.to_json()))["subject"]["id"] == f"{handle}/2"


@pytest.mark.slow
def test_which_endpoints_serve_models_trained_on_this_data_is_one_call(
    make: Makes, handle: str, dataset: DatasetVersion, watching: Settings, served: Served
) -> None:
    other = f"other_{handle[:40]}"
    make()
    make(other, sources={handle: 1})
    assert [one for one in lineage.serving(dataset.tag, watching) if one.endpoint in (handle, other)] == []
    served.plane.deploy(1, handle=other)
    served.plane.tick(3)
    (one,) = lineage.serving(dataset.tag, watching)
    assert (one.endpoint, one.version, one.path) == (other, 1, (dataset.tag, f"{other}/1"))
    assert lineage.serving(f"{handle}/1", watching)[0].path == (f"{handle}/1", f"{other}/1")
    (made,) = {edge.child for edge in lineage.explain(f"{handle}/1", watching).down if edge.kind == "uses"}
    assert made == f"{other}/1"


@pytest.mark.slow
def test_request_is_walked_to_version_run_code_data_and_params(
    make: Makes, handle: str, dataset: DatasetVersion, watching: Settings, served: Served
) -> None:
    version = make()
    append(served.plane.home / "attempts.jsonl", line(request_id="r-1", handle=handle, cluster=f"{handle}/1"))
    found = lineage.explain("r-1", watching)
    assert (found.subject.kind, found.subject.facts["version"]) == ("request", 1)
    assert {("r-1", "answered_by", f"{handle}/1"), (f"{handle}/1", "ran_as", version.run_id)} <= edges(
        found, "up"
    )
    assert "was answered by" in lineage.render(found)
    with pytest.raises(NotFoundError, match="x-request-id"):
        lineage.explain("r-2", watching)


@pytest.mark.slow
def test_every_other_name_is_explained_too(
    make: Makes, handle: str, dataset: DatasetVersion, watching: Settings, served: Served
) -> None:
    make_package(handle, watching)
    version = make()
    served.plane.deploy(1, handle=handle)
    assert (f"{handle}/1", "trained_on", dataset.tag) in edges(lineage.explain(dataset.tag, watching), "down")
    by_code = lineage.explain(f"{handle}.training@{TRAINING[:6]}", watching)
    assert (f"{handle}/1", "made_by", f"{handle}.training@{TRAINING}") in edges(by_code, "down")
    assert (f"{handle}/1", "ran_as", version.run_id) in edges(
        lineage.explain(version.run_id, watching), "down"
    )
    assert (handle, "served_by", f"{handle}/1") in edges(lineage.explain(handle, watching), "up")
    with pytest.raises(NotFoundError, match=f"known are {handle}"):
        lineage.explain(f"{handle}/9", watching)


@pytest.mark.slow
def test_index_is_brought_up_to_date_and_losing_it_loses_nothing(
    make: Makes, handle: str, dataset: DatasetVersion, watching: Settings
) -> None:
    make()
    before = lineage.explain(f"{handle}/1", watching)
    make(untraceable=("somebody lied",))
    after = lineage.explain(f"{handle}/2", watching)
    assert "UNTRACEABLE: somebody lied" in lineage.render(after)
    index = path_of(watching)
    index.unlink()
    assert lineage.explain(f"{handle}/1", watching) == before
    index.write_bytes(b"no index " * 1000)
    assert lineage.explain(f"{handle}/2", watching).to_json() == after.to_json()
    with closing(Index(index)) as broken:  # pages in the middle are broken, the head is whole
        broken._connection.execute("DROP TABLE edges")
    assert lineage.rebuild(watching)[0] > 0
    assert lineage.explain(f"{handle}/2", watching).to_json() == after.to_json()
    assert [path.name for path in index.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_version_that_was_deleted_in_mlflow_is_not_explained_from_memory(
    make: Makes, handle: str, watching: Settings
) -> None:
    make()
    lineage.explain(f"{handle}/1", watching)
    tracking._client(watching.tracking_uri).delete_model_version(handle, "1")
    with pytest.raises(NotFoundError, match="thing with a lineage"):
        lineage.explain(f"{handle}/1", watching)


@pytest.mark.slow
def test_controller_that_does_not_answer_is_said_and_is_no_answer_to_who_serves(
    make: Makes, handle: str, dataset: DatasetVersion, watching: Settings, served: Served
) -> None:
    make()
    served.plane.deploy(1, handle=handle)
    lineage.explain(f"{handle}/1", watching)
    away = replace(watching, controller_url="http://127.0.0.1:9")
    found = lineage.explain(f"{handle}/1", away)
    assert (handle, "served_by", f"{handle}/1") in edges(found, "down")
    assert any(
        note.startswith("what is served now could not be asked, it is known at") for note in found.notes
    )
    with pytest.raises(TransportError):
        lineage.serving(dataset.tag, away)
    with pytest.raises(TransportError):
        lineage.explain(f"{handle}/1", replace(watching, tracking_uri="http://127.0.0.1:9"))


@pytest.mark.slow
def test_prepared_data_leads_to_its_raw_data_and_the_code_that_prepared_it(
    dataset: DatasetVersion, watching: Settings, tmp_path: Path, handle: str
) -> None:
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "x").write_text(handle)
    details = {"handle": handle, "code": TRAINING, "params": {}}
    origin = Origin(kind="transform", parents={dataset.tag: dataset.hash}, details=details)
    made = snapshot(tmp_path / "prepared", handle.replace("__", "_"), watching, origin=origin)
    # Other tests may have made the same bytes as the dataset's: what those were made of is beyond it.
    assert {edge for edge in edges(lineage.explain(made.tag, watching), "up") if edge[0] == made.tag} == {
        (made.tag, "prepared_from", dataset.tag),
        (made.tag, "prepared_by", f"{handle}.transform@{TRAINING}"),
    }
    assert (made.tag, "prepared_from", dataset.tag) in edges(lineage.explain(dataset.tag, watching), "down")


@pytest.mark.slow
def test_bytes_that_are_called_otherwise_are_explained_and_served_under_every_name(
    make: Makes, handle: str, watching: Settings, served: Served, tmp_path: Path
) -> None:
    """Two names, each of raw data of its own: a model of the one is walked to the other, and so back."""
    plain = handle.replace("__", "_")[-20:]
    raws = [
        snapshot(write(tmp_path / n, {"r": f"{n} {handle}"}), f"{n}_{plain}", watching) for n in ("a", "b")
    ]
    folder = write(tmp_path / "same", {"s": handle})
    origins = [Origin(kind="transform", parents={raw.tag: raw.hash}) for raw in raws]
    ours, theirs = (
        snapshot(folder, f"{name}_{plain}", watching, origin=origin)
        for name, origin in zip(("ours", "theirs"), origins, strict=True)
    )
    make(dataset=ours)
    served.plane.deploy(1, handle=handle)
    served.plane.tick(3)
    model = f"{handle}/1"
    up = lineage.explain(model, watching)
    same = (ours.tag, "same_bytes", theirs.tag)
    assert {same, (theirs.tag, "prepared_from", raws[1].tag)} <= edges(up, "up")
    assert same[::-1] not in edges(up, "up")
    assert f"holds the same bytes as {theirs.tag}" in lineage.render(up)
    down = lineage.explain(raws[1].tag, watching)
    assert {(ours.tag, "same_bytes", theirs.tag), (model, "trained_on", ours.tag)} <= edges(down, "down")
    picture = lineage.plot(up, tmp_path / "same.svg").read_text()
    assert all(f">{one}<" in picture for one in (theirs.tag, "holds the same bytes as"))
    (one,) = lineage.serving(raws[1].tag, watching)
    assert one.path == (raws[1].tag, theirs.tag, ours.tag, model)


@pytest.mark.slow
def test_what_is_said_of_known_bytes_later_is_in_the_graph_at_once(
    watching: Settings, handle: str, tmp_path: Path
) -> None:
    """Bytes that came from outside are made again of raw data, by code: two records, and no new version."""
    plain = handle.replace("__", "_")[-20:]
    folder, name = write(tmp_path / "d", {"d": handle}), f"later_{plain}"
    made, raw = (
        snapshot(folder, name, watching),
        snapshot(write(tmp_path / "r", {"r": handle}), f"raw_{plain}", watching),
    )
    assert lineage.explain(made.tag, watching).up == ()
    details = {"handle": handle, "code": TRAINING, "params": {}}
    origin = Origin(kind="transform", parents={raw.tag: raw.hash}, details=details)
    assert snapshot(folder, name, watching, origin=origin) == made
    describe(made, watching, by="Bo", why="a lawyer looked", licence="mit")
    found = lineage.explain(made.tag, watching)
    assert edges(found, "up") == {
        (made.tag, "prepared_from", raw.tag),
        (made.tag, "prepared_by", f"{handle}.transform@{TRAINING}"),
    }
    assert (made.tag, "prepared_from", raw.tag) in edges(lineage.explain(raw.tag, watching), "down")
    shown = lineage.render(found)
    for part in ("(made again, said ", "card: licence mit", "Bo: a lawyer looked (licence mit)"):
        assert part in shown, shown
    assert lineage.rebuild(watching)[0] > 0
    assert lineage.explain(made.tag, watching).to_json() == found.to_json()


@pytest.mark.slow
def test_evaluations_are_explained_from_both_ends_with_the_verdict_of_now(
    make: Makes, handle: str, dataset: DatasetVersion, watching: Settings, tmp_path: Path
) -> None:
    make()
    model, check = f"{handle}/1", f"{handle}.evaluation@{CHECK}"
    tags = {
        "taxiway.kind": "evaluation",
        "taxiway.handle": handle,
        "taxiway.model_version": "1",
        "taxiway.dataset": dataset.tag,
        "taxiway.evaluation.digest": CHECK,
        "taxiway.airflow.task_id": "evaluate",
    }
    experiment = tracking.ensure_experiment(handle, watching)
    run = tracking.create_run(experiment, "evaluate v1", tags, watching).run_id
    assert not lineage.explain(model, watching).down, "what has not ended says nothing yet"
    tracking.log(run, watching, metrics={"score": 0.75})
    tracking.finish(run, "FINISHED", watching)
    for verdict in ("none: it was measured and not judged", "passed", "score 0.75 is below its minimum 0.8"):
        if not verdict.startswith("none"):
            tracking.log(run, watching, tags={"taxiway.gate": verdict})
        for subject in (model, dataset.tag, run):
            found = lineage.explain(subject, watching)
            assert found.nodes[run].facts["verdict"] == verdict, subject
    assert (run, "evaluates", model) in edges(lineage.explain(model, watching), "down")
    by_data = lineage.explain(dataset.tag, watching)
    assert (run, "measured_on", dataset.tag) in edges(by_data, "down")
    line = f"({model} on {dataset.tag} by {handle}.evaluation@{CHECK[:12]}: {verdict})"
    assert f"was evaluated in {run} {line}" in lineage.render(lineage.explain(model, watching))
    assert f"was measured on in {run} {line}" in lineage.render(by_data)
    found = lineage.explain(run, watching)
    assert edges(found, "up") >= {
        (run, "evaluates", model),
        (run, "measured_on", dataset.tag),
        (run, "measured_by", check),
    }
    shown = lineage.render(found)
    assert all(
        part in shown for part in (f"verdict: {verdict}", "metrics: score 0.75", "task: task_id evaluate")
    )
    assert f"on {dataset.tag}: score 0.75" in lineage.plot(found, tmp_path / "x.svg").read_text()
    tracking._client(watching.tracking_uri).delete_run(run)
    assert not lineage.explain(model, watching).down


@pytest.mark.slow
def test_runs_of_all_experiments_are_the_same_by_rest_and_by_client(
    handle: str, watching: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What MLflow says is paged, and is read either way, as a server with or without credentials wants it."""
    monkeypatch.setattr(reading, "MOST_RUNS", 2)
    for number in range(3):
        experiment = tracking.ensure_experiment(f"{handle}_{number}", watching)
        run = tracking.create_run(experiment, "evaluate", {"taxiway.handle": handle}, watching)
        tracking.log(run.run_id, watching, metrics={"score": 0.5}, params={"c": 1})
        tracking.finish(run.run_id, "FINISHED", watching)
    terms = [*reading.tag_terms({"taxiway.handle": handle}), "attributes.end_time >= 0"]
    by_rest = tracking.all_runs(terms, watching)
    assert by_rest == tracking.all_runs(terms, replace(watching, tracking_needs_client=True))
    assert (len(by_rest), by_rest[0].metrics, by_rest[0].params) == (3, {"score": 0.5}, {"c": "1"})


@pytest.mark.slow
def test_many_tags_of_stages_are_kept_in_one_file(
    make: Makes, handle: str, dataset: DatasetVersion, watching: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    root = watching.data_repository
    tags = [f"models/{handle}@v{number}" for number in range(1, 4)]
    for tag in tags:
        repository.git(root, "update-ref", f"refs/tags/{tag}", dataset.commit)
    monkeypatch.setattr(data, "MOST_LOOSE", 2)
    with repository.locked(watching):
        # Whoever writes there is not waited for, and finds the tags where they were.
        before = lineage.explain(dataset.tag, watching).to_json()
        assert all((root / ".git" / "refs" / "tags" / tag).exists() for tag in tags)
    lineage.explain(dataset.tag, watching)
    assert not any((root / ".git" / "refs" / "tags" / tag).exists() for tag in tags)
    assert set(tags) <= set(repository.git(root, "tag", "--list").split())
    assert lineage.explain(dataset.tag, watching).to_json() == before


def made_of(count: int) -> tuple[list[Node], list[Edge]]:
    nodes = [Node(id=f"digits/{n}", kind="model", at_s=float(n)) for n in range(1, count + 1)]
    found = [Edge(child=node.id, kind="trained_on", parent="digits@v1") for node in nodes]
    return [*nodes, Node(id="digits@v1", kind="data")], found


def explained(tmp_path: Path, what: str, nodes: list[Node], found: list[Edge]) -> lineage.Explanation:
    settings: Any = None
    with closing(Index(tmp_path / "index")) as index:
        with index.kept():
            index.put(nodes, found)
        return explaining._explained(what, index, (), settings)


def test_newest_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    found = explained(tmp_path, "digits@v1", *made_of(100))
    assert [edge.child for edge in found.down][:2] == ["digits/100", "digits/99"]
    assert (len(found.down), found.left_out) == (20, {("digits@v1", "trained_on"): 80})
    assert "trained 80 more, older ones" in lineage.render(found)


@pytest.mark.parametrize(("count", "notes"), [(40, 0), (400, 1)], ids=["a month", "more than a year"])
def test_data_that_are_appended_to_each_day_lead_back_to_the_first_day_or_say_where_they_end(
    tmp_path: Path, count: int, notes: int
) -> None:
    days = [Node(id=f"post@v{n}", kind="data", at_s=float(n)) for n in range(1, count + 1)]
    found = [Edge(child=f"post@v{n + 1}", kind="prepared_from", parent=f"post@v{n}") for n in range(1, count)]
    up = explained(tmp_path / "up", f"post@v{count}", days, found)
    down = explained(tmp_path / "down", "post@v1", days, found)
    assert (len(up.notes), len(down.notes)) == (notes, notes)
    if notes:
        assert "what post@v101 was made of is not shown, ask for it in turn" in lineage.render(up)
        assert "what post@v300 went into is not shown, ask for it in turn" in lineage.render(down)
    else:
        assert up.up[-1].parent == "post@v1"
        assert down.down[-1].child == "post@v40"


def test_circle_in_the_sources_ends(tmp_path: Path) -> None:
    nodes = [Node(id=name, kind="data") for name in ("a@v1", "b@v1")]
    found = [
        Edge(child="a@v1", kind="prepared_from", parent="b@v1"),
        Edge(child="b@v1", kind="prepared_from", parent="a@v1"),
    ]
    assert len(explained(tmp_path, "a@v1", nodes, found).up) == 2
    assert lineage.render(explained(tmp_path, "a@v1", nodes, found)).count("prepared from") == 2


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_picture_names_every_box(tmp_path: Path, suffix: str) -> None:
    path = lineage.plot(explained(tmp_path, "digits@v1", *made_of(3)), tmp_path / "out" / f"x{suffix}")
    assert path.stat().st_size > 1000
    with pytest.raises(InvalidSpecError, match="must end in"):
        lineage.plot(explained(tmp_path, "digits@v1", [], []), tmp_path / "x.gif")


@pytest.mark.slow
def test_command_explains_in_every_form_and_says_what_is_wrong(
    make: Makes,
    handle: str,
    dataset: DatasetVersion,
    watching: Settings,
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make()
    served.plane.deploy(1, handle=handle)
    (tmp_path / "token").write_text(str(watching.controller_token))
    variables = {
        "TAXIWAY_HOME": watching.home,
        "TAXIWAY_DATA_REPOSITORY": watching.data_repository,
        "TAXIWAY_CONTROLLER_URL": watching.controller_url,
        "TAXIWAY_TOKEN_FILE": tmp_path / "token",
        "MLFLOW_TRACKING_URI": watching.tracking_uri,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))

    def answer(*arguments: str) -> str:
        assert cli.main(["explain", *arguments]) == 0
        return capsys.readouterr().out

    name = f"{handle}/1"
    assert f"trained on {dataset.tag}" in answer(name)
    assert json.loads(answer(name, "--format", "json", "--rebuild"))["subject"]["id"] == name
    picture = tmp_path / "picture.svg"
    assert answer(name, "--format", "svg", "--output", str(picture)).strip() == str(picture)
    assert f">{dataset.tag}<" in picture.read_text()
    assert f"{handle} serves version 1 to 0 % of its traffic" in answer(name, "--serving")
    assert json.loads(answer(dataset.tag, "--serving", "--format", "json"))[0]["endpoint"] == handle
    assert answer(name, "--diff") == "\n"
    assert answer(f"{handle}/latest", "--diff") == "\n"
    for other, says in ((handle, "is of one version"), (f"{handle}/best", "no model version")):
        assert cli.main(["explain", other, "--diff"]) == 1
        assert says in capsys.readouterr().err
    assert cli.main(["explain", f"{handle}/9"]) == 1
    assert capsys.readouterr().err.startswith("taxiway: no thing with a lineage")
