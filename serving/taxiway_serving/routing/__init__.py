"""What sends traffic to variants. `router.py` holds the Protocol, `resources.py` the pure part."""
