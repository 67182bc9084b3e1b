"""Models made again: with Git and DVC alone (`stages`), or from one file and without a network (`bundling`)."""

from taxiway.reproduction.bundling import bundle
from taxiway.reproduction.stages import leave

__all__ = ["bundle", "leave"]
