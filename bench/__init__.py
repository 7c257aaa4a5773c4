"""Demonstration and measurements; run from a clone with `python -m bench`."""
