"""`python -m taxiway.trial`: play the story, show the closing screen, and keep serving until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import psutil

from taxiway.trial import contained, local, screen
from taxiway.trial.console import Console
from taxiway.trial.contained import ContainedStage
from taxiway.trial.ending import closing, summarise
from taxiway.trial.errors import StoryBrokenError, TrialError
from taxiway.trial.layout import Layout
from taxiway.trial.local import LocalStage
from taxiway.trial.naming import USUAL_HOME
from taxiway.trial.stage import Stage
from taxiway.trial.story import Story
from taxiway.trial.summary import Summary
from taxiway_serving.errors import TaxiwayError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL_LINES = 15


class Interrupted(BaseException):
    """A signal asked the trial to end; no Exception, so that nothing takes it for an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trial and return its exit code: 0 when the whole story held."""
    options = _parser().parse_args(arguments)
    home = options.home or Path(USUAL_HOME if options.docker else ".trial")
    layout = Layout(checkout=Path.cwd(), home=home.absolute())
    try:
        if options.clean:
            return _clean(layout, options)
        if not (layout.checkout / "dags").is_dir():
            raise StoryBrokenError(
                "start", f"{layout.checkout} has no dags; run the trial in the folder of the clone"
            )
        return _Trial(layout, options).run()
    except TaxiwayError as error:
        print(f"\nThe trial ended: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m taxiway.trial", description=__doc__)
    parser.add_argument(
        "--exit", action="store_true", help="end by itself after the story, with its exit code"
    )
    parser.add_argument("--clean", action="store_true", help="remove what earlier trials left, and end")
    parser.add_argument("--docker", action="store_true", help="play it in containers, by docker-compose.yml")
    parser.add_argument("--celery", action="store_true", help="with --docker: run tasks on Celery's workers")
    parser.add_argument("--keep-images", action="store_true", help="with --docker --clean: keep the images")
    parser.add_argument("--home", type=Path, help="folder to keep everything in")
    return parser


def _clean(layout: Layout, options: argparse.Namespace) -> int:
    if options.docker:
        contained.clean(layout, keeps_images=options.keep_images)
        return 0
    ended = local.clean(layout)
    if ended:
        print(f"ended: {', '.join(ended)}")
    return 0


class _Trial:
    """One trial from its start to the end of its processes.

    Args:
        layout: Where it keeps its things.
        options: Where it is played, and whether it ends after the story instead of serving on.
    """

    def __init__(self, layout: Layout, options: argparse.Namespace) -> None:
        self._layout, self._options = layout, options
        self._stops_itself = options.exit
        self._began_s = psutil.Process().create_time()
        self._console = Console(time.monotonic() - (time.time() - self._began_s))
        self._has_played = False

    def run(self) -> int:
        _listen()
        try:
            with self._stage() as stage:
                try:
                    return self._play(stage)
                finally:
                    # From here on everything is ended in good order; a second Ctrl-C would only leave things behind.
                    for number in _SIGNALS:
                        signal.signal(number, signal.SIG_IGN)
                    self._console.end_live()
        except Interrupted as interrupted:
            return 0 if self._has_played else 128 + interrupted.number

    def _stage(self) -> Stage:
        if self._options.docker:
            return ContainedStage(self._layout, os.environ, self._console, is_celery=self._options.celery)
        return LocalStage(self._layout, os.environ, self._console)

    def _play(self, stage: Stage) -> int:
        story = Story(stage, self._console)
        try:
            stage.open()
            story.play()
        except TaxiwayError as error:
            story.stop()
            summarise(stage, story, self._began_s).write(self._layout.summary_file)
            return self._report(error)
        else:
            if self._stops_itself:
                # Requests that are on their way count as well: the last to come back may be the ones that fail.
                story.stop()
            summary = summarise(stage, story, self._began_s)
            summary.write(self._layout.summary_file)
            end = closing(stage, story, summary, self._began_s, stops_itself=self._stops_itself)
            self._console.lines(screen.closing(end, is_plain=self._console.is_plain))
            return self._end(story, summary)
        finally:
            story.stop()

    def _end(self, story: Story, summary: Summary) -> int:
        faults = summary.faults()
        if faults:
            told = [f"  Not as it should be: {fault}" for fault in faults]
            self._console.lines([*told, f"  Read {self._layout.logs}"])
        self._has_played = not faults
        while not self._stops_itself:
            story.look()
            time.sleep(0.5)
        return 1 if faults else 0

    def _report(self, error: TaxiwayError) -> int:
        log = error.log if isinstance(error, TrialError) else None
        tail = (error.tail if isinstance(error, TrialError) else "") or _tail(log)
        lines = ["", f"The trial failed: {error}", f"  Read {log or self._layout.logs}"]
        self._console.end_live()
        self._console.lines([*lines, *(f"  | {line}" for line in tail.splitlines()[-_TAIL_LINES:])])
        return 1


def _listen() -> None:
    """Let signals end the trial; a hangup does not where `nohup` said so."""
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def _tail(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])


if __name__ == "__main__":
    sys.exit(main())
