"""A process of its own that builds from mutated inputs: `python -m tests.mutations.build PLACE`.

The address space is bounded once everything is loaded, so that a bomb ends the process instead of the machine.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from actors.batch import Sample
from actors.errors import SourceError
from factory.output.identity import Identity
from factory.output.plan import read_plan
from factory.output.rebuild import write_documents
from factory.output.schema import ShardOfSamples, from_table, to_table
from factory.output.shards.writer import write_shard
from factory.pipeline.stages import image_selector, load, provenance, region_selector
from factory.recipe.recipe import Recipe, parse_recipe
from factory.sources import open_source
from factory.store.storage import Storage
from tests.factory.maintain.outputs import begin, measured
from tests.peak_memory import peak_mib

MORE = 2 << 30
"""Bytes of address space that the work may take beyond what is loaded; 64 million pixels take a quarter of it."""

RECIPE = """
name: mutated
source:
  kind: KIND
  urls: URLS
  size: 64
  fields: {mask: mask.png, caption: CAPTION}
selection: {smallest_side: 48}
regions: {kind: source, smallest_area: 0.002}
corruption: {method: blur, target: image, batch_size: 8}
verify: {least_inside: 0, most_outside: 1}
output: {samples_per_shard: 64}
execution:
  load: {cpus: 0.25}
  select: {cpus: 0.25}
  corrupt: {cpus: 0.5}
  write: {cpus: 0.25}
"""
FOLDER, TARS = "folder", "tars"


def recipe_text(kind: str, *urls: str) -> str:
    caption = "txt" if kind == FOLDER else "json:prompt"
    source = "images" if kind == FOLDER else "webdataset"
    return RECIPE.replace("KIND", source).replace("URLS", json.dumps(urls)).replace("CAPTION", caption)


def recipe_of(kind: str, *urls: str) -> Recipe:
    return parse_recipe(recipe_text(kind, *urls), "mutated.yaml", ())


def list_alone(tars: Path) -> Mapping[str, Mapping[str, object]]:
    """By a tar's name, what a listing of this tar alone gave: its refusal, or its items and what it passed over."""
    found: dict[str, Mapping[str, object]] = {}
    for tar in sorted(tars.iterdir()):
        source = open_source(recipe_of(TARS, str(tar)).source, 0)
        try:
            items = len(list(source.list()))
        except SourceError as error:
            found[tar.name] = {"refused": str(error)}
        else:
            found[tar.name] = {"items": items, "skipped": dict(source.skipped)}
    return found


def build(folder: Path, recipe: Recipe) -> None:
    """The stages one after another, without Ray; what a model would corrupt is passed on as it is."""
    storage, identity = Storage(str(folder)), Identity.of(recipe)
    source, regions = open_source(recipe.source, recipe.seed), region_selector(recipe)
    begin(storage, recipe, identity, list(source.list()), recipe.output.samples_per_shard, source.skipped)
    plan = read_plan(storage)
    for number in range(plan.shards):
        loaded = load(source, plan.shard(number), image_selector(recipe))
        for sample in regions(loaded):
            _pass_on(sample)
        shard = from_table(to_table(ShardOfSamples(number, loaded, {"load": 0.5})))
        write_shard(storage, shard, provenance(recipe, identity.digest), original=True)
    write_documents(storage)


def _pass_on(sample: Sample) -> None:
    if not sample.rejected:
        assert sample.mask is not None
        sample.corrupted, sample.changed, sample.verified = sample.image, sample.mask, True
        sample.metrics = measured(sample.mask)


def main(place: Path) -> None:
    Image.init()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    alone = list_alone(place / "sources" / TARS)
    sound = [str(place / "sources" / TARS / name) for name, told in alone.items() if "refused" not in told]
    build(place / "out" / FOLDER, recipe_of(FOLDER, str(place / "sources" / FOLDER)))
    build(place / "out" / TARS, recipe_of(TARS, *sound))
    (place / "report.json").write_text(json.dumps({"alone": alone, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
