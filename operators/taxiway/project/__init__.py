"""Model projects: `reader.py` reads one, `values.py` says what it is, each other module holds the rules of a part."""

from taxiway.project.reader import STRATEGIES, read
from taxiway.project.values import KINDS, Component, Project, Sla

__all__ = ["KINDS", "STRATEGIES", "Component", "Project", "Sla", "read"]
