"""Runs the components of a model project: `runner.py` says what a runner is, each other module is one."""

from taxiway.runners.process import ProcessRunner
from taxiway.runners.runner import Job, JobResult, Runner

__all__ = ["Job", "JobResult", "ProcessRunner", "Runner"]
