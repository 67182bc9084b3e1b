"""What can go wrong with a trial. No other module of the trial defines errors.

TaxiwayError
└── TrialError
    ├── TrialRunningError     another trial holds the same folder
    ├── ServiceFailedError    a process ended, or was not ready by its deadline
    ├── ComposeMissingError   no compose, or no engine that it could use
    ├── StrangeVolumesError   the engine keeps the data of a trial whose secrets are not here
    ├── AirflowRefusedError   Airflow answered a request with an error, or not at all
    └── StoryBrokenError      a chapter of the story did not go as it should
"""

from __future__ import annotations

from pathlib import Path

from taxiway_serving.errors import TaxiwayError


class TrialError(TaxiwayError):
    """A trial that cannot go on; `log` names the file to read and `tail` is its end, where there is one."""

    log: Path | None = None
    tail: str = ""


class TrialRunningError(TrialError):
    """Another trial holds the folder `home`."""

    def __init__(self, home: Path, pid: int) -> None:
        super().__init__(home, pid)
        self.home, self.pid = home, pid

    def __str__(self) -> str:
        return f"{self.home} is in use by the trial with pid {self.pid}; end that one with Ctrl-C first"


class ServiceFailedError(TrialError):
    """A process of the trial ended, or was not ready in time; `log` is its log."""

    def __init__(self, name: str, what: str, log: Path) -> None:
        super().__init__(name, what, log)
        self.name, self.what, self.log = name, what, log

    def __str__(self) -> str:
        return f"{self.name} {self.what}"


class AirflowRefusedError(TrialError):
    """Airflow refused a request of the trial."""

    def __init__(self, request: str, status: int, reason: str) -> None:
        super().__init__(request, status, reason)
        self.request, self.status, self.reason = request, status, reason

    def __str__(self) -> str:
        return f"Airflow answered {self.request} with {self.status}: {self.reason}"


class StoryBrokenError(TrialError):
    """A chapter of the story did not go as it should; `tail` is the end of the log that says why."""

    def __init__(self, chapter: str, what: str, tail: str = "", log: Path | None = None) -> None:
        super().__init__(chapter, what, tail, log)
        self.chapter, self.what, self.tail, self.log = chapter, what, tail, log

    def __str__(self) -> str:
        return f"{self.chapter}: {self.what}"


class ComposeMissingError(TrialError):
    """The trial in containers lacks a tool or an engine."""

    def __init__(self, lacking: str, step: str) -> None:
        super().__init__(lacking, step)
        self.lacking, self.step = lacking, step

    def __str__(self) -> str:
        return f"{self.lacking}; {self.step}"


class StrangeVolumesError(TrialError):
    """The engine has `volumes` of a trial in containers whose secrets are not in the folder `home`."""

    def __init__(self, home: Path, volumes: tuple[str, ...]) -> None:
        super().__init__(home, volumes)
        self.home, self.volumes = home, volumes

    def __str__(self) -> str:
        names = " ".join(self.volumes)
        return (
            f"volumes of an earlier trial are on the engine, and {self.home} has not the passwords for them; "
            f"play in the folder that made them, or remove them by: docker volume rm {names}"
        )
