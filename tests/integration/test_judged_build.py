"""Builds with a judge on Ray: a shard that is made again, and rejects that are tried without the judge."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from factory.build import build
from factory.maintain.retry_rejects import retry_rejects
from factory.maintain.verify import verify
from factory.maintain.verify_index import read_index
from factory.output.identity import read_identity
from factory.recipe.recipe import Recipe, parse_recipe
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_the_stages
from tests.integration.conftest import WITHOUT_UNET, content_of
from tests.upernet import save_upernet
from train.data.catalogue import open_data_set
from train.data.reading import Reader
from train.data.samples import decode

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every pixel has the probability 0.75; its own threshold is above that, so that all is legal."""
    folder = save_upernet(tmp_path_factory.mktemp("model") / "net", bias=1.0986123)
    (folder / "metrics.json").write_text(json.dumps({"threshold": 0.8}))
    return folder


def judged(detector: Path, *changes: str) -> Recipe:
    judge = f"verify.judge={{kind: detector, folder: '{detector}', least_pixels: 3}}"
    text = WITHOUT_UNET.replace("{kind: source}", "{kind: source, share: 0.5}")
    return parse_recipe(text, "judged.yaml", ["source.limit=4", judge, *changes])


def test_a_shard_that_is_made_again_is_the_same(detector: Path, tmp_path: Path):
    out, recipe = tmp_path / "out", judged(detector, "verify.on_failure=keep")
    by_the_stages(out, recipe)
    before = content_of(out)
    for path in ("stats/000001.json", "index/000001.parquet"):
        (out / path).unlink()
    build(recipe, str(out))
    assert content_of(out) == before
    verdict = verify(Storage(str(out)))
    assert verdict.sound and (verdict.accepted, verdict.shards) == (4, 2), verdict.problems
    assert read_identity(Storage(str(out)))[0].models["judge"].startswith("net@")
    data_set = open_data_set("x", str(out), label="judged", cache=None)
    reader = Reader(data_set)
    assert not any(
        decode(reader.read(shard, row), "judged").label.any() for shard in (0, 1) for row in (0, 1)
    )


def test_what_a_judge_rejected_is_tried_without_it(detector: Path, tmp_path: Path):
    out = tmp_path / "out"
    by_the_stages(out, judged(detector))
    rejected = [row for number in (0, 1) for row in read_index(Storage(str(out)), number)]
    assert [row["reason"] for row in rejected] == ["legal"] * 4 and not list(out.glob("shards/*.tar"))
    found = retry_rejects(str(out), reasons=["legal"], overrides=["verify.judge=null"])
    assert (found.items, found.accepted) == (4, 4)
    verdict = verify(Storage(str(out)))
    assert verdict.sound and verdict.accepted == 4, verdict.problems
    columns = {path.stem: pq.read_schema(path).names for path in out.glob("index/*.parquet")}
    assert ["judged_area" in columns[f"{n:06d}"] for n in range(4)] == [True, True, False, False]
