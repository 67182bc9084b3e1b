"""Evaluation gates: `measuring.py` runs, `gate.py` judges, `report.py` shows, `evaluating.py` walks through them."""

from taxiway.evaluation.evaluating import Criteria, criteria, evaluate
from taxiway.evaluation.gate import judge
from taxiway.evaluation.values import Bars, Check, Evaluation, Finding, Measured

__all__ = ["Bars", "Check", "Criteria", "Evaluation", "Finding", "Measured", "criteria", "evaluate", "judge"]
