"""A filter in front of a container engine's socket: Envoy asks `checker.py` about each request before it passes it on.

What is allowed lies in `policy.py` and `bodies.py`, which decide on values alone. No controller, runtime or library is
known here: they speak to the filter as they would to the engine.
"""
