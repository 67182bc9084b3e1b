"""Shadow: the candidate answers copies of live requests, and nobody but the comparison sees its answers. Pure."""

from collections.abc import Mapping
from typing import Any

from taxiway_serving.rollout.steps import Compare, SetMirrorRoute, Step, read_step
from taxiway_serving.strategies.options import number


def preset(options: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the mirror, the comparison, and the end of the mirror.

    Args:
        options: `sample_pct`, the fields of `Compare`, and `compare`, which the comparator reads.
    """
    sample_pct = number("shadow", options, "sample_pct", 10.0, 0.01, 100)
    rest = {key: value for key, value in options.items() if key not in ("sample_pct", "compare")}
    compare: Compare = read_step("compare", rest)
    return (SetMirrorRoute(sample_pct=sample_pct), compare, SetMirrorRoute(sample_pct=0))
