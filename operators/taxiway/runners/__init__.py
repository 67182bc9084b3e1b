"""Runs the components of a model project: `runner.py` says what a runner is, each other module is one."""

from taxiway.registry import packages
from taxiway.runners.process import ProcessRunner
from taxiway.runners.runner import Inputs, Job, JobResult, Runner
from taxiway.settings import Settings

__all__ = ["Inputs", "Job", "JobResult", "ProcessRunner", "Runner", "on_this_host"]


def on_this_host(settings: Settings) -> Runner:
    """Return the runner of processes on this host, which brings packages from the registry."""
    return ProcessRunner(lambda package: packages.materialise(package, settings))
