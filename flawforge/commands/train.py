"""The command `train`, and its progress."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from actors.foreign_text import one_line
from actors.redaction import redact
from flawforge import api
from flawforge.commands.options import AddressOption, JsonOption, OutOption, SetOption, TakeOverOption, usage
from flawforge.commands.printing import cell, console, print_json, say

if TYPE_CHECKING:
    from train.progress import Progress

app = typer.Typer()


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="a YAML file, or a shipped recipe: train-regions, train-detector and others")
    ],
    out: OutOption,
    data: Annotated[
        list[str] | None, typer.Option(help="[NAME=]URL of a data set of the recipe; repeatable")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="processes that train, or FEWEST,MOST for an elastic training")
    ] = None,
    set_: SetOption = None,
    address: AddressOption = "local",
    mode: Annotated[
        str, typer.Option(help="resume: continue; overwrite: delete another training in the output first")
    ] = "resume",
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a region selector or a detector on shards with Ray Train; the same command continues it."""
    from flawforge.commands.running import stoppable

    screen = Console(stderr=True) if as_json else console
    with usage(), stoppable(), training_view(screen) as show:
        trained = api.train(
            recipe,
            out,
            data=data or [],
            workers=workers,
            overrides=set_ or [],
            address=address,
            mode=cast(Literal["resume", "overwrite"], mode),
            take_over=take_over,
            show=show,
            tell=partial(say, screen),
        )
    if as_json:
        print_json({**trained.model_dump(), "out": redact(out)})
        return
    say(console, f"trained {trained.steps:,} steps; the weights are those after step {trained.step:,}")
    if trained.validation is not None:
        say(
            console,
            f"validation IoU_fg {trained.validation['iou_fg']:.1%} at threshold {trained.threshold:.2f}",
        )
    for name, count in trained.skipped.items():
        say(console, f"{name}: {count:,} samples could not be read and were skipped")
    say(console, f"{redact(out)} opens in transformers; flawforge eval {redact(out)} scores it")


def show_plan(recipe: str, data: Sequence[str], overrides: Sequence[str], *, as_json: bool) -> None:
    """Print what a training would do.

    Args:
        recipe: a training recipe.
        data: `NAME=URL` of its data sets.
        overrides: changes of the recipe.
        as_json: print a JSON object instead.
    """
    from train.outlook import UTILISATION, training_outlook
    from train.recipe import load_training, with_data

    view = training_outlook(with_data(load_training(recipe, overrides), data))
    if as_json:
        print_json(asdict(view))
        return
    say(console, f"{view.name} ({view.kind}): {view.iterations:,} steps of {view.batch} images")
    table = Table("data", "label", "samples", "read", "passes")
    for one in view.data:
        table.add_row(cell(one.name), one.label, f"{one.samples:,}", f"{one.read:,}", f"{one.passes:.1f}")
    console.print(table)
    fewest, most = view.workers
    each = f"{view.cpus:g} CPUs" + (f" and {view.gpus:g} GPUs" if view.gpus else "")
    say(console, f"workers: {fewest if fewest == most else f'{fewest} to {most}'}, each with {each}")
    say(
        console,
        f"network: {view.weights / 1e6:.1f} M weights; new: {', '.join(view.new_weights) or 'none'}",
    )
    say(
        console,
        f"memory of a worker: {_mib(view.memory_bytes)}, of it {_mib(view.activation_bytes)} for {view.per_worker} "
        f"images of {view.size[1]} x {view.size[0]} pixels at once; the libraries come on top",
    )
    work = view.step_flops * view.iterations
    hours = "no GPU here to estimate the hours for"
    if view.hours is not None:
        hours = f"about {view.hours:.2g} hours on this machine's processor"
    say(
        console,
        f"work: {work / 1e12:,.1f} TFLOP, {hours} (at {UTILISATION:.0%} of the rate of a matrix product)",
    )


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"


@contextmanager
def training_view(screen: Console, title: str = "") -> Iterator[Any]:
    """Show progress: a live view on a terminal, else a line every 30 seconds; yields a function of `Progress`."""
    view = _Live(screen, title) if screen.is_terminal else _Lines(screen, title)
    with view:
        yield view.show


def words(found: Progress) -> str:
    """The figures of a training as one line."""
    from factory.run.tally import clock, pace

    parts = [f"step {found.step:,} of {found.iterations:,}"]
    if found.loss is not None:
        parts.append(f"loss {found.loss:.4f}")
    if found.images_per_second:
        workers = "1 worker" if found.workers == 1 else f"{found.workers} workers"
        parts.append(f"{pace(found.images_per_second)} images/s on {workers}")
    if found.waited is not None and found.waited >= 0.05:
        parts.append(f"{found.waited:.0%} of the time waiting for data")
    if found.validation and "iou_fg" in found.validation and found.best is not None:
        parts.append(f"best IoU_fg {found.validation['iou_fg']:.1%} (step {found.best:,})")
    if found.skipped:
        parts.append(f"{sum(found.skipped.values()):,} samples skipped")
    if found.restarts:
        parts.append("1 restart" if found.restarts == 1 else f"{found.restarts} restarts")
    if found.seconds_left is not None and math.isfinite(found.seconds_left):
        parts.append(f"{clock(found.seconds_left)} left")
    return ", ".join(parts)


class _View:
    def __init__(self, console: Console, title: str) -> None:
        self.console, self.title = console, title
        self.began = time.monotonic()
        self.latest: Progress | None = None

    def show(self, found: Progress) -> None:
        self.latest = found

    def line(self) -> str:
        from factory.run.tally import clock

        if self.latest is None:
            return f"{self.title}starting the workers, {clock(time.monotonic() - self.began)}"
        return self.title + words(self.latest)


class _Live(_View):
    def __enter__(self) -> None:
        self._live = Live(console=self.console, get_renderable=self._drawn, refresh_per_second=2)
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _drawn(self) -> Group:
        done, total = (self.latest.step, self.latest.iterations) if self.latest else (0, 1)
        return Group(ProgressBar(total=total, completed=done, width=40), Text(one_line(self.line())))


class _Lines(_View):
    def __enter__(self) -> None:
        self._said = ""
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._report, name="monitor", daemon=True)
        self._clock.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._clock.join()
        if self.latest is not None:
            self._say()

    def _report(self) -> None:
        from factory.run.monitor import SECONDS_BETWEEN_LINES

        while not self._over.wait(SECONDS_BETWEEN_LINES):
            self._say()

    def _say(self) -> None:
        line = self.line()
        if line != self._said:
            self._said = line
            say(self.console, line)
