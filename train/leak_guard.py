"""Before a training: samples of its data that a test set also has are found, and refused or left out."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from actors.errors import TrainingError
from actors.redaction import redact
from eval.leaks import TEST_CROPS, Looks, find_leaks
from factory.store.storage import Storage
from train.data.bounded_cache import BoundedCache
from train.data.catalogue import DataSet, open_data_set
from train.data.looks import image_of, looks_of, places_of
from train.data.reading import Reader
from train.places import place_of
from train.recipe import KeepApart, TrainingRecipe

log = logging.getLogger(__name__)

_EXAMPLES = 5
"""Samples that a message names."""

_IMAGES_HELD = 64


@dataclass(frozen=True)
class Leak:
    """A sample that a test set also has.

    Attributes:
        shard, row: of the sample in its data set.
        how: `same bytes`, `same image` or `same caption`.
        test: name of the test set.
        test_shard, test_row: of the sample there.
    """

    shard: int
    row: int
    how: str
    test: str
    test_shard: int
    test_row: int


def keep_apart(
    recipe: TrainingRecipe,
    data: Sequence[DataSet],
    validation: DataSet | None,
    *,
    cache: Storage | None = None,
    tell: Callable[[str], None] = log.warning,
) -> list[DataSet]:
    """The data sets, without the samples that a test set also has where the recipe drops them.

    Args:
        recipe: its `keep_apart` names the test sets, and states what is to be done.
        data: the recipe's data sets, in its order.
        validation: the data set of its validation, if it has one.
        cache: the output, where hashes are kept.
        tell: called with the number of samples that are dropped.

    Raises:
        TrainingError: there are such samples, and the recipe refuses them; or nothing is left of a data set.
        SourceError: a test set cannot be read.
    """
    rules = recipe.keep_apart
    tests = [] if rules.shared == "allow" else _test_sets(rules, validation, cache)
    if not tests:
        return list(data)
    compared = [(test, looks_of(test, cache, TEST_CROPS)) for test in tests]
    kept = []
    for one in data:
        found = leaks_of(one, compared, captions=rules.captions, cache=cache)
        if found and rules.shared == "refuse":
            raise TrainingError(
                f"{_described(one, tests, found, cache)}. Take them out of the data; or let the training leave them "
                "out with keep_apart.shared: drop, or keep them with keep_apart.shared: allow"
            )
        rows: dict[int, list[int]] = defaultdict(list)
        for leak in found:
            rows[leak.shard].append(leak.row)
        kept.append(one.without({shard: tuple(sorted(some)) for shard, some in sorted(rows.items())}))
        if found:
            tell(f"{_described(one, tests, found, cache)}; they are left out")
        if not kept[-1].samples:
            raise TrainingError(
                f"nothing is left of the data set {one.name}: all of it is in a test set, too"
            )
    return kept


def leaks_of(
    data_set: DataSet,
    tests: Sequence[tuple[DataSet, Looks]],
    *,
    captions: bool = True,
    cache: Storage | None = None,
) -> list[Leak]:
    """The samples of a data set that a test set also has, each once, in their order.

    Args:
        data_set: of which nothing is left out.
        tests: test sets with their hashes, `looks_of(test, cache, TEST_CROPS)`.
        captions: also compare captions.
        cache: where hashes are kept.

    Raises:
        TrainingError, SourceError: see `train.data.looks.looks_of`.
    """
    looks, places = looks_of(data_set, cache), places_of(data_set)
    read = _images(data_set, cache)
    found: dict[int, Leak] = {}
    for test, test_looks in tests:
        there = places_of(test)
        leaks = find_leaks(looks, test_looks, read, _images(test, cache), captions=captions)
        for number, how in leaks.how.items():
            shard, row = (int(one) for one in places[number])
            test_shard, test_row = (int(one) for one in there[leaks.of[number]])
            found.setdefault(number, Leak(shard, row, how, test.name, test_shard, test_row))
    return [found[number] for number in sorted(found)]


@dataclass(frozen=True)
class NamedLeak:
    """A sample that a test set also has, by tar and key, without secrets; see `Leak`."""

    sample: str
    how: str
    test: str


def find(url: str, tests: Sequence[str], *, captions: bool = True) -> tuple[int, list[NamedLeak]]:
    """The number of samples at a URL, and those of them that a test set also has. Nothing is kept.

    Args:
        url: an output, tars, or the name of a shipped split that may be trained on.
        tests: the same, of the test sets.
        captions: also compare captions.

    Raises:
        TrainingError, SourceError: something cannot be read.
    """
    data = open_data_set(redact(url), place_of(url), label="none", cache=None)
    sets = [open_data_set(redact(test), place_of(test), label="none", cache=None) for test in tests]
    compared = [(test, looks_of(test, None, TEST_CROPS)) for test in sets]
    return data.samples, _named(data, sets, leaks_of(data, compared, captions=captions), None)


def _test_sets(rules: KeepApart, validation: DataSet | None, cache: Storage | None) -> list[DataSet]:
    tests = [] if validation is None else [validation]
    for url in rules.tests:
        tests.append(open_data_set(redact(url), place_of(url), label="none", cache=cache))
    return tests


def _images(data_set: DataSet, cache: Storage | None) -> Callable[[int], Image.Image]:
    """The images of a data set by place, the latest of them held."""
    reader, places = Reader(data_set, cache=cache), places_of(data_set)
    held = BoundedCache[int, Image.Image](
        lambda number: image_of(reader, *(int(one) for one in places[number])), _IMAGES_HELD
    )
    return held.get


def _described(
    data_set: DataSet, tests: Sequence[DataSet], found: Sequence[Leak], cache: Storage | None
) -> str:
    counts = Counter((leak.how, leak.test) for leak in found)
    parts = ", ".join(f"{count:,} with the {how} in {test}" for (how, test), count in counts.most_common())
    examples = [
        f"{one.sample} ({one.how} as {one.test})" for one in _named(data_set, tests, found[:_EXAMPLES], cache)
    ]
    more = f" and {len(found) - len(examples):,} more" if len(found) > len(examples) else ""
    return (
        f"{len(found):,} of the {data_set.samples:,} samples of the data set {data_set.name} are in a test set, too "
        f"({parts}): {', '.join(examples)}{more}"
    )


def _named(
    data_set: DataSet, tests: Sequence[DataSet], found: Sequence[Leak], cache: Storage | None
) -> list[NamedLeak]:
    reader = Reader(data_set, cache=cache)
    readers = {test.name: Reader(test, cache=cache) for test in tests}
    return [
        NamedLeak(
            reader.read(leak.shard, leak.row).where,
            leak.how,
            readers[leak.test].read(leak.test_shard, leak.test_row).where,
        )
        for leak in found
    ]
