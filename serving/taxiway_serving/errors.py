"""Every error that Taxiway raises on purpose.

    TaxiwayError
    ├── InvalidSpecError          a caller's mistake, also a ValueError; never worth a retry
    │   └── InvalidNameError      a handle or a version that is not one
    ├── AuthenticationError       the controller does not know this token
    │   └── RoleError             it knows the token, and its role may not do this
    ├── NotFoundError             no such endpoint, variant or rollout
    ├── ConflictError             the request contradicts what is already there
    ├── OverloadError             there is no room for more just now; may be retried later
    ├── NotReadyError             a variant missed its deadline; carries the end of its log
    ├── ToolFailedError           a tool or an engine that was asked for something ended with an error
    └── TransportError            a peer could not be reached or did not answer; may be retried
        └── NotLeaderError        a controller that was asked does not lead; ask the one that does, or again

The facts are attributes and `args`, so that an error survives pickling. No code but these classes lives here.
"""


class TaxiwayError(Exception):
    """Anything that Taxiway raises on purpose."""


class InvalidSpecError(TaxiwayError, ValueError):
    """A specification that breaks the contract, with every fault named at once."""

    def __init__(self, faults: tuple[str, ...], what: str = "") -> None:
        super().__init__(tuple(faults), what)
        self.faults, self.what = tuple(faults), what

    def __str__(self) -> str:
        return (f"{self.what}: " if self.what else "") + "; ".join(self.faults)


class InvalidNameError(InvalidSpecError):
    """A handle or a version that is not one."""

    def __init__(self, kind: str, got: object, rule: str) -> None:
        super().__init__((f"{got!r} {rule}",), kind)
        self.args = (kind, got, rule)
        self.kind, self.got, self.rule = kind, got, rule


class AuthenticationError(TaxiwayError):
    """The controller does not know the token that came with the request."""

    def __init__(
        self, url: str, next_step: str = "give the one in the controller's TAXIWAY_TOKEN_FILE"
    ) -> None:
        super().__init__(url, next_step)
        self.url, self.next_step = url, next_step

    def __str__(self) -> str:
        return f"{self.url} refused the token; {self.next_step}"


class RoleError(AuthenticationError):
    """The controller knows the token, and whoever has it may not do this."""

    def __init__(self, url: str, role: str, right: str, able: str) -> None:
        super().__init__(url, f"it is a {role}'s, who may not {right}; use the token of: {able}")
        self.args = (url, role, right, able)
        self.role, self.right, self.able = role, right, able


class NotFoundError(TaxiwayError):
    """Something that was named does not exist."""

    def __init__(self, what: str, name: str, next_step: str = "") -> None:
        super().__init__(what, name, next_step)
        self.what, self.name, self.next_step = what, name, next_step

    def __str__(self) -> str:
        return f"no {self.what} {self.name!r}" + (f"; {self.next_step}" if self.next_step else "")


class ConflictError(TaxiwayError):
    """A request that contradicts what is already there."""

    def __init__(self, what: str, reason: str, next_step: str = "") -> None:
        super().__init__(what, reason, next_step)
        self.what, self.reason, self.next_step = what, reason, next_step

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}" + (f"; {self.next_step}" if self.next_step else "")


class OverloadError(TaxiwayError):
    """There is no room for more of something just now."""

    def __init__(self, what: str, got: str, limit: str, next_step: str) -> None:
        super().__init__(what, got, limit, next_step)
        self.what, self.got, self.limit, self.next_step = what, got, limit, next_step

    def __str__(self) -> str:
        return f"{self.what}: {self.got}; at most {self.limit}; {self.next_step}"


class NotReadyError(TaxiwayError):
    """A variant that did not become ready before its deadline, or failed on the way."""

    def __init__(self, variant: str, deadline_s: float, reason: str, log_tail: str = "") -> None:
        super().__init__(variant, deadline_s, reason, log_tail)
        self.variant, self.deadline_s, self.reason, self.log_tail = variant, deadline_s, reason, log_tail

    def __str__(self) -> str:
        head = f"{self.variant} is not ready after {self.deadline_s:g} s: {self.reason}; no traffic moved"
        return f"{head}\nThe end of its log:\n{self.log_tail}" if self.log_tail else head


class ToolFailedError(TaxiwayError):
    """A tool (git, dvc, uv, bentoml's build, a container engine) that ended with an error."""

    def __init__(self, command: str, exit_code: int, output: str) -> None:
        super().__init__(command, exit_code, output)
        self.command, self.exit_code, self.output = command, exit_code, output

    def __str__(self) -> str:
        return f"`{self.command}` ended with {self.exit_code}:\n{self.output}"


class TransportError(TaxiwayError):
    """A peer that could not be reached, or did not answer in time or in form. May be retried."""

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)
        self.peer, self.reason = peer, reason

    def __str__(self) -> str:
        return f"{self.peer}: {self.reason}; trying again is safe"


class NotLeaderError(TransportError):
    """A controller that stands by, or leads no more, was asked for what the leader alone does. May be retried."""

    def __init__(self, controller: str, leader: str = "") -> None:
        super().__init__(
            controller, f"does not lead; ask {leader}" if leader else "does not lead, nor does anybody yet"
        )
        self.args = (controller, leader)
        self.controller, self.leader = controller, leader
