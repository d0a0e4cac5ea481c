"""Importing human-labelled sets as shards: the Python API. The commands of `flawforge import` call these functions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import ValidationError

from actors.errors import ArgumentError, OutputError

if TYPE_CHECKING:
    from eval.imports.job import Imported
    from eval.imports.labelled_set import LabelledSet
    from factory.output.manifest import Progress
    from factory.store.storage import Storage

ImportMode = Literal["resume", "overwrite"]
Split = Literal["train", "dev", "test"]
Ambiguous = Literal["three", "fewest", "most", "reject"]
Unexplained = Literal["reject", "three"]
Votes = Literal["share", "two", "majority"]
Empty = Literal["keep", "reject"]
Tokens = Literal["reject", "ignore"]
Missing = Literal["reject", "clean"]
Alpha = Literal["refuse", "opaque", "transparent", "ignore"]
Orientation = Literal["stored", "displayed"]
Names = Literal["path", "tail"]
Crowd = Literal["ignore", "inside", "outside"]
Boxes = Literal["reject", "inside"]

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
    from eval.richhf.data_set import RichHF, RichHFSettings
    from eval.richhf.labels import LabelPolicy
    from eval.richhf.sample import SampleSettings

    with _arguments():
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
    return _import(RichHF(settings), out, samples_per_shard, mode, take_over, show, tell)


def import_masks(
    out: str | PathLike[str],
    *,
    images: str | PathLike[str],
    masks: str | PathLike[str] | None = None,
    pattern: str = "{stem}",
    missing: Missing = "reject",
    ignore_index: int | None = None,
    alpha: Alpha = "refuse",
    mask_orientation: Orientation | None = None,
    size: int | None = None,
    samples_per_shard: int = PER_SHARD,
    mode: ImportMode = "resume",
    take_over: bool = False,
    show: Callable[[Progress], None] = lambda total: None,
    tell: Callable[[str], None] = log.warning,
) -> Imported:
    """Write a folder of images and their masks as shards, or finish an import that was stopped.

    Args:
        out: the output, a folder or an fsspec URL.
        images: a folder with images, and folders below it.
        masks: a folder with masks under the same paths, whatever their extension. None if they are among the images.
        pattern: name of a mask without its extension; `{stem}` is the name of its image, as in `{stem}_mask`.
        missing: an image without a mask is to `reject`, or is `clean`.
        ignore_index: a level of masks that is neither inside nor outside, such as 255.
        alpha: where masks with transparency are true: where they are `opaque` or `transparent`; `ignore` reads the
            colours alone; `refuse` rejects the image.
        mask_orientation: whether masks fit their images as `stored` or as `displayed`, where an image has an EXIF
            orientation.
        size: side of the centred square that images and masks are cropped and resized to; None keeps their sizes.
        samples_per_shard, mode, take_over, show, tell: see `import_richhf`.

    Returns:
        Counts of the output, and of samples with and without a mask.

    Raises:
        ArgumentError, SourceError, OutputError: see `import_richhf`.
    """
    from eval.mask_folders.data_set import MaskFolder, MaskFolderSettings
    from factory.recipe.source import Masks

    with _arguments(orientation="mask_orientation"):
        settings = MaskFolderSettings(
            images=str(images),
            masks=None if masks is None else str(masks),
            pattern=pattern,
            missing=missing,
            reading=Masks(ignore_index=ignore_index, alpha=alpha, orientation=mask_orientation),
            size=size,
        )
    return _import(MaskFolder(settings), out, samples_per_shard, mode, take_over, show, tell)


def import_coco(
    out: str | PathLike[str],
    *,
    annotations: str | PathLike[str],
    images: str | PathLike[str],
    names: Names = "path",
    categories: Sequence[str] = (),
    crowd: Crowd | None = None,
    boxes: Boxes = "reject",
    orientation: Orientation | None = None,
    size: int | None = None,
    samples_per_shard: int = PER_SHARD,
    mode: ImportMode = "resume",
    take_over: bool = False,
    show: Callable[[Progress], None] = lambda total: None,
    tell: Callable[[str], None] = log.warning,
) -> Imported:
    """Write the images of a COCO file as shards, or finish an import that was stopped.

    The regions of an image are united; an image without any is a clean sample.

    Args:
        out: the output, a folder or an fsspec URL.
        annotations: the JSON file, of COCO or SynthScars; at most 1 GiB, which stay in memory.
        images: the folder to which the names of images are relative.
        names: `path` takes names as paths below the folder; `tail` takes the file that has most of their last parts.
        categories: names of categories whose annotations are taken; empty takes all.
        crowd: pixels of annotations with `iscrowd` are to `ignore`, `inside`, or `outside`. None ignores them, and
            refuses a file with nothing else.
        boxes: an annotation with a box alone is to `reject` its image, or the box is `inside`.
        orientation: whether annotations fit images as `stored` or as `displayed`, where an image has an EXIF
            orientation and sizes do not tell.
        size: side of the centred square that images and masks are cropped and resized to; None keeps their sizes.
        samples_per_shard, mode, take_over, show, tell: see `import_richhf`.

    Returns:
        Counts of the output, of samples with and without a mask, and of regions.

    Raises:
        ArgumentError, SourceError, OutputError: see `import_richhf`.
    """
    from eval.coco.data_set import Coco, CocoSettings

    with _arguments():
        settings = CocoSettings(
            annotations=str(annotations),
            images=str(images),
            names=names,
            categories=tuple(categories),
            crowd=crowd,
            boxes=boxes,
            orientation=orientation,
            size=size,
        )
    return _import(Coco(settings), out, samples_per_shard, mode, take_over, show, tell)


def imported_set(storage: Storage) -> LabelledSet:
    """The set that an output was imported from, with its settings; nothing of it is opened.

    Raises:
        OutputError: the identity of the output is damaged, or of a set that this version does not know.
    """
    from factory.output.identity import read_identity

    document = read_identity(storage)[0].content.get("import")
    settings = dict(document) if isinstance(document, Mapping) else {}
    kind = settings.pop("kind", None)
    try:
        if kind == "richhf":
            from eval.richhf.data_set import RichHF, RichHFSettings

            return RichHF(RichHFSettings.model_validate(settings))
        if kind == "masks":
            from eval.mask_folders.data_set import MaskFolder, MaskFolderSettings

            return MaskFolder(MaskFolderSettings.model_validate(settings))
        if kind == "coco":
            from eval.coco.data_set import Coco, CocoSettings

            return Coco(CocoSettings.model_validate(settings))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("content", "import", *first["loc"])))
        raise OutputError(
            f"{storage.url}: identity.json is damaged, or of another version: {where}: {first['msg']}"
        ) from None
    raise OutputError(
        f"{storage.url}: identity.json names no set that this version imports: {str(kind)[:60]}"
    )


@contextmanager
def _arguments(**names: str) -> Iterator[None]:
    """Reports the first wrong setting as an ArgumentError, by the name of the argument where that differs."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        raise ArgumentError(names.get(name, name), first["msg"]) from None


def _import(
    labelled: LabelledSet,
    out: str | PathLike[str],
    samples_per_shard: int,
    mode: ImportMode,
    take_over: bool,
    show: Callable[[Progress], None],
    tell: Callable[[str], None],
) -> Imported:
    if mode not in get_args(ImportMode):
        raise ArgumentError("mode", f"allowed: {', '.join(get_args(ImportMode))}")
    if samples_per_shard < 1:
        raise ArgumentError("samples_per_shard", "allowed: a whole number of at least 1")
    from eval.imports.job import import_set

    return import_set(
        labelled,
        str(out),
        per_shard=samples_per_shard,
        overwrite=mode == "overwrite",
        take_over=take_over,
        show=show,
        tell=tell,
    )
