"""The command `quickstart`: the whole job on the embedded world, from clean scenes to a trained and scored detector."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from factory.recipe.recipe import load_recipe
from flawforge import api
from flawforge.commands.printing import cell, console, say
from flawforge.commands.train import training_view

if TYPE_CHECKING:
    from eval.metrics import Interval
    from factory.output.manifest import Progress as Totals
    from flawforge.commands.quickstart_training import Training

DETECTOR = "detector"
"""Folder of the detector, beside the output: `OUT-detector`."""

app = typer.Typer()


@dataclass(frozen=True)
class _Result:
    out: str
    total: Totals
    sound: bool
    training: Training | None


@app.command()
def quickstart(
    out: Annotated[str, typer.Option(help="folder for the data set")] = "out/quickstart",
    items: Annotated[int, typer.Option(min=1, max=1000, help="number of clean scenes")] = 512,
    steps: Annotated[
        int, typer.Option(min=0, help="training steps of the detector; 0 disables training")
    ] = 300,
) -> None:
    """Make a small data set of the embedded world, train a detector on it, score it: no network, no GPU."""
    raise typer.Exit(run(console, out, items, steps))


def run(console: Console, out: str, items: int, steps: int) -> int:
    """Build the recipe `quickstart`, verify the output, train and score a detector on it, and print the results.

    Args:
        console: to print on.
        out: a local folder for the output.
        items: number of clean scenes.
        steps: training steps of the detector; 0 disables training.

    Returns:
        The exit code.
    """
    from factory.run.monitor import monitor

    began = time.monotonic()
    recipe = load_recipe("quickstart", [f"source.limit={items}"])
    console.print(
        f"[bold]Flawforge[/] breaks {items} clean scenes of its embedded world where generators tend to fail."
    )
    console.print("The recipe: flawforge plan quickstart\n")
    with monitor(console) as view:
        total = api.build(recipe, out, show=view.show)
    verdict = api.verify(out)
    for problem in verdict.problems:
        say(console, f"wrong: {problem}")
    training = _train(console, out, steps) if steps and total.accepted else None
    seconds = int(time.monotonic() - began)
    closing = _closing(_Result(out, total, verdict.sound, training))
    console.print(Panel(closing, title=f"done in {seconds // 60}:{seconds % 60:02d}", expand=False))
    return 0 if verdict.sound else 1


def _train(console: Console, out: str, steps: int) -> Training:
    """Train on the Ray cluster of the build."""
    from flawforge.commands.quickstart_training import train_detector

    with training_view(console, "training a detector: ") as show:
        return train_detector(out, f"{out}-{DETECTOR}", steps, show, partial(say, console))


def _closing(result: _Result) -> Group:
    from eval.gallery import PATH

    out, total = result.out, result.total
    reasons = ", ".join(f"{count} {reason}" for reason, count in total.reasons.items()) or "none"
    state = "every item and every shard accounted for" if result.sound else "NOT SOUND, see above"
    made = (
        f"{total.accepted} images with artifacts and their masks, in {total.done} shards",
        f"{total.rejected} items rejected: {reasons}",
        f"{total.accepted} + {total.rejected} = {total.planned} planned; {state}",
        "",
    )
    look = (
        f"look      {out}/{PATH}   (any browser, no server)",
        f"shards    {out}/shards/*.tar   (WebDataset)",
        f"totals    {out}/manifest.json, {out}/README.md",
        "",
        "next",
        "  flawforge preview quickstart --k 5,13,20   how strong should it be?",
        f"  flawforge verify {out}",
        "  flawforge recipes images > mine.yaml       for your own images: change it",
    )
    scores = [] if result.training is None else [*_scores(result.training), Text()]
    return Group(*map(cell, made), *scores, *map(cell, look))


def _scores(training: Training) -> list[Table | Text]:
    headings = (f"validation, {training.detector.images} images", "IoU_fg", "95 % interval", "F1", "AP", "at")
    table = Table(*headings, box=SIMPLE_HEAD)
    rows = (
        ("detector: made samples", training.detector),
        ("selector: 100 labelled", training.selector),
    )
    for name, one in rows:
        table.add_row(
            name,
            f"{one.iou_fg.value:.1%}",
            _range(one.iou_fg),
            f"{one.f1.value:.1%}",
            f"{one.average_precision:.1%}",
            f"{one.threshold:.2f}",
        )
    for name, reference in training.references.items():
        value, low, high = reference.iou_fg
        around = f"[{low:.1%}, {high:.1%}]"
        table.add_row(name, f"{value:.1%}", around, "", f"{reference.average_precision:.1%}", "")
    trained = training.trained
    words = (
        f"Ray Train: {trained.steps:,} steps in {trained.seconds:.0f} s, "
        f"{trained.waited / max(trained.seconds, 1e-9):.0%} of it waiting for data from the shards\n"
        f"difference {training.gain.value:+.1%} {_range(training.gain)}, paired by image;\n"
        "for both, the threshold that is best on these same images\n"
        f"detector  {training.folder}   (flawforge eval {training.folder})"
    )
    return [table, Text(words)]


def _range(interval: Interval) -> str:
    return f"[{interval.low:.1%}, {interval.high:.1%}]"
