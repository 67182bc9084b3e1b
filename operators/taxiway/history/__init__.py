"""What happened to an endpoint: its split over time, who and what decided it, and how each version did meanwhile.

Read from the controller, through its client: nothing here keeps state or asks Envoy.
"""

from taxiway.history.chain import Chain, verify
from taxiway.history.picture import plot
from taxiway.history.reading import History, read
from taxiway.history.table import export

__all__ = ["Chain", "History", "export", "plot", "read", "verify"]
