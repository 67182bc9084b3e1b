"""The runtime of a controller: what it runs itself, and beside it what somebody else runs at an address."""

from collections.abc import Mapping

from taxiway_serving.answers import Answer
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.remote import RemoteRuntime
from taxiway_serving.runtimes.runtime import Runtime, VariantSpec, VariantState

MOVED_GRACE_S = 3.0


class JoinedRuntime:
    """Sends what has a `url` to one runtime, and all else to another. A `Runtime`.

    Args:
        own: Runs variants.
        remote: Looks at those that run elsewhere.
    """

    def __init__(self, own: Runtime, remote: RemoteRuntime) -> None:
        self._own, self._remote = own, remote

    def ensure(self, spec: VariantSpec) -> None:
        """See `Runtime.ensure`. A version that has moved between the two leaves the one that it was in."""
        if spec.url:
            if not self._remote.knows(spec.variant):
                self._own.stop(spec.variant, grace_s=MOVED_GRACE_S)
            self._remote.ensure(spec)
        else:
            self._remote.stop(spec.variant, grace_s=0.0)
            self._own.ensure(spec)

    def observe(self) -> Mapping[VariantId, VariantState]:
        """See `Runtime.observe`."""
        elsewhere, own = self._remote.observe(), self._own.observe()
        gone = {variant: state for variant, state in elsewhere.items() if state.phase == "stopped"}
        return {
            **gone,
            **own,
            **{variant: state for variant, state in elsewhere.items() if variant not in gone},
        }

    def ready(self, variant: VariantId) -> Answer:
        """See `Runtime.ready`."""
        return self._of(variant).ready(variant)

    def logs(self, variant: VariantId, *, tail: int) -> str:
        """See `Runtime.logs`."""
        return self._of(variant).logs(variant, tail=tail)

    def stop(self, variant: VariantId, *, grace_s: float) -> None:
        """See `Runtime.stop`."""
        self._remote.stop(variant, grace_s=grace_s)
        self._own.stop(variant, grace_s=grace_s)

    def close(self) -> None:
        """See `Runtime.close`."""
        self._remote.close()
        self._own.close()

    def _of(self, variant: VariantId) -> Runtime:
        return self._remote if self._remote.knows(variant) else self._own
