"""What becomes of a job whose end is asked for, or that something is in the way of; without an engine."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from taxiway.errors import DiskFullError, JobStoppedError, ToolFailedError, TransportError
from taxiway.runners import Job, Stop
from taxiway.runners.following import Following
from tests.containers.conftest import plain_package


@dataclass
class Place:
    """Where a job would run: what was done to it, in order."""

    done: list[str] = field(default_factory=list)

    def end(self, grace_s: float) -> None:
        self.done.append(f"ended within {grace_s:g} s")

    def remove(self) -> None:
        self.done.append("removed")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = Job(package=plain_package({}), folder=tmp_path / "job")
    made.folder.mkdir()
    return made


@pytest.fixture
def place() -> Place:
    return Place()


Follow = Callable[..., None]


@pytest.fixture
def follow(job: Job, place: Place) -> Follow:
    """Return a function that follows the job while something happens."""

    def followed(following: Following, happens: Callable[[], object], asked: Stop | None = None) -> None:
        with following.to_the_end(job, asked or Stop(), end=place.end, remove=place.remove):
            happens()

    return followed


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_job_that_ended_is_removed(follow: Follow, place: Place) -> None:
    follow(Following(), list)
    assert place.done == ["removed"]


@pytest.mark.parametrize(
    ("error", "raised", "done"),
    [
        (TransportError("engine", "away"), TransportError, []),
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError, []),
        (ToolFailedError("docker wait", 404, "gone"), ToolFailedError, ["removed"]),
        (KeyboardInterrupt(), KeyboardInterrupt, ["removed"]),
    ],
    ids=["engine", "disk", "tool", "interrupt"],
)
def test_job_waits_for_an_engine_or_a_disk_that_comes_back_and_for_nothing_else(
    follow: Follow, place: Place, error: BaseException, raised: type[BaseException], done: list[str]
) -> None:
    with pytest.raises(raised):
        follow(Following(), failing(error))
    assert place.done == done


def test_job_that_is_gone_because_its_end_was_asked_for_was_stopped(follow: Follow, place: Place) -> None:
    asked = Stop()
    asked.request()
    with pytest.raises(JobStoppedError):
        follow(Following(), failing(ToolFailedError("docker wait", 404, "gone")), asked)
    assert place.done == ["removed"]


def test_end_of_all_reaches_what_is_followed_and_lets_nothing_begin(
    follow: Follow, place: Place, job: Job
) -> None:
    following = Following()
    follow(following, lambda: following.end_all(2.0))
    assert place.done == ["ended within 2 s", "removed"]
    following.end_all(1.0)
    assert place.done == ["ended within 2 s", "removed"]
    assert following.is_ended(Stop())
    with pytest.raises(JobStoppedError):
        following.refuse_if_over(job)
    # It was begun while all others were ended: nobody has told it, so it is removed at once.
    with pytest.raises(JobStoppedError):
        follow(following, failing(AssertionError("it was followed")))
    assert place.done == ["ended within 2 s", "removed", "removed"]
