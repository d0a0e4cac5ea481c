"""Flawforge in Python: `build`, `preview`, `verify`, `evaluate`, and `Corruptor` for one image in a notebook.

Importing this package loads neither torch nor Ray; the functions import what they need when they are called.
"""

from actors.errors import FlawforgeError
from factory.recipe.recipe import load_recipe
from flawforge.api import build, evaluate, preview, verify
from flawforge.single_image import Corruptor

__all__ = ["Corruptor", "FlawforgeError", "build", "evaluate", "load_recipe", "preview", "verify"]
