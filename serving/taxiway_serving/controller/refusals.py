"""What is refused before it is stored: files, routes and groups that could not be carried out. Reads only.

A rollout that is refused here costs its caller an error. Stored, it would cost every handle of the gateway its table.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from taxiway_serving.errors import ConflictError, InvalidSpecError
from taxiway_serving.ledger.store import Endpoint, Rollout
from taxiway_serving.names import ENV_SHADOW_HOST
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.steps import Compare, SetHeaderRoute, SetMirrorRoute, Step
from taxiway_serving.routing.side_routes import HeaderRoute, Mirror
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.settings import LOOPBACK
from taxiway_serving.shadow.functions import check_installed
from taxiway_serving.strategies.policy import SWITCHES, is_switch


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


def check_routes(spec: RolloutSpec, steps: Sequence[Step], unmirrored: Sequence[str] = ()) -> None:
    """Refuse steps whose routes no gateway could be given, and comparisons by a function that is not installed.

    Args:
        spec: The rollout.
        steps: What it compiled to.
        unmirrored: Addresses of the Envoys that cannot mirror.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    faults: list[str] = []
    for number, step in enumerate(steps, 1):
        found: list[str] = []
        if isinstance(step, SetHeaderRoute) and (step.header or step.cookie):
            found = _header_faults(spec, step)
        elif isinstance(step, SetMirrorRoute) and step.sample_pct > 0:
            found = _mirror_faults(step, unmirrored)
        elif isinstance(step, Compare) and step.function is not None:
            found = _faults_of(partial(check_installed, step.function))
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


def _mirror_faults(step: SetMirrorRoute, unmirrored: Sequence[str]) -> list[str]:
    faults = _faults_of(partial(Mirror, host=LOOPBACK, port=1, sample_pct=step.sample_pct))
    if unmirrored:
        told = f"the Envoys at {', '.join(unmirrored)} would mirror to themselves: the controller takes it on loopback"
        faults.append(f"{told}; set {ENV_SHADOW_HOST} to an address of each controller that they reach")
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


def check_policy(
    spec: RolloutSpec, steps: Sequence[Step], candidates: Sequence[VariantSpec], *, is_first: bool
) -> None:
    """Refuse a strategy that a candidate's project forbids: by its name, or by what it comes to.

    Args:
        spec: The rollout.
        steps: What it compiles to beside a live version.
        candidates: The versions that it brings.
        is_first: Whether there is no live version, nor will there be: no share could be left behind.

    Raises:
        InvalidSpecError: If it does; no traffic has moved.
    """
    faults = []
    for each in candidates:
        named = [name for name in each.forbid if name == spec.strategy]
        barred = [name for name in each.forbid if name in SWITCHES]
        if named:
            told = f"forbids the strategy {spec.strategy}: {each.forbid_reason}"
        elif barred and not is_first and is_switch(steps, len(spec.versions)):
            told = f"forbids {' and '.join(barred)}: {each.forbid_reason}; {_UNPROVEN}"
        else:
            continue
        faults.append(f"{spec.handle}/{each.version} {told}; no traffic moved")
    if faults:
        raise InvalidSpecError(tuple(faults), "rollout")


_UNPROVEN = (
    "this plan gives it all the traffic with nothing proven before; put an analysis with certify, or a compare, "
    "ahead of that weight"
)


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


def check_members(specs: Sequence[RolloutSpec]) -> None:
    """Refuse rollouts that are not the members of one group, each once.

    Raises:
        InvalidSpecError: If they are not.
    """
    groups = {spec.group for spec in specs}
    group = next(iter(groups)) if len(groups) == 1 else None
    handles = sorted(spec.handle for spec in specs)
    if group is None or handles != sorted(group.handles):
        named = ", ".join(group.handles) if group else "nobody, or of several groups"
        fault = f"rollouts: got {', '.join(handles) or 'none'}; they must be one group's, each once: {named}"
        raise InvalidSpecError((fault,), "group")
    if len({spec.id for spec in specs}) < len(specs):
        raise InvalidSpecError(("id: two rollouts have the same; give each its own",), "group")
