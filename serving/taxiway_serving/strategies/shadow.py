"""Shadow: the candidate answers copies of live requests, and nobody but the comparison sees its answers. Pure."""

from collections.abc import Mapping

from taxiway_serving.rollout.steps import LEAST_PCT, Compare, SetMirrorRoute, Step
from taxiway_serving.strategies.options import Options


def preset(options: Options) -> tuple[Step, ...]:
    """Return the mirror, the comparison, and the end of the mirror.

    Options are `sample_pct`, the fields of `Compare`, and `compare`, which the comparator reads.
    """
    sample_pct = options.number("sample_pct", 10.0, LEAST_PCT, 100)
    how = options.any("compare", {})
    if not isinstance(how, Mapping):
        options.faults.append(
            f"strategy.compare: got {how!r}; give an object such as {{'pointer': '/label'}}"
        )
    compare: Compare = options.step("compare", Compare())
    return (SetMirrorRoute(sample_pct=sample_pct), compare, SetMirrorRoute(sample_pct=0))
