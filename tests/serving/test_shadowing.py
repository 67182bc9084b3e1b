"""Following shadow rollouts: how each compares, and that one handle's trouble is not the others'."""

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxiway_serving.controller.looking import World
from taxiway_serving.controller.shadowing import Shadowing
from taxiway_serving.controller.wiring import _answering, leading, sense
from taxiway_serving.criterion import Criterion
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.store import Endpoint, Fleet, Rollout, Variant
from taxiway_serving.rollout.state import RolloutState, Status
from taxiway_serving.rollout.steps import Compare, SetMirrorRoute
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.settings import ServingSettings
from taxiway_serving.shadow.comparator import Comparator, comparing
from taxiway_serving.strategies import plan, rollout_from_json
from taxiway_serving.testing import FakeRuntime
from tests.serving.plane import HANDLE, Plane

HANDLES = ("first", "second")
BROKEN = (SetMirrorRoute(sample_pct=10), Compare(tolerance=-1))


@pytest.fixture
def comparator(tmp_path: Path) -> Iterator[Comparator]:
    with comparing(tmp_path) as made:
        yield made


def rollout(handle: str, **strategy: Any) -> Rollout:
    spec = rollout_from_json(
        {"id": handle, "handle": handle, "version": 2, "strategy": {"kind": "shadow", **strategy}}
    )
    state = RolloutState(
        started_at_s=0, entered_at_s=0, stable=1, status=Status.PROGRESSING, step=1, mirror_pct=10
    )
    return Rollout(spec=spec, plan=plan(spec, 1), state=state)


def fleet(home: Path, *rollouts: Rollout) -> Fleet:
    variants = [
        VariantSpec(
            handle=each.spec.handle,
            version=version,
            model="m",
            bento_dir=home,
            python=home,
            model_dir=home,
        )
        for each in rollouts
        for version in (1, 2)
    ]
    return Fleet(
        endpoints=tuple(Endpoint(handle=each.spec.handle, stable=1) for each in rollouts),
        variants=tuple(
            Variant(handle=each.handle, version=each.version, spec=each.to_json()) for each in variants
        ),
        rollouts=rollouts,
    )


def followed(shadowing: Shadowing, runtime: FakeRuntime, wanted: Fleet) -> None:
    """Start everything, and follow it once all of it runs."""
    for variant in wanted.variants:
        runtime.ensure(VariantSpec.from_json(variant.spec))
    shadowing.follow(wanted, World())
    runtime.step()
    runtime.step()
    shadowing.follow(wanted, World(variants=runtime.observe()))


def test_comparison_is_by_the_criterion_of_the_plan(comparator: Comparator, tmp_path: Path) -> None:
    runtime = FakeRuntime()
    shadowing = Shadowing(comparator=comparator, runtime=runtime, home=tmp_path)
    wanted = fleet(tmp_path, rollout("first", compare={"pointer": "/label", "tolerance": 0.5}))
    followed(shadowing, runtime, wanted)
    found = comparator.following("first")
    assert found is not None
    assert found.criterion == Criterion(pointer="/label", tolerance=0.5)


def test_handle_that_cannot_be_compared_keeps_nobody_else_from_it(
    comparator: Comparator, tmp_path: Path
) -> None:
    """What could not be followed is told, once all the others are."""
    runtime = FakeRuntime()
    shadowing = Shadowing(comparator=comparator, runtime=runtime, home=tmp_path)
    first, second = (rollout(handle) for handle in HANDLES)
    broken = Rollout(spec=first.spec, plan=BROKEN, state=first.state)
    with pytest.raises(InvalidSpecError, match="tolerance"):
        followed(shadowing, runtime, fleet(tmp_path, broken, second))
    assert comparator.following("first") is None
    assert comparator.following("second") is not None


def test_shadow_that_no_envoy_could_feed_is_refused_before_anything_is_stored(
    plane: Plane, tmp_path: Path
) -> None:
    """Each Envoy would mirror to its own loopback, and the rollout would end an hour later as inconclusive."""
    made = ServingSettings.under(tmp_path / "controller")
    settings = replace(made, router="ads", envoy_admin_urls=("http://gate1:8583",))
    plane.go_live(1)
    plane.deploy(2)
    with closing(sense(settings)) as sensing:
        commands = _answering(settings, plane.store, plane.runtime, plane.reconciler, sensing).commands
    spec = rollout_from_json({"id": "r", "handle": HANDLE, "version": 2, "strategy": {"kind": "shadow"}})
    with pytest.raises(InvalidSpecError, match=r"gate1:8583 would mirror to themselves.*TAXIWAY_SHADOW_HOST"):
        commands.start(spec)
    assert plane.store.fleet().active(HANDLE) is None
    commands.start(replace(spec, strategy="canary"))
    assert plane.store.fleet().active(HANDLE) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="loopback is one address there")
def test_controller_takes_mirrored_requests_where_its_setting_says(settings: ServingSettings) -> None:
    with leading(replace(settings, shadow_host="127.0.0.2")):
        port = int((settings.home / "shadow" / "port").read_text())
        assert httpx.post(f"http://127.0.0.2:{port}/", timeout=60, trust_env=False).status_code == 404


@pytest.mark.parametrize("kind", ["shadow", "canary"])
def test_comparison_that_is_not_installed_is_refused_before_anything_is_stored(
    plane: Plane, kind: str
) -> None:
    plane.go_live(1)
    plane.deploy(2)
    how = {"function": "nobody-has-it"}
    steps = [{"setMirrorRoute": {"sample_pct": 5}}, {"compare": how}, {"setWeight": 100}]
    strategy = {"kind": kind, **({"compare": how} if kind == "shadow" else {"steps": steps})}
    with pytest.raises(InvalidSpecError, match="step 2: no installed package has an entry point"):
        plane.begin(2, name="r", strategy=strategy)
    assert plane.store.fleet().active(HANDLE) is None
