"""Where evidence about variants comes from. `source.py` holds the Protocol; one source per file."""
