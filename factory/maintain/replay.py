"""Making samples again, from recipe, plan and key alone, and comparing them with what the output holds."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from actors.batch import Sample
from actors.errors import OutputError
from factory.maintain.inspect import index_row, sample_files
from factory.maintain.search import Place, find, place_at
from factory.output.identity import Identity
from factory.output.manifest import done_shards
from factory.output.plan import Plan, read_plan, shard_name
from factory.output.provenance import Part, part_at, parts_of
from factory.output.shards.images import check_size
from factory.output.shards.writer import sample_files as files_of
from factory.pipeline.crash_marks import killed_process
from factory.pipeline.shard_work import Work
from factory.pipeline.stages import corruptor, image_selector, load, provenance, region_selector
from factory.recipe.recipe import Recipe, differences, parse_recipe
from factory.sources import open_source
from factory.store.storage import Storage

REJECTED = "rejected"
ACCEPTED = "accepted"


@dataclass(frozen=True)
class Difference:
    """A file of a sample that is not as it was.

    Attributes:
        name: its extension.
        what: in words.
        largest, mean: absolute difference of images in grey levels, 0..255; None if pixels were not compared.
    """

    name: str
    what: str
    largest: int | None = None
    mean: float | None = None


@dataclass(frozen=True)
class Replay:
    """One item made again.

    Attributes:
        key, shard: which.
        there, here: what became of it, in the output and now: `accepted`, or stage and reason of the reject.
        compared: names of the files that were compared.
        differences: empty where all are the same bytes.
    """

    key: str
    shard: int
    there: str
    here: str
    compared: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def identical(self) -> bool:
        return self.there == self.here and not self.differences


@dataclass(frozen=True)
class Report:
    """What a replay found.

    Attributes:
        items: in the order of the keys.
        notes: what is not as it was when the samples were made: versions, weights, devices, the recipe.
    """

    items: tuple[Replay, ...]
    notes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        return all(item.identical for item in self.items)


def replay(
    storage: Storage,
    keys: Sequence[str],
    *,
    count: int = 0,
    seed: int = 0,
    overrides: Sequence[str] = (),
    neighbours: bool = False,
) -> Report:
    """Makes items again in this process, without Ray, and compares them byte for byte.

    The requested items are processed together, in batches padded to the recipe's shape. The result for an item does not
    depend on its neighbours, and a replay checks that, too.

    Args:
        storage: the output, whole or in part.
        keys: of items.
        count: number of further items, drawn from the plan.
        seed: of that draw.
        overrides: `a.b=c`, changes to the recipe, such as `execution.corrupt.gpus=0`.
        neighbours: whether each item is made among all the others of its shard, as it was made first. It takes as
            long as the shard took; where only that gives the same bytes, neighbours do matter.

    Raises:
        OutputError: an unknown key, an item that is not made yet, or a damaged output.
        ModelError: weights are missing, or the recipe requires a GPU and this machine has none.
        SourceError: the source is gone, or not as it was.
    """
    plan = read_plan(storage)
    places = [find(plan, key) for key in dict.fromkeys(keys)]
    requested = {place.reference.key for place in places}
    places += [place for place in drawn(plan, count, seed) if place.reference.key not in requested]
    done = done_shards(storage)
    for place in places:
        if place.shard not in done:
            raise OutputError(
                f"{storage.url}: {place.reference.key} is in shard {shard_name(place.shard)}, which is not made yet; "
                "finish the build first"
            )
    aside = [place for place in places if _ended_its_process(storage, place)]
    notes = [
        f"{place.reference.key} was set aside because it ended its process; it is not tried here"
        for place in aside
    ]
    places = [place for place in places if place not in aside]
    parts = parts_of(storage, plan)
    found: dict[str, Replay] = {}
    for part in parts:
        mine = [place for place in places if part_at(parts, place.shard) is part]
        if mine:
            maker = _Maker(part, overrides)
            notes += maker.notes if len(parts) == 1 else [f"{part.name}: {note}" for note in maker.notes]
            samples = maker.among_all(plan, mine) if neighbours else maker.alone(mine)
            for place, sample in zip(mine, samples, strict=True):
                found[sample.key] = maker.compare(storage, place, sample)
    return Report(tuple(found[place.reference.key] for place in places), tuple(notes))


def drawn(plan: Plan, count: int, seed: int) -> list[Place]:
    """`count` items of the plan by chance, each at most once, in the plan's order."""
    rows = random.Random(seed).sample(range(plan.items), min(count, plan.items))
    return [place_at(plan, row) for row in sorted(rows)]


def _ended_its_process(storage: Storage, place: Place) -> bool:
    return index_row(storage, place)["reason"] == killed_process(0, "").reason


class _Maker:
    """The stages of one recipe, loaded once.

    Attributes:
        notes: what differs from the identity that made the shards.
    """

    def __init__(self, part: Part, overrides: Sequence[str]) -> None:
        self.recipe: Recipe = parse_recipe(part.recipe, f"{part.url}/recipe.yaml", overrides)
        self.digest = part.identity.digest
        self.notes = differences(part.identity.document, Identity.of(self.recipe).document)
        self._source = open_source(self.recipe.source, self.recipe.seed)
        self._image = image_selector(self.recipe)
        self._work: list[Work] = [region_selector(self.recipe), corruptor(self.recipe)]

    def alone(self, places: Sequence[Place]) -> Iterator[Sample]:
        """The items by themselves, a batch of the recipe's size at a time."""
        size = self.recipe.corruption.batch_size
        for first in range(0, len(places), size):
            yield from self._made(places[first : first + size])

    def among_all(self, plan: Plan, places: Sequence[Place]) -> Iterator[Sample]:
        """The items, each shard of theirs made whole."""
        made: dict[int, list[Sample]] = {}
        for place in places:
            if place.shard not in made:
                made = {
                    place.shard: self._made(
                        [Place(place.shard, row, item) for row, item in enumerate(plan.shard(place.shard))]
                    )
                }
            yield made[place.shard][place.row]

    def _made(self, places: Sequence[Place]) -> list[Sample]:
        samples = load(self._source, [place.reference for place in places], self._image)
        for work in self._work:
            samples = work(samples)
        return samples

    def compare(self, storage: Storage, place: Place, sample: Sample) -> Replay:
        row = index_row(storage, place)
        there = ACCEPTED if row["status"] == ACCEPTED else f"{REJECTED}: {row['stage']} {row['reason']}"
        here = f"{REJECTED}: {sample.stage} {sample.reason}" if sample.rejected else ACCEPTED
        compared: tuple[str, ...] = ()
        differing: tuple[Difference, ...] = ()
        if there == here == ACCEPTED:
            old = sample_files(storage, place.shard, sample.key)
            how = provenance(self.recipe, self.digest)
            new = files_of(sample, how, original="original.png" in old)
            compared = tuple(new)
            differing = tuple(compare_files(old, new))
        return Replay(sample.key, place.shard, there, here, compared, differing)


def compare_files(there: Mapping[str, bytes], here: Mapping[str, bytes]) -> Iterator[Difference]:
    """The files of a sample that are not the same bytes, in the order of `here`."""
    for name in (*here, *sorted(there.keys() - here.keys())):
        if name not in there or name not in here:
            yield Difference(name, "not made now" if name in there else "not in the output")
        elif there[name] != here[name]:
            yield (
                _json_difference(there[name], here[name])
                if name == "json"
                else _image_difference(name, there[name], here[name])
            )


def _image_difference(name: str, there: bytes, here: bytes) -> Difference:
    try:
        size, now = check_size(there), check_size(here)
        if size != now:
            return Difference(name, f"{size[0]} x {size[1]} pixels, now {now[0]} x {now[1]}")
        old, new = _levels(there), _levels(here)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        return Difference(name, f"cannot be decoded: {error}")
    distance = np.abs(old - new)
    if not distance.any():
        return Difference(name, "the same pixels, encoded in other bytes", 0, 0.0)
    pixels = int((distance.reshape(*distance.shape[:2], -1) > 0).any(-1).sum())
    return Difference(name, f"{pixels:,} pixels differ", int(distance.max()), float(distance.mean()))


def _levels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """Grey levels 0..255, int16 [H, W, 3] of images and [H, W] of masks."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        levels = image.convert("L") if image.mode == "1" else image.convert("RGB")
        return np.asarray(levels).astype(np.int16)


def _json_difference(there: bytes, here: bytes) -> Difference:
    try:
        return Difference(
            "json", "; ".join(differences(json.loads(there), json.loads(here))) or "other spelling"
        )
    except (ValueError, AttributeError, RecursionError) as error:
        return Difference("json", f"cannot be read: {error}")
