"""The command `eval`: scores of a segmenter, as a table with intervals or as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from flawforge import api
from flawforge.commands.options import JsonOption, usage
from flawforge.commands.printing import cell, console, print_json, say

if TYPE_CHECKING:
    from eval.metrics import Interval
    from flawforge.evaluation import Report

app = typer.Typer()

_ROWS = (
    ("IoU_fg (pooled)", "iou_fg"),
    ("IoU_fg (mean of images)", "iou_per_image"),
    ("mIoU_2class", "miou_2class"),
    ("F1", "f1"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1 (mean of images)", "f1_per_image"),
    ("precision (mean of images)", "precision_per_image"),
    ("recall (mean of images)", "recall_per_image"),
)

_THRESHOLD_FREE = (
    ("average precision (pixels)", "average_precision"),
    ("AUROC (pixels)", "auroc"),
    ("expected calibration error", "calibration_error"),
    ("Brier score", "brier"),
    ("AUROC (images, by mean score)", "image_auroc"),
    ("average precision (images)", "image_average_precision"),
)


@app.command("eval")
def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(help="a folder, a hub id in the cache, or tinytown/regions-convnext")
    ],
    split: Annotated[
        str, typer.Option(help="of tinytown: validation, labelled, or sealed (final figures only)")
    ] = "",
    data: Annotated[
        list[str] | None, typer.Option(help="tars with image.png and mask.png instead; repeatable")
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
    as_json: JsonOption = False,
) -> None:
    """Score a segmenter against true masks, with intervals over images."""
    screen = Console(stderr=True) if as_json else console
    with usage():
        report = api.evaluate(
            checkpoint,
            split=split or None,
            data=data or [],
            threshold=threshold,
            ignore_index=ignore_index,
            alpha=alpha,
            mask_orientation=mask_orientation,
            device=device,
            batch_size=batch_size,
            tile=tile,
        )
    for note in report.notes:
        say(screen, note)
    if as_json:
        print_json(report.document())
    else:
        console.print(_table(report))


def _table(report: Report) -> Table:
    """The figures in percent, with their intervals."""
    from eval.metrics import RESAMPLES

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
    for name, field in _ROWS:
        view.add_row(name, *_percent(getattr(found, field)))
    for name, field in _THRESHOLD_FREE:
        view.add_row(name, *_percent(getattr(report.threshold_free, field)))
    if found.clean is not None:
        view.add_row(f"area marked on {found.clean.images:,} clean images", *_percent(found.clean.area))
        view.add_row("clean images with a mark", *_percent(found.clean.marked))
    view.add_row("IoU_fg, same regions at random", *_percent(report.at_random))
    return view


def _percent(figure: Interval) -> tuple[str, str]:
    if math.isnan(figure.value):
        return "undefined", ""
    return f"{100 * figure.value:.2f}", f"{100 * figure.low:.2f} to {100 * figure.high:.2f}"
