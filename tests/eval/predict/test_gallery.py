"""The gallery of a prediction: the highest scores first, maps over the images, rejected images last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eval.predict.gallery import write_prediction_gallery
from eval.predict.job import predict
from factory.store.storage import Storage
from tests.eval.predict.outputs import mixed_images, recipe, without_ray
from tests.eval.predict.test_job import rows

__all__ = ["without_ray"]
pytestmark = pytest.mark.usefixtures("without_ray")


def keys(page: str) -> list[str]:
    return re.findall(r'data-key="([^"]+)"', page)


@pytest.mark.parametrize("image", ["keep", "leave_out"])
def test_the_page(tmp_path: Path, image: str) -> None:
    mixed_images(tmp_path / "images")
    out = tmp_path / "out"
    predict(recipe(tmp_path / "images", f"output.image={image}"), str(out))
    storage = Storage(str(out))
    assert write_prediction_gallery(storage) == 8
    page = (out / "gallery.html").read_text()
    index = rows(out).values()
    falling = sorted((row for row in index if row["reason"] == ""), key=lambda row: -float(str(row["score"])))
    assert keys(page)[:6] == [row["key"] for row in falling]
    assert set(keys(page)[6:]) == {row["key"] for row in index if row["reason"]}
    shown = re.findall(r"<figcaption>(\w+)</figcaption>", page)
    assert shown.count("image") == 6 and shown.count("scores") == (6 if image == "keep" else 0)
    assert "4100 x 8 pixels" in page
    assert "threshold 0.3" in page and ("maps are shown over grey" in page) == (image == "leave_out")
    assert write_prediction_gallery(storage, tiles=4) == 4
    few = keys((out / "gallery.html").read_text())
    assert few[:2] == [row["key"] for row in falling[:2]]
