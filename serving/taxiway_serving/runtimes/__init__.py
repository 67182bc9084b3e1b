"""What runs variants. `runtime.py` holds the Protocol; one implementation per file."""
