"""Flawforge in Python: `build`, `preview`, `verify`, `train`, `predict`, `evaluate`, `load_reward`.

`import_richhf`, `import_coco` and `import_masks` import labelled sets, and `Corruptor` is for single images.

Importing this package loads neither torch nor Ray; the functions import what they need when they are called.
"""

from actors.errors import FlawforgeError
from eval.predict.recipe import load_prediction
from factory.recipe.recipe import load_recipe
from flawforge.api import build, evaluate, preview, train, verify
from flawforge.imports import import_coco, import_masks, import_richhf
from flawforge.predicting import predict
from flawforge.reward import load_reward
from flawforge.single_image import Corruptor
from train.recipe import load_training

__all__ = [
    "Corruptor",
    "FlawforgeError",
    "build",
    "evaluate",
    "import_coco",
    "import_masks",
    "import_richhf",
    "load_prediction",
    "load_recipe",
    "load_reward",
    "load_training",
    "predict",
    "preview",
    "train",
    "verify",
]
