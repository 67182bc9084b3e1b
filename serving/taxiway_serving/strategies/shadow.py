"""Shadow: the candidate answers copies of live requests, and nobody but the comparison sees its answers. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from taxiway_serving.rollout.steps import CRITERION, LEAST_PCT, Compare, SetMirrorRoute, Step
from taxiway_serving.strategies.options import Options


def preset(options: Options) -> tuple[Step, ...]:
    """Return the mirror, the comparison, and the end of the mirror.

    Options are `sample_pct`, the fields of `Compare`, and `compare`: what counts as the same answer.
    """
    sample_pct = options.number("sample_pct", 10.0, LEAST_PCT, 100)
    how = _criterion(options)
    options.faults += [f"strategy.{key}: belongs into compare" for key in CRITERION if options.has(key)]
    compare: Compare = options.step("compare", Compare())
    compare = replace(compare, **{name: getattr(how, name) for name in CRITERION})
    return (SetMirrorRoute(sample_pct=sample_pct), compare, SetMirrorRoute(sample_pct=0))


def _criterion(options: Options) -> Compare:
    """Return a comparison of which only the criterion is meant."""
    how = options.any("compare", {})
    if not isinstance(how, Mapping):
        options.faults.append(
            f"strategy.compare: got {how!r}; give an object such as {{'pointer': '/label'}}"
        )
        return Compare()
    strangers = sorted(str(key) for key in set(how) - set(CRITERION))
    options.faults += [
        f"strategy.compare.{key}: unknown; there are {', '.join(CRITERION)}" for key in strangers
    ]
    known = {key: value for key, value in how.items() if key in CRITERION}
    found: Compare = options.step("compare", Compare(), given=known, where="strategy.compare")
    return found
