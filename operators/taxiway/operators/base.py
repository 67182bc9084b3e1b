"""What every Taxiway operator shares: its connection, who asks, and which refusals Airflow must not retry.

No work is done here or in an operator: each calls the library, which a notebook can call as well.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from taxiway.operators.lineage import facets as facets_of
from taxiway.operators.lineage import remember

if TYPE_CHECKING:
    from airflow.sdk import Context

    from taxiway.provenance import Provenance
    from taxiway.runners import DockerRunner, SwarmRunner
    from taxiway.settings import Settings


KILL_S = 3.0


class TaxiwayOperator(BaseOperator):
    """An operator that reaches Taxiway's services through one Airflow connection.

    Its result is a JSON object, and each key is an XCom of its own: `train.output["version"]` feeds the next task.

    Args:
        taxiway_conn_id: Connection of type `taxiway`; without `taxiway_default` the TAXIWAY_* variables apply.
    """

    template_fields: Collection[str] = ("taxiway_conn_id",)
    ui_color = "#e8f1fb"

    def __init__(self, *, taxiway_conn_id: str = "taxiway_default", **kwargs: Any) -> None:
        own: dict[str, Any] = {"multiple_outputs": True, "post_execute": remember}
        super().__init__(**(own | kwargs))
        self.taxiway_conn_id = taxiway_conn_id

    def settings(self) -> "Settings":
        from taxiway.operators.hooks import TaxiwayHook

        return TaxiwayHook(self.taxiway_conn_id).settings()

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> Any:
        """Return what the task read and made, for Airflow's OpenLineage provider; nothing else calls it."""
        return facets_of(self)


class ComponentOperator(TaxiwayOperator):
    """An operator that runs a component of a model project: as processes, in containers, or as jobs of a Swarm.

    A killed task ends its containers and jobs. One whose worker is lost leaves them, and the retry goes on with them.

    Args:
        runner: `process`, `docker` or `swarm`; None is what TAXIWAY_RUNNER says.
        docker_conn_id: Connection of type `docker` for the registry that images are kept in; None logs in nowhere.
    """

    template_fields: Collection[str] = (*TaxiwayOperator.template_fields, "runner", "docker_conn_id")

    _containers: "DockerRunner | SwarmRunner | None" = None

    def __init__(
        self, *, runner: str | None = None, docker_conn_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.runner = runner
        self.docker_conn_id = docker_conn_id

    def settings(self) -> "Settings":
        found = super().settings()
        return replace(found, runner=self.runner or found.runner)

    def component_runner(self) -> "DockerRunner | SwarmRunner | None":
        """Return the runner of containers or jobs where the switch says so; None leaves the choice to the library.

        Raises:
            TransportError: If the engine does not answer.
        """
        settings = self.settings()
        if settings.runner not in {"docker", "swarm"}:
            return None
        from taxiway.operators.hooks import docker_client
        from taxiway.runners import on_engine

        client = docker_client(settings.containers, self.docker_conn_id)
        self._containers = on_engine(settings.runner, settings, client, self.log.info)
        return self._containers

    def on_kill(self) -> None:
        if self._containers:
            self._containers.stop(KILL_S)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what a retry cannot mend into Airflow's own final failure; everything else passes and may be retried.

    Raises:
        AirflowFailException: For a broken specification, a thing that does not exist, a token that the controller does
            not know, files that are not what was registered, a closed gate, a failed verification, or a rollout that
            ended without promotion.
        AirflowSkipException: For a rollout that gave way to a newer one: nothing failed, and nothing is left to do.
    """
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from taxiway import errors

    final = (
        errors.InvalidSpecError,
        errors.NotFoundError,
        errors.AuthenticationError,
        errors.ArtifactChangedError,
        errors.GateFailedError,
        errors.VerificationFailedError,
        errors.RolloutEndedError,
    )
    try:
        yield
    except errors.SupersededError as gave_way:
        raise AirflowSkipException(str(gave_way)) from gave_way
    except final as refusal:
        raise AirflowFailException(str(refusal)) from refusal


def provenance(context: "Context") -> "Provenance":
    """Return the task instance behind this try."""
    from taxiway.provenance import Provenance

    ti = context["ti"]
    return Provenance(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        try_number=ti.try_number,
    )


def actor(context: "Context", person: str | None = None) -> str:
    """Return who asks, for the ledger: a person where there is one, DAG, task and run; as a header can carry it."""
    ti = context["ti"]
    task = f"airflow {ti.dag_id}.{ti.task_id} {ti.run_id}"
    told = (f"{person} through {task}" if person else task).encode("ascii", "replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in told)[:250]


def facts(context: "Context") -> dict[str, str]:
    """Return what a notification says of a task: which, how it ended, why, and where its log is."""
    ti, error = context["ti"], context.get("exception")
    link = getattr(ti, "log_url", "")
    found = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "link": str(link)}
    state = getattr(ti.state, "value", ti.state)
    return found | {"state": str(state)} | ({"error": str(error)} if error else {})


def rollout_name(context: "Context", version: int) -> str:
    """Return the id of the rollout that a task instance asks for: every try finds the same one."""
    return f"{task_name(provenance(context))}-v{version}"


def announce(
    task: BaseOperator,
    context: "Context",
    *,
    version: int | None,
    outcome: str | None,
    versions: Mapping[str, int] | None = None,
) -> None:
    """Write what came out into the events of the task's assets, for the DAGs that they trigger.

    Args:
        task: The operator.
        context: The task's.
        version: The version that is live then.
        outcome: How its rollout ended.
        versions: Of a group the version of each handle: an asset that has a handle's name gets its `version`.
    """
    for asset in task.outlets:
        extra: dict[str, Any] = {"version": version, "outcome": outcome, "run_id": context["run_id"]}
        if versions is not None:
            extra |= {"version": versions.get(asset.name), "versions": dict(versions)}
        context["outlet_events"][asset].extra = extra


def leave(task: TaxiwayOperator, rollouts: Mapping[str, str], *, is_aborted: bool) -> None:
    """Leave rollouts when their task is killed, which has five seconds: they go on, or are aborted."""
    begun = {handle: name for handle, name in rollouts.items() if name}
    if not is_aborted or not begun:
        task.log.warning(
            "The rollout goes on without this task: the controller carries it; a retry follows it again"
        )
        return
    from taxiway.errors import TaxiwayError
    from taxiway.traffic import command

    for handle, name in begun.items():
        try:
            command(handle, name, "abort", task.settings(), timeout_s=KILL_S / len(begun))
            task.log.warning("Rollout %s of %s was aborted with this task", name, handle)
        except TaxiwayError as error:
            task.log.warning("Rollout %s of %s was not aborted and goes on: %s", name, handle, error)


def task_name(task: "Provenance") -> str:
    """Return the one name that every try of a task instance shares, for what must be found again by a retry."""
    digest = hashlib.sha256("\0".join(task.identity().values()).encode()).hexdigest()
    return f"{task.dag_id[:40]}-{task.task_id[:20]}-{digest[:12]}"


def dag_folder(context: "Context") -> Path:
    """Return the folder of the DAG's file as this worker sees it: inside the DAG bundle, at the run's version."""
    return Path(context["dag"].fileloc).resolve().parent


def bundle_commit(context: "Context") -> str | None:
    """Return the commit that a Git DAG bundle pinned this run to; the bundle's folder has no `.git` to ask."""
    bundle = getattr(context["ti"], "bundle_instance", None)
    return getattr(bundle, "version", None)


def bundle_origin(context: "Context", project: str) -> "dict[str, str | None]":
    """Return commit and URL of a project that came with a Git DAG bundle; none where another Git knows better.

    Args:
        context: The task's.
        project: Path relative to the DAG's file, or a Git URL.
    """
    from taxiway.checkout import is_url
    from taxiway.tools import redact

    commit, bundle = bundle_commit(context), getattr(context["ti"], "bundle_instance", None)
    if bundle is None or commit is None or is_url(project):
        return {}
    folder = Path(getattr(bundle, "repo_path", bundle.path)).resolve()
    is_inside = (dag_folder(context) / project).resolve().is_relative_to(folder)
    if not is_inside or (folder / ".git").exists():
        return {}
    url = getattr(bundle, "repo_url", None)
    return {"commit": commit, "url": redact(str(url)) if url else None}


def specification(strategy: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a strategy as the library takes it: a name stands for its defaults, rivals are numbers."""
    if isinstance(strategy, str):
        return {"kind": strategy}
    rivals = [version_number(rival) for rival in strategy.get("rivals") or ()]
    return {**strategy, **({"rivals": rivals} if rivals else {})}


def step_number(value: int | str | None) -> int | None:
    """Return a step's place that came through XCom (a number) or through a template (its text); None for none.

    Raises:
        InvalidSpecError: If it is not a whole number from 0.
    """
    from taxiway.errors import InvalidSpecError

    if value is None or value == "":
        return None
    if not str(value).isdecimal():
        raise InvalidSpecError((f"got {value!r}; a step is a whole number from 0",), "rollout step")
    return int(value)


def digests(packages: Sequence[Any] | None, handle: str) -> dict[str, str]:
    """Return the digest of each package of a handle by its kind; the newest one is meant of a kind that is missing.

    Args:
        packages: What RegisterOperator answers as `packages`, or a list of several such answers.
        handle: The handle.
    """
    answers = ([each] if isinstance(each, Mapping) else each or [] for each in packages or [])
    found = (made for answer in answers for made in answer)
    return {made["kind"]: made["digest"] for made in found if made["handle"] == handle}


def truth(value: bool | str, name: str) -> bool:
    """Return a yes or no that came through XCom (true or false) or through a template (its text, never empty).

    Args:
        value: True or false, or one of these words; nothing at all is false.
        name: What is asked.

    Raises:
        InvalidSpecError: If it is neither.
    """
    from taxiway.errors import InvalidSpecError

    words = {"true": True, "false": False, "none": False, "": False}
    text = str(value).strip().lower()
    if text not in words:
        raise InvalidSpecError((f"got {value!r}; say true or false",), name)
    return words[text]


def version_number(value: int | str) -> int:
    """Return a model version that came through XCom (a number) or through a template (its text).

    Raises:
        InvalidNameError: If it is not a whole number from 1.
    """
    from taxiway_serving.names import check_version

    return check_version(int(value) if str(value).isdecimal() else value)  # type: ignore[arg-type]
