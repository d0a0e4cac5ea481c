"""The output of `flawforge status`, as text and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from actors.foreign_text import one_line
from actors.redaction import redact
from factory.run.run_state import RUNNING, RunState
from factory.run.status import AT_WORK, COMPLETE, SILENT, Sight, look
from factory.run.tally import Figures, amounts, clock, pace, shares
from factory.store.storage import Storage
from flawforge.commands import training_status
from flawforge.commands.printing import counts, print_json
from train.identity import is_training


def show(console: Console, url: str, *, as_json: bool = False, every: float | None = None) -> None:
    """Print the progress of an output, of a build or of a training, once or repeatedly until it is complete.

    Args:
        console: to print on; a terminal is redrawn.
        url: the output.
        as_json: print a JSON object instead; with `every`, one per line.
        every: seconds between two reports; None prints one.
    """
    storage = Storage(url)
    if is_training(storage):
        training_status.show(console, storage, as_json=as_json, every=every)
        return
    if every is None:
        sight = look(storage)
        if as_json:
            print_json(document(sight))
        else:
            console.print(_text(sight, url), soft_wrap=True)
        return
    if as_json:
        for sight in _looks(storage, every):
            print(json.dumps(document(sight)), flush=True)
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for sight in _looks(storage, every):
                live.update(_text(sight, url), refresh=True)
    else:
        for sight in _looks(storage, every):
            console.print(_text(sight, url), "", sep="\n", soft_wrap=True)


def document(sight: Sight) -> dict[str, Any]:
    """Return all figures as plain data."""
    run = sight.run
    return {
        **asdict(sight.total),
        "complete": sight.total.complete,
        "state": sight.state,
        "behind": sight.behind,
        "lock": asdict(sight.holder) if sight.holder else None,
        "seconds_since_heartbeat": sight.age(sight.holder.heartbeat) if sight.holder else None,
        "run": _run(run) if run else None,
        "log": sight.log,
    }


def lines(sight: Sight, url: str) -> list[str]:
    """Return the figures as lines of text."""
    total = sight.total
    done = total.accepted + total.rejected
    rate = f" ({total.accepted / done:.1%})" if done else ""
    text = [
        f"{sight.state}: {total.done:,} of {total.shards:,} shards, {total.planned:,} items planned",
        f"accepted {total.accepted:,}{rate}, rejected {total.rejected:,}"
        + (f"; shards newer than these counts: {sight.behind}" if sight.behind else ""),
    ]
    if total.reasons:
        text.append("rejects: " + counts(total.reasons))
    if total.skipped:
        text.append("passed over while listing the source: " + counts(total.skipped))
    if total.done:
        spent = ", ".join(f"{stage} {seconds:,.1f} s" for stage, seconds in total.seconds.items())
        text.append(f"worker time: {spent}; UNet evaluations {total.unet_rows:,}")
    text += [f"mixed hardware, so bytes depend on the machine: {line}" for line in total.mixtures]
    text += _who(sight)
    if sight.state == AT_WORK and sight.present is not None:
        text += _speed(sight, sight.present)
    if sight.log:
        text.append(f"log: {redact(url)}/{sight.log}")
    return text


def _who(sight: Sight) -> Iterator[str]:
    holder, run = sight.holder, sight.run
    if holder is not None and sight.state != COMPLETE:
        ago = clock(sight.age(holder.heartbeat))
        yield f"run: process {holder.pid} on {holder.host}, since {holder.began}, last heartbeat {ago} ago"
    if sight.state == SILENT:
        yield "no heartbeat: the run was killed or is cut off; the same build command takes over and continues"
    if sight.state not in (AT_WORK, SILENT, COMPLETE):
        end = f"; the last run {run.phase}: {run.why}" if run and run.phase != RUNNING and run.why else ""
        yield f"no run is at work{end}; the same build command goes on from there"


def _speed(sight: Sight, run: RunState) -> Iterator[str]:
    figures = run.figures
    if figures.images_per_second is None or figures.last_published is None:
        state = "no shard of this run yet" if figures.in_flight else "starting, no shard of this run yet"
        yield f"{state}, {clock(sight.age(run.began))}"
        yield from _in_flight(figures)
        return
    left = "?" if figures.seconds_left is None else clock(figures.seconds_left)
    yield (
        f"{pace(figures.images_per_second)} images/s ({pace(figures.images_per_second_of_run or 0)} over the run), "
        f"{left} left, last shard {clock(sight.age(figures.last_published))} ago"
    )
    yield from _in_flight(figures)
    if figures.busy:
        yield "busy: " + shares(figures.busy)
    if figures.cost is not None:
        yield f"{figures.cost:.2f} {figures.cost_unit} per accepted sample"


def _in_flight(figures: Figures) -> Iterator[str]:
    if figures.in_flight:
        yield "in progress: " + amounts(figures.in_flight)


def _run(run: RunState) -> dict[str, Any]:
    state = run.document
    figures = state.pop("figures")
    del figures["total"], state["lock"]
    return {**state, **figures}


def _looks(storage: Storage, every: float) -> Iterator[Sight]:
    while True:
        sight = look(storage)
        yield sight
        if sight.state == COMPLETE:
            return
        time.sleep(every)


def _text(sight: Sight, url: str) -> Text:
    first, *rest = map(one_line, lines(sight, url))
    head = Text(first)
    head.stylize("bold", 0, len(sight.state))
    return Text("\n").join([head, *map(Text, rest)])
