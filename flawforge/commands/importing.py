"""The commands of `flawforge import`: human-labelled sets as shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from actors.redaction import redact
from flawforge import imports
from flawforge.commands.options import JsonOption, OutOption, TakeOverOption, usage
from flawforge.commands.printing import cell, console, counts, print_json, say, summary
from flawforge.commands.running import Callbacks, stoppable

if TYPE_CHECKING:
    from eval.imports.job import Imported
    from factory.output.manifest import Progress

app = typer.Typer()
sets = typer.Typer(
    no_args_is_help=True, help="Import images with human labels as shards, to train on and to evaluate with."
)
app.add_typer(sets, name="import")


SizeOption = Annotated[
    int | None, typer.Option(help="crop and resize images and maps to squares of this side")
]
ShardOption = Annotated[int, typer.Option(min=1, help="planned items in a shard")]
ModeOption = Annotated[
    imports.ImportMode,
    typer.Option(help="resume: write the missing shards; overwrite: delete the output and start again"),
]


@sets.command()
def richhf(
    out: OutOption,
    records: Annotated[
        str, typer.Option(help="the TFRecords: a folder with SPLIT.tfrecord, or files; any fsspec URL")
    ],
    split: Annotated[imports.Split, typer.Option(help="of RichHF-18k")] = "train",
    images: Annotated[
        str | None,
        typer.Option(
            help="Pick-a-Pic v1: a folder with train-*.parquet and test-*.parquet, or files; default: from the hub"
        ),
    ] = None,
    repository: Annotated[
        str, typer.Option(help="of Pick-a-Pic v1 on the hub, without --images")
    ] = imports.PICK_A_PIC,
    size: SizeOption = None,
    soft: Annotated[
        bool, typer.Option("--soft", help="also write soft.png, the share of annotators by pixel")
    ] = False,
    ambiguous: Annotated[
        imports.Ambiguous, typer.Option(help="annotators of a map that fits several numbers")
    ] = "three",
    unexplained: Annotated[
        imports.Unexplained, typer.Option(help="what to do with a map that fits no number of annotators")
    ] = "reject",
    votes: Annotated[
        imports.Votes, typer.Option(help="annotators who must have marked a pixel; all are two of three")
    ] = "share",
    least_annotators: Annotated[
        int, typer.Option(min=1, max=6, help="reject images with fewer annotators")
    ] = 3,
    empty: Annotated[imports.Empty, typer.Option(help="images in which no pixel has enough votes")] = "keep",
    tokens: Annotated[
        imports.Tokens, typer.Option(help="images whose prompt has another number of tokens than labels")
    ] = "reject",
    samples_per_shard: ShardOption = imports.PER_SHARD,
    mode: ModeOption = "resume",
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Import a split of RichHF-18k, joined with the images of Pick-a-Pic v1."""
    with _running(as_json, "listing the records and their images") as callbacks:
        found = imports.import_richhf(
            out,
            split=split,
            records=records,
            images=images,
            repository=repository,
            size=size,
            soft=soft,
            ambiguous=ambiguous,
            unexplained=unexplained,
            votes=votes,
            least_annotators=least_annotators,
            empty=empty,
            tokens=tokens,
            samples_per_shard=samples_per_shard,
            mode=mode,
            take_over=take_over,
            **callbacks,
        )
    report(found, out, as_json=as_json)


@sets.command()
def masks(
    out: OutOption,
    images: Annotated[str, typer.Option(help="a folder with images, and folders below it; any fsspec URL")],
    masks: Annotated[
        str | None,
        typer.Option(help="a folder with masks under the same paths; default: they are among the images"),
    ] = None,
    pattern: Annotated[
        str, typer.Option(help="name of a mask without its extension, such as {stem}_mask")
    ] = "{stem}",
    missing: Annotated[
        imports.Missing, typer.Option(help="images without a mask: reject them, or take them as clean")
    ] = "reject",
    ignore_index: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="level of masks that is neither inside nor outside, such as 255"),
    ] = None,
    alpha: Annotated[
        imports.Alpha,
        typer.Option(
            help="where masks with transparency are true: opaque or transparent; ignore reads colours only"
        ),
    ] = "refuse",
    mask_orientation: Annotated[
        imports.Orientation | None,
        typer.Option(
            help="whether masks fit images as stored or as displayed, if these have an EXIF orientation"
        ),
    ] = None,
    size: SizeOption = None,
    samples_per_shard: ShardOption = imports.PER_SHARD,
    mode: ModeOption = "resume",
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Import images and masks from folders, such as PAL4VST."""
    with _running(as_json, "listing images and masks") as callbacks:
        found = imports.import_masks(
            out,
            images=images,
            masks=masks,
            pattern=pattern,
            missing=missing,
            ignore_index=ignore_index,
            alpha=alpha,
            mask_orientation=mask_orientation,
            size=size,
            samples_per_shard=samples_per_shard,
            mode=mode,
            take_over=take_over,
            **callbacks,
        )
    report(found, out, as_json=as_json)


@sets.command()
def coco(
    out: OutOption,
    annotations: Annotated[
        str, typer.Option(help="the JSON file of COCO, CVAT, Label Studio or SynthScars; any fsspec URL")
    ],
    images: Annotated[
        str, typer.Option(help="the folder to which its names of images are relative; any fsspec URL")
    ],
    names: Annotated[
        imports.Names, typer.Option(help="names are paths below --images, or only their last parts count")
    ] = "path",
    category: Annotated[
        list[str] | None, typer.Option(help="take annotations of this category only; repeatable")
    ] = None,
    crowd: Annotated[
        imports.Crowd | None,
        typer.Option(help="annotations with iscrowd: ignore their pixels (default), or mark or drop them"),
    ] = None,
    boxes: Annotated[
        imports.Boxes, typer.Option(help="annotations with a box alone: reject their images, or mark the box")
    ] = "reject",
    orientation: Annotated[
        imports.Orientation | None,
        typer.Option(
            help="whether annotations fit images as stored or as displayed, if these have an EXIF orientation"
        ),
    ] = None,
    size: SizeOption = None,
    samples_per_shard: ShardOption = imports.PER_SHARD,
    mode: ModeOption = "resume",
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Import the images of a COCO file, or of SynthScars, with the union of their regions."""
    with _running(as_json, "reading the annotations") as callbacks:
        found = imports.import_coco(
            out,
            annotations=annotations,
            images=images,
            names=names,
            categories=category or [],
            crowd=crowd,
            boxes=boxes,
            orientation=orientation,
            size=size,
            samples_per_shard=samples_per_shard,
            mode=mode,
            take_over=take_over,
            **callbacks,
        )
    report(found, out, as_json=as_json)


@contextmanager
def _running(as_json: bool, first: str) -> Iterator[Callbacks]:
    """Shows the progress of an import, and reports wrong arguments as wrong usage."""
    screen = Console(stderr=True) if as_json else console
    with usage(), stoppable(), screen.status(first) as shown:

        def show(total: Progress) -> None:
            shown.update(
                f"{total.accepted:,} imported, {total.rejected:,} rejected of {total.planned:,}; {total.done} of "
                f"{total.shards} shards"
            )

        yield Callbacks(show=show, tell=partial(say, screen))


def report(found: Imported, out: str, *, as_json: bool) -> None:
    """Print the counts of an import."""
    total = found.total
    if as_json:
        print_json({**asdict(total), "figures": found.figures, "out": redact(out)})
        return
    table = Table("count", "")
    for name, figure in found.figures.items():
        table.add_row(cell(name), f"{figure:,}")
    console.print(table)
    say(console, summary(total))
    if total.skipped:
        say(console, "passed over while listing: " + counts(total.skipped))
