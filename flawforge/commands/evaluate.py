"""The command `eval`: scores compared with true masks, as a table with intervals, as JSON, or as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Column, Table

from actors.redaction import redact
from flawforge import api
from flawforge.commands.options import AddressOption, JsonOption, usage
from flawforge.commands.printing import cell, console, print_json, say

if TYPE_CHECKING:
    from eval.report import Report

app = typer.Typer()


@app.command("eval")
def evaluate(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="a folder, a hub id in the cache, or tinytown/regions-convnext", show_default=False
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            help="score maps instead of a checkpoint: an output of flawforge predict, tars or folders; repeatable"
        ),
    ] = None,
    missing: Annotated[
        Literal["error", "zero", "skip"], typer.Option(help="what to do with images that have no map")
    ] = "error",
    resize: Annotated[
        Literal["bilinear"] | None, typer.Option(help="how to treat maps of another size than their image")
    ] = None,
    split: Annotated[
        str, typer.Option(help="of tinytown: validation, labelled, or sealed (final figures only)")
    ] = "",
    data: Annotated[
        list[str] | None, typer.Option(help="tars with image.png (or .webp) and mask.png instead; repeatable")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="score from which a pixel is predicted; default: see the report"),
    ] = None,
    ignore_index: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="level of --data's masks to leave out of all measures, such as 255"
        ),
    ] = None,
    alpha: Annotated[
        Literal["refuse", "opaque", "transparent", "ignore"],
        typer.Option(
            help="where --data's masks with transparency are true: opaque or transparent; ignore reads colours only"
        ),
    ] = "refuse",
    mask_orientation: Annotated[
        Literal["stored", "displayed"] | None,
        typer.Option(
            help="whether --data's masks fit their images as stored or as displayed, if these have an EXIF orientation"
        ),
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="where the network runs")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="images in one step of the network")] = 8,
    tile: Annotated[int | None, typer.Option(min=1, help="score larger images in tiles of this side")] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help="scorers on a Ray cluster, a number or auto; default: in this process, without Ray"
        ),
    ] = None,
    address: AddressOption = "local",
    out: Annotated[
        str | None,
        typer.Option(
            help="folder or URL for a page, a JSON of all figures and a parquet with a row per image"
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="file for the lines of sealed openings; default: one per user, see docs/evaluating.md"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a segmenter, or the score maps of any detector, with true masks; intervals are over images."""
    from eval.report_files import PAGE
    from eval.report_lines import gain_lines

    screen = Console(stderr=True) if as_json else console
    with usage():
        report = api.evaluate(
            checkpoint,
            predictions=predictions or [],
            missing=missing,
            resize=resize,
            split=split or None,
            data=data or [],
            threshold=threshold,
            ignore_index=ignore_index,
            alpha=alpha,
            mask_orientation=mask_orientation,
            device=device,
            batch_size=batch_size,
            tile=tile,
            workers=workers,
            address=address,
            out=out,
            log=log,
        )
    for note in report.notes:
        say(screen, note)
    if as_json:
        print_json(report.document())
    else:
        console.print(_table(report))
        console.print(_comparison(report))
        for line in gain_lines(report):
            say(console, line)
    if out is not None:
        say(screen, f"report: {redact(out).rstrip('/')}/{PAGE}")


def _table(report: Report) -> Table:
    """The figures in percent, with their intervals."""
    from eval.metrics import RESAMPLES
    from eval.report_lines import figure_lines, percent

    found = report.evaluation
    view = Table(
        "measure",
        "%",
        "95 % interval",
        title=cell(f"{report.checkpoint} on {report.data}"),
        caption=(
            f"{found.images:,} images, {found.without_region:.1%} of them without any predicted region; "
            f"intervals: {RESAMPLES:,} resamples of the images, for the random regions the range of draws"
        ),
    )
    for name, figure in figure_lines(report):
        view.add_row(name, *percent(figure))
    return view


def _comparison(report: Report) -> Table:
    """The detector beside blind baselines and upper bounds, in percent."""
    from eval.report_lines import COMPARED, compared_cell

    view = Table(
        Column("%", no_wrap=True),
        *COMPARED,
        title="compared with",
        caption="of objects: AUROC by mean score",
    )
    for name, values in report.rows():
        view.add_row(cell(name), *map(compared_cell, values), *["-"] * (len(COMPARED) - len(values)))
    return view
