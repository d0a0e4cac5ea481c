"""What a worker checks when it starts."""

from __future__ import annotations

import pytest

from actors.errors import ModelError
from factory.pipeline.stages import corruptor
from factory.recipe.recipe import parse_recipe

RECIPE = """
name: odd
source: {kind: tinytown, limit: 2, size: 72}
regions: {kind: source}
"""


def test_an_impossible_size_is_told():
    with pytest.raises(
        ModelError, match=r"source\.size is 72; tinytown takes sides that are a multiple of 16"
    ):
        corruptor(parse_recipe(RECIPE, "odd.yaml"))
