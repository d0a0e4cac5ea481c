"""Figures of the factory itself, with models that do nothing: `python -m benchmarks.factory`."""
