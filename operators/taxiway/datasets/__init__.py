"""Datasets: a Git repository of their own in which DVC versions the bytes."""

from taxiway.datasets.cards import describe, facts
from taxiway.datasets.facts import Card, Facts, Origin
from taxiway.datasets.fetching import Fetched, bring, fetch
from taxiway.datasets.lookup import get, history
from taxiway.datasets.notebook import load, put
from taxiway.datasets.policy import promotion_faults
from taxiway.datasets.search import search
from taxiway.datasets.version import DatasetVersion
from taxiway.datasets.versions import append, diff, drift, snapshot

__all__ = [
    "Card",
    "DatasetVersion",
    "Facts",
    "Fetched",
    "Origin",
    "append",
    "bring",
    "describe",
    "diff",
    "drift",
    "facts",
    "fetch",
    "get",
    "history",
    "load",
    "promotion_faults",
    "put",
    "search",
    "snapshot",
]
