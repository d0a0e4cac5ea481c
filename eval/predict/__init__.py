"""Marks artifacts in images of any source with a detector: what `flawforge predict` does."""
