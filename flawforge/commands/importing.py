"""The commands of `flawforge import`: human-labelled sets as shards."""

from __future__ import annotations

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
from flawforge.commands.running import stoppable

if TYPE_CHECKING:
    from eval.imports.job import Imported
    from factory.output.manifest import Progress

app = typer.Typer()
sets = typer.Typer(
    no_args_is_help=True, help="Import images with human labels as shards, to train on and to evaluate with."
)
app.add_typer(sets, name="import")


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
    size: Annotated[
        int | None, typer.Option(help="crop and resize images and maps to squares of this side")
    ] = None,
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
    samples_per_shard: Annotated[
        int, typer.Option(min=1, help="planned items in a shard")
    ] = imports.PER_SHARD,
    mode: Annotated[
        imports.ImportMode,
        typer.Option(help="resume: write the missing shards; overwrite: delete the output and start again"),
    ] = "resume",
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Import a split of RichHF-18k, joined with the images of Pick-a-Pic v1."""
    screen = Console(stderr=True) if as_json else console
    with usage(), stoppable(), screen.status("listing the records and their images") as shown:

        def show(total: Progress) -> None:
            shown.update(
                f"{total.accepted:,} imported, {total.rejected:,} rejected of {total.planned:,}; {total.done} of "
                f"{total.shards} shards"
            )

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
            show=show,
            tell=partial(say, screen),
        )
    report(found, out, as_json=as_json)


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
