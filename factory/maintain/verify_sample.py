"""Checks one sample: its files against the index, its images against its figures, its JSON against all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from actors.batch import JUDGED_AREA, METRICS
from actors.connected import connected
from factory.maintain.made_by import MadeBy
from factory.output.schema import SCHEMA_VERSION
from factory.output.shards.further import COUNTS, JUDGED
from factory.output.shards.images import decode
from factory.output.shards.records import MEMBERS, columns_of
from factory.output.shards.sample_json import SampleJson
from factory.recipe.errors import shown

IMAGES = MEMBERS[:-1]
_MODES = {name: "RGB" if name in ("image.png", "original.png") else "1" for name in IMAGES}
_OF_THE_ROW = ("source", "caption", "seed", "attempts", "inversion_steps", "verified", *METRICS)
"""Fields of the JSON that the index has, too."""


def check_sample(
    key: str, row: Mapping[str, object], files: Mapping[str, bytes], made_by: MadeBy
) -> Iterator[str]:
    """What is wrong with one sample.

    Args:
        row: of the index, sound in itself (see `factory.maintain.verify_index`).
        files: content by extension, in the order of the tar.
        made_by: what made its shard.
    """
    missing = [name for name in made_by.members if name not in files]
    unknown = sorted(files.keys() - set(made_by.members))
    if missing:
        yield f"missing {', '.join(missing)}"
    if unknown:
        yield f"unknown members {', '.join(unknown)}"
    if not missing and not unknown and tuple(files) != made_by.members:
        yield f"its files are in the order {', '.join(files)}; written are {', '.join(made_by.members)}"
    for name in made_by.members:
        if name in files:
            yield from _check_bytes(name, row, files[name])
    masks: dict[str, NDArray[np.bool_]] = {}
    for name in IMAGES:
        if name not in files or name not in made_by.members:
            continue
        try:
            image = decode(files[name], made_by.size, _MODES[name])
        except ValueError as error:
            yield f"{name} {error}"
            continue
        if image.mode == "1":
            masks[name] = np.asarray(image)
    if len(masks) == 2 + made_by.further.judge:
        yield from _check_masks(masks["mask.png"], masks["changed.png"], row, made_by)
        if made_by.further.judge:
            yield from _check_judged(masks[JUDGED], masks["changed.png"], row)
    if "json" in files:
        yield from _check_json(key, row, files["json"], made_by)


def _check_bytes(name: str, row: Mapping[str, object], data: bytes) -> Iterator[str]:
    size, sha256 = (row.get(column) for column in columns_of(name))
    if len(data) != size:
        yield f"{name} is not that of the index: {len(data)} bytes, the index says {size}"
    elif hashlib.sha256(data).hexdigest() != sha256:
        yield f"{name} is not that of the index (sha256 differs)"


def _check_masks(
    mask: NDArray[np.bool_], changed: NDArray[np.bool_], row: Mapping[str, object], made_by: MadeBy
) -> Iterator[str]:
    inside = np.count_nonzero(mask)
    if made_by.clean and inside:
        yield f"mask.png has {inside:,} pixels inside; the recipe chooses no region, so that it is empty"
        return
    if not inside and not made_by.clean:
        yield "mask.png is empty"
        return
    changed_area = np.count_nonzero(changed) / mask.size
    shares: dict[str, float] = {"mask_area": inside / mask.size, "changed_area": changed_area}
    if inside:
        shares["change_inside"] = np.count_nonzero(changed & mask) / inside
    else:
        shares |= {"change_inside": 0.0, "change_outside": changed_area, "difference_inside": 0.0}
    counts = {"regions": connected(mask)[1]} if "regions" in made_by.further.counts else {}
    for name, figure in {**shares, **counts}.items():
        if row.get(name) != figure:
            yield f"the pixels give a {name} of {figure}, the index says {row.get(name)}"
    if inside and not made_by.smallest_area <= shares["mask_area"] <= made_by.largest_area:
        yield (
            f"mask.png covers {shares['mask_area']:.2%}; the recipe allows {made_by.smallest_area:.2%} to "
            f"{made_by.largest_area:.2%}"
        )


def _check_judged(
    judged: NDArray[np.bool_], changed: NDArray[np.bool_], row: Mapping[str, object]
) -> Iterator[str]:
    area = np.count_nonzero(judged) / judged.size
    if row.get(JUDGED_AREA) != area:
        yield f"the pixels give a {JUDGED_AREA} of {area}, the index says {row.get(JUDGED_AREA)}"
    if beyond := np.count_nonzero(judged & ~changed):
        yield f"{JUDGED} has {beyond:,} pixels that did not change"
    if bool(row.get("broken_regions")) != bool(area):
        pixels, broken = np.count_nonzero(judged), row.get("broken_regions")
        yield f"{JUDGED} has {pixels:,} pixels, and there are {broken} broken regions"


def _check_json(key: str, row: Mapping[str, object], data: bytes, made_by: MadeBy) -> Iterator[str]:
    try:
        about = SampleJson.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        yield f"json is not that of a sample: {where + ': ' if where else ''}{first['msg']}"
        return
    if about.schema_version != SCHEMA_VERSION:
        yield f"json has the schema version {about.schema_version}, the shard {SCHEMA_VERSION}"
    if about.key != key:
        yield f"json says its key is {shown(about.key)}"
    if about.recipe_digest != made_by.digest:
        yield "json says that another recipe made it (recipe_digest differs)"
    for name in ("method", "inference_steps"):
        if getattr(about, name) != getattr(made_by, name):
            yield f"json has the {name} {shown(getattr(about, name))}, the recipe {getattr(made_by, name)}"
    for name in (*_OF_THE_ROW, JUDGED_AREA, *COUNTS):
        if getattr(about, name) != row.get(name):
            yield f"json has the {name} {shown(getattr(about, name))}, the index {shown(row.get(name))}"
    if data != about.encoded:
        yield "json is not in the form in which it is written: a repeated key, another type, order or spacing"
