"""The shipped recipe of the paper on tars with the layout of `synthetic-dataset-1m-dalle3-high-quality-captions`."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.errors import Reject
from factory.recipe.recipe import load_recipe
from factory.sources import open_source


def sample(number: int, source: str, captions2: object) -> dict[str, object]:
    """The JSON of a sample, by the data set's card."""
    return {
        "image_name": f"{number}.jpg",
        "md5_pil_hash": "0" * 32,
        "md5_file_hash": "0" * 32,
        "sha512_hash": "0" * 128,
        "short_caption": f"short {number}",
        "long_caption": f"long {number}",
        "resolution": "1024x1024",
        "url": "",
        "source": source,
        "original_prompt": "",
        "short_caption2": captions2,
        "long_caption2": captions2,
        "width": 1024,
        "height": 1024,
    }


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    """Four samples, one of Midjourney; captions of the second kind are strings, or lists as an older card has them."""
    path = tmp_path / "data-000000.tar"
    documents = [
        ("jpg", sample(0, "dalle_3_images", "second 0")),
        ("png", sample(1, "reddit_rmidjourney", "second 1")),
        ("jpeg", sample(2, "bing_image_creator", ["second", "2"])),
        ("jpg", sample(3, "dalle_3_images", [])),
    ]
    with tarfile.open(path, "w") as archive:
        for number, (extension, document) in enumerate(documents):
            pixels = io.BytesIO()
            image = Image.fromarray(np.full((8, 8, 3), 60 * number, np.uint8))
            image.save(pixels, "PNG" if extension == "png" else "JPEG")
            for name, data in ((extension, pixels.getvalue()), ("json", json.dumps(document).encode())):
                entry = tarfile.TarInfo(f"{number:06d}.{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("field", "captions"),
    [
        ("short_caption", ["short 0", "short 2", "short 3"]),
        ("long_caption", ["long 0", "long 2", "long 3"]),
        ("short_caption2", ["second 0", "second 2", ""]),
    ],
)
def test_samples_of_dalle_3_with_their_captions(tar: Path, field: str, captions: list[str]):
    recipe = load_recipe("sd15", [f"source.urls=[{tar}]", f"source.fields.caption=json:{field}"])
    source = open_source(recipe.source, recipe.seed)
    raws = [raw for _, raw in source.read(list(source.list()))]
    assert not any(isinstance(raw, Reject) for raw in raws)
    assert [raw.caption for raw in raws if not isinstance(raw, Reject)] == captions
    assert source.skipped == {"filtered": 1}
