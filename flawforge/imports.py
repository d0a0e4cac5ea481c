"""Importing human-labelled sets as shards: the Python API. The commands of `flawforge import` call these functions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import ValidationError

from actors.errors import ArgumentError

if TYPE_CHECKING:
    from eval.imports.job import Imported
    from factory.output.manifest import Progress

ImportMode = Literal["resume", "overwrite"]
Split = Literal["train", "dev", "test"]
Ambiguous = Literal["three", "fewest", "most", "reject"]
Unexplained = Literal["reject", "three"]
Votes = Literal["share", "two", "majority"]
Empty = Literal["keep", "reject"]
Tokens = Literal["reject", "ignore"]

PICK_A_PIC = "yuvalkirstain/pickapic_v1"
PER_SHARD = 128

log = logging.getLogger(__name__)


def import_richhf(
    out: str | PathLike[str],
    *,
    split: Split,
    records: str | PathLike[str],
    images: str | PathLike[str] | None = None,
    repository: str = PICK_A_PIC,
    size: int | None = None,
    soft: bool = False,
    ambiguous: Ambiguous = "three",
    unexplained: Unexplained = "reject",
    votes: Votes = "share",
    least_annotators: int = 3,
    empty: Empty = "keep",
    tokens: Tokens = "reject",
    samples_per_shard: int = PER_SHARD,
    mode: ImportMode = "resume",
    take_over: bool = False,
    show: Callable[[Progress], None] = lambda total: None,
    tell: Callable[[str], None] = log.warning,
) -> Imported:
    """Write a split of RichHF-18k as shards, or finish an import that was stopped.

    Args:
        out: the output, a folder or an fsspec URL.
        split: `train`, `dev` or `test`. The images of train and dev are in Pick-a-Pic's train, of test in its test.
        records: a folder with `SPLIT.tfrecord`, or the files, at any fsspec URL.
        images: a folder with Pick-a-Pic's `train-*.parquet` and `test-*.parquet`, or the files, at any fsspec URL.
            None reads them from the hub.
        repository: of Pick-a-Pic v1 on the hub, where `images` is None.
        size: side of the centred square that images and maps are cropped and resized to; None keeps their sizes.
        soft: also write `soft.png`, the share of annotators who marked each pixel.
        ambiguous: number of annotators of a map that fits several: `three` where it fits three, else the fewest above;
            the `fewest`; the `most`; or `reject` the image.
        unexplained: `reject` an image whose map fits no number of annotators, or assume `three`.
        votes: how many annotators must have marked a pixel: a `share` of two thirds, rounded up; `two`; or the
            `majority`. All are two of three.
        least_annotators: reject images with fewer, 1 to 6.
        empty: `keep` or `reject` images in which no pixel has enough votes.
        tokens: `reject` images whose prompt has another number of tokens than labels, or `ignore` their labels.
        samples_per_shard: planned items in a shard.
        mode: `resume` writes the shards that are missing; `overwrite` deletes the output first.
        take_over: even if another run seems to be active on the output.
        show: called with the counts at the start and after every shard.
        tell: called with messages, such as that the import waits for the lock.

    Returns:
        Counts of the output, and of what the policies decided.

    Raises:
        ArgumentError: an argument is not allowed.
        SourceError: a file is missing, damaged, or has changed since it was planned.
        OutputError: the output belongs to another import or build, or cannot be written.
    """
    if mode not in get_args(ImportMode):
        raise ArgumentError("mode", f"allowed: {', '.join(get_args(ImportMode))}")
    if samples_per_shard < 1:
        raise ArgumentError("samples_per_shard", "allowed: a whole number of at least 1")
    from eval.imports.job import import_set
    from eval.richhf.data_set import RichHF, RichHFSettings
    from eval.richhf.labels import LabelPolicy
    from eval.richhf.sample import SampleSettings

    try:
        policy = LabelPolicy(
            ambiguous=ambiguous,
            unexplained=unexplained,
            votes=votes,
            least_annotators=least_annotators,
            empty=empty,
        )
        settings = RichHFSettings(
            split=split,
            records=str(records),
            images=f"hf://datasets/{repository}/data" if images is None else str(images),
            sample=SampleSettings(size=size, soft=soft, tokens=tokens, labels=policy),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ArgumentError(str(first["loc"][-1]), first["msg"]) from None
    return import_set(
        RichHF(settings),
        str(out),
        per_shard=samples_per_shard,
        overwrite=mode == "overwrite",
        take_over=take_over,
        show=show,
        tell=tell,
    )
