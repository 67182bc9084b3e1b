"""What is refused before it is stored: files, routes and groups that could not be carried out. Reads only.

A rollout that is refused here costs its caller an error. Stored, it would cost every handle of the gateway its table.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from taxiway_serving.errors import ConflictError, InvalidSpecError
from taxiway_serving.ledger.store import Endpoint, Rollout
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.steps import SetHeaderRoute, SetMirrorRoute, Step
from taxiway_serving.routing.side_routes import HeaderRoute, Mirror
from taxiway_serving.runtimes.runtime import VariantSpec


def check_files(spec: VariantSpec, home: Path) -> None:
    """Refuse files outside the controller's home, and files that do not exist.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    faults = []
    named = {name: getattr(spec, name) for name in ("bento_dir", "model_dir", "python", "contract")}
    for name, value in named.items():
        if value is None:
            continue
        path = Path(value)
        if ".." in path.parts or not path.is_relative_to(home):
            faults.append(
                f"{name}: {path} lies outside the controller's home {home}; it runs nothing from elsewhere"
            )
        elif not path.exists():
            faults.append(f"{name}: {path} does not exist on the controller's host")
    if faults:
        raise InvalidSpecError(tuple(faults), f"variant {spec.handle}/{spec.version}")


def check_routes(spec: RolloutSpec, steps: Sequence[Step]) -> None:
    """Refuse steps whose routes no gateway could be given.

    Args:
        spec: The rollout.
        steps: What it compiled to.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    faults: list[str] = []
    for number, step in enumerate(steps, 1):
        found: list[str] = []
        if isinstance(step, SetHeaderRoute) and (step.header or step.cookie):
            found = _header_faults(spec, step)
        elif isinstance(step, SetMirrorRoute) and step.sample_pct > 0:
            found = _faults_of(partial(Mirror, host="127.0.0.1", port=1, sample_pct=step.sample_pct))
        faults += [f"step {number}: {fault}" for fault in found]
    if faults:
        raise InvalidSpecError(tuple(faults), "rollout")


def _header_faults(spec: RolloutSpec, step: SetHeaderRoute) -> list[str]:
    versions: Mapping[str, int] = step.values or {step.value: spec.version}
    faults: list[str] = []
    for value, version in versions.items():
        route = partial(HeaderRoute, header=step.header, cookie=step.cookie, value=value, version=version)
        faults += _faults_of(route)
    return faults


def _faults_of(make: Callable[[], object]) -> list[str]:
    try:
        make()
    except InvalidSpecError as error:
        return list(error.faults)
    return []


def check_candidates(spec: RolloutSpec, endpoint: Endpoint) -> None:
    """Refuse an experiment that has the live version among its candidates: it is their control.

    Raises:
        InvalidSpecError: If it has.
    """
    if len(spec.versions) > 1 and endpoint.stable in spec.versions:
        fault = f"version {endpoint.stable} is live, so it is the control; leave it out of the candidates"
        raise InvalidSpecError((fault,), "rollout")


def check_group(spec: RolloutSpec, members: Sequence[Rollout]) -> None:
    """Refuse a group whose name was used before: what happened then would decide what happens now.

    Args:
        spec: The rollout that is to join.
        members: Every rollout that has ever been in a group of that name.

    Raises:
        ConflictError: If the handle was in it already, or its handles are others.
    """
    for member in members:
        if member.spec.handle == spec.handle:
            what = f"has had rollout {member.spec.id} of {spec.handle}"
            raise ConflictError(f"group {member.spec.group and member.spec.group.name}", what, _ANEW)
        if member.spec.group != spec.group:
            handles = ", ".join(member.spec.group.handles) if member.spec.group else ""
            raise ConflictError(f"group {spec.group and spec.group.name}", f"is of {handles}", _ANEW)


_ANEW = "a group's name is for one use: give this one another"
