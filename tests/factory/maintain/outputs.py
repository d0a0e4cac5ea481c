"""Small outputs: made by hand in milliseconds, or by the real stages in this process, without Ray."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from actors.batch import METRICS, Sample
from actors.connected import connected
from actors.errors import Reject
from actors.images import encode_image, encode_mask, read_mask
from factory.output.identity import Identity, claim
from factory.output.plan import draw_plan, read_plan
from factory.output.rebuild import write_documents
from factory.output.reference import Reference
from factory.output.schema import ShardOfSamples
from factory.output.shards.writer import write_shard
from factory.pipeline.stages import corruptor, image_selector, load, provenance, region_selector
from factory.recipe.recipe import Recipe, content, dump, parse_recipe
from factory.sources import open_source
from factory.store.storage import Storage

RECIPE = """
name: NAME
source: {kind: tinytown, limit: 8, size: 64, first_seed: 500}
regions: {kind: source}
corruption:
  inversion_steps: 12
  inversion: {mode: renoise, iterations: 1, averaging: false, regularisation: false}
  batch_size: 3
verify: {attempts: 2, changed_threshold: 0.08}
output: {samples_per_shard: 4}
"""

CLEAN = (
    "regions={kind: none}",
    "corruption.method=none",
    "corruption.inference_steps=8",
    "corruption.inversion_steps=2",
    "verify={baseline: original, least_inside: 0, most_outside: 0, changed_threshold: 0.12}",
    "source={kind: tinytown, size: 64, parts: [], first_seed: 907000, limit: 6}",
    "output.samples_per_shard=3",
)
"""Changes to a small recipe that make clean negatives, of which the autoencoder breaks some."""

VERSIONS = {"flawforge": "0", "torch": "2", "diffusers": "0.36", "numpy": "2"}
"""In the order of a build, which is not that of the alphabet."""


def recipe(name: str = "small", *changes: str) -> Recipe:
    return parse_recipe(RECIPE.replace("NAME", name), "small.yaml", changes)


def measured(mask: bytes) -> dict[str, float]:
    """The figures of a sample in which exactly the mask changed."""
    area = float(read_mask(mask).mean())
    exact = {"mask_area": area, "changed_area": area, "change_inside": 1.0, "change_outside": 0.0}
    return {**dict.fromkeys(METRICS, 0.25), **exact}


JUDGE = "verify.judge={kind: detector, folder: nowhere, threshold: 0.5}"
"""A change to a small recipe. Whoever makes samples by hand needs no such folder."""


def sample(key: str, source: str, *, rejected: str = "", side: int = 16, judged: bool = False) -> Sample:
    """A sample out of nothing; its images follow from its key.

    Args:
        judged: whether a judge found the first of its connected regions broken.
    """
    rng = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))
    image = encode_image(rng.integers(0, 255, (side, side, 3), dtype=np.uint8))
    mask = encode_mask(rng.random((side, side)) < 0.3)
    one = Sample(key, source, "a caption", image=image, mask=mask, corrupted=image, changed=mask)
    one.seed, one.attempts, one.inversion_steps, one.unet_rows, one.verified = len(key), 1, 12, 30, True
    one.metrics = measured(mask)
    if judged:
        number, one.regions = connected(read_mask(mask))
        one.judged, one.broken_regions = encode_mask(number == 1), 1
        one.metrics["judged_area"] = float((number == 1).mean())
    if rejected:
        one.reject("verify", Reject(rejected, f"{rejected} it was"))
    return one


def by_hand(
    folder: Path,
    shards: Sequence[Sequence[Sample]],
    *,
    name: str = "small",
    skipped: dict[str, int] | None = None,
    members: dict[str, str] | None = None,
    identity: Identity | None = None,
    original: bool = True,
    changes: Sequence[str] = (),
) -> Storage:
    """A complete output of given samples. All shards but the last one must be of one size.

    Args:
        identity: with other models, versions and devices; the content is that of the recipe.
        changes: to the recipe.
        members: of the plan, by key.
    """
    assert shards[0][0].image is not None
    side = max(16, Image.open(io.BytesIO(shards[0][0].image)).width)
    made_by = recipe(name, f"output.original={str(original).lower()}", f"source.size={side}", *changes)
    identity = identity or Identity({}, {"corruption": "none@0"}, VERSIONS, {})
    identity = replace(identity, content=content(made_by))
    storage = Storage(str(folder))
    references = [
        Reference(one.key, one.source, (members or {}).get(one.key, ""), one.caption, "")
        for shard in shards
        for one in shard
    ]
    begin(storage, made_by, identity, references, len(shards[0]), skipped or {})
    how = provenance(made_by, identity.digest)
    for number, samples in enumerate(shards):
        write_shard(storage, ShardOfSamples(number, list(samples), {"load": 0.5}), how, original=original)
    write_documents(storage)
    return storage


def by_the_stages(folder: Path, made_by: Recipe) -> Storage:
    """A complete output of the real stages, as `factory.build` makes it with Ray."""
    identity = Identity.of(made_by)
    storage = Storage(str(folder))
    source = open_source(made_by.source, made_by.seed)
    begin(storage, made_by, identity, list(source.list()), made_by.output.samples_per_shard, source.skipped)
    regions, corrupt = region_selector(made_by), corruptor(made_by)
    plan = read_plan(storage)
    for number in range(plan.shards):
        samples = corrupt(regions(load(source, plan.shard(number), image_selector(made_by))))
        shard = ShardOfSamples(number, samples, {"load": 0.5})
        write_shard(storage, shard, provenance(made_by, identity.digest), original=made_by.output.original)
    write_documents(storage)
    return storage


def begin(
    storage: Storage,
    made_by: Recipe,
    identity: Identity,
    references: Sequence[Reference],
    per_shard: int,
    skipped: dict[str, int],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plan.parquet")
        draw_plan(references, per_shard, skipped, path)
        storage.settle("plan.parquet", path)
        claim(storage, identity, hashlib.sha256(path.read_bytes()).hexdigest())
    storage.replace("recipe.yaml", dump(made_by).encode())
