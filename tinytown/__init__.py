"""The embedded world: scenes, captions, pictures, an annotator, and small trained weights."""

ASSETS_VERSION = 3
"""Of the shipped weights and splits together; another training is another version, never a silent change."""
