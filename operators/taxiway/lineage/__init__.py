"""Lineage: where a model, a dataset, a package, an endpoint or an answer comes from, and what became of it.

Read from MLflow, the data repository and the controller, through an index of its own that may be deleted at any time.
"""

from taxiway.lineage.differences import differences
from taxiway.lineage.explaining import Explanation, Serving, explain, rebuild, serving
from taxiway.lineage.graph import Edge, Node
from taxiway.lineage.picture import plot
from taxiway.lineage.text import render

__all__ = [
    "Edge",
    "Explanation",
    "Node",
    "Serving",
    "differences",
    "explain",
    "plot",
    "rebuild",
    "render",
    "serving",
]
