"""Searches parameters with Optuna, which is imported in functions of this package and nowhere else."""

from taxiway.tuning.plan import Limits, StudyPlan
from taxiway.tuning.result import TuneResult
from taxiway.tuning.search import work
from taxiway.tuning.session import close_study, open_study, tune

__all__ = ["Limits", "StudyPlan", "TuneResult", "close_study", "open_study", "tune", "work"]
