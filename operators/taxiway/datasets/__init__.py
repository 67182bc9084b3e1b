"""Datasets: a Git repository of their own in which DVC versions the bytes."""

from taxiway.datasets.versions import DatasetVersion, fetch, get, snapshot

__all__ = ["DatasetVersion", "fetch", "get", "snapshot"]
