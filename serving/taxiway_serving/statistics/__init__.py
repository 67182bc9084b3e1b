"""Formulas that decide about traffic. Pure: numbers in, numbers out; no clock, randomness, network or file system."""
