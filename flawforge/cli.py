"""The command line. Commands say what they did; errors say what was wrong, where, and what to do."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from actors.errors import FlawforgeError, RecipeError
from actors.foreign_text import one_line
from actors.redaction import redact
from factory.recipe.recipe import load_recipe
from flawforge.care import app as care
from flawforge.options import (
    AddressOption,
    JsonOption,
    OutOption,
    RecipeArgument,
    SetOption,
    TakeOverOption,
    UrlArgument,
)
from flawforge.printing import cell, complain, counts, guard_streams, print_json, say

DONE, FAILED, USAGE, TOO_MANY_REJECTS = 0, 1, 2, 3

app = typer.Typer(
    name="flawforge",
    help="Makes pixel-level artifact datasets: clean images in, corrupted images with masks out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(care)
console = Console()


@app.command()
def quickstart(
    out: Annotated[str, typer.Option(help="where the data set goes")] = "out/quickstart",
    items: Annotated[int, typer.Option(min=1, max=1000, help="clean scenes to start from")] = 512,
    steps: Annotated[int, typer.Option(min=0, help="training steps of the detector; 0 leaves it out")] = 300,
) -> None:
    """Make a small data set of the embedded world, train a detector on it, score it: no network, no GPU."""
    from flawforge.quickstart import run

    raise typer.Exit(run(console, out, items, steps))


@app.command()
def plan(recipe: RecipeArgument, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """List a source and show stages, resources, shards and estimated work. Runs nothing."""
    from factory.pipeline.outlook import outlook

    view = outlook(load_recipe(recipe, set_ or []))
    if as_json:
        print_json(asdict(view))
        return
    head = cell(f"{view.name}: {view.items:,} items in {view.shards:,} shards of {view.per_shard}")
    head.stylize("bold", 0, len(one_line(view.name)))
    console.print(head)
    if view.skipped:
        say(console, "passed over while listing: " + counts(view.skipped))
    table = Table("stage", "what", "workers", "CPUs", "GPUs")
    for stage in view.stages:
        pool = (
            str(stage.smallest) if stage.smallest == stage.largest else f"{stage.smallest} to {stage.largest}"
        )
        table.add_row(stage.name, cell(stage.what), pool, f"{stage.cpus:g}", f"{stage.gpus:g}")
    console.print(table)
    console.print(
        f"UNet evaluations per sample: {view.unet_rows} ({view.unet_rows_explained}); "
        f"{view.items * view.unet_rows:,} in all"
    )


@app.command()
def build(
    recipe: RecipeArgument,
    out: OutOption,
    set_: SetOption = None,
    mode: Annotated[
        str,
        typer.Option(
            help="resume goes on with what is missing; extend adds what the source has beyond the plan; again adds all "
            "items once more, by this recipe; overwrite deletes what is there and begins anew"
        ),
    ] = "resume",
    address: AddressOption = "local",
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a data set, finish one that was stopped, or extend it."""
    if mode not in ("resume", "extend", "again", "overwrite"):
        raise typer.BadParameter("allowed: resume, extend, again, overwrite", param_hint="--mode")
    loaded = load_recipe(recipe, set_ or [])
    from eval.gallery import PATH, write_gallery
    from factory.build import Mode
    from factory.build import build as run
    from factory.store.storage import Storage
    from flawforge.running import watched

    screen = Console(stderr=True) if as_json else console
    with watched(screen) as told:
        total = run(loaded, out, mode=Mode(mode), take_over=take_over, address=address, **told)
    write_gallery(Storage(out), loaded.name)
    if as_json:
        print_json({**asdict(total), "out": redact(out)})
    else:
        say(
            console,
            f"{total.accepted:,} samples in {total.done} shards, {total.rejected:,} rejected"
            + (f" ({counts(total.reasons)})" if total.reasons else ""),
        )
        if total.skipped:
            say(console, "passed over while listing the source: " + counts(total.skipped))
        shown = redact(out)
        say(console, f"{shown}/{PATH} shows a sample of them; flawforge verify {shown} checks them all")
    share = total.rejected / total.planned
    if share > loaded.limits.rejects:
        screen.print(f"rejected {share:.1%} of the items; limits.rejects is {loaded.limits.rejects:.1%}")
        raise typer.Exit(TOO_MANY_REJECTS)


@app.command()
def preview(
    recipe: RecipeArgument,
    n: Annotated[int, typer.Option("--n", min=1, help="items to try")] = 16,
    k: Annotated[str, typer.Option(help="inversion steps to try, such as 5,10,20")] = "",
    threshold: Annotated[str, typer.Option(help="region thresholds to try, such as 0.3,0.5")] = "",
    out: Annotated[Path, typer.Option(help="the page to write")] = Path("preview.html"),
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a few items through every stage here, without Ray, and write a page to look at before a long run."""
    from flawforge.preview import run

    steps = [f"corruption.inversion_steps={one}" for one in _parts(k)]
    thresholds = [f"regions.threshold={one}" for one in _parts(threshold)]
    fixed = ["corruption.deeper=[]"] if steps else []
    choices = [[*fixed, *filter(None, pair)] for pair in product(thresholds or [""], steps or [""])]
    report = run([load_recipe(recipe, [*(set_ or []), *choice]) for choice in choices], n, out)
    if as_json:
        print_json(asdict(report))
        return
    table = Table("k", "threshold", "accepted", "rejected", "seconds per item", "hours for all, one worker")
    for trial in report.trials:
        table.add_row(
            str(trial.inversion_steps),
            f"{trial.threshold:g}",
            f"{trial.accepted} of {report.items}",
            cell(counts(trial.reasons) or "-"),
            f"{trial.seconds_per_item:.2f}",
            f"{trial.hours_for_all:.2f}",
        )
    console.print(table)
    console.print("seconds per item: " + ", ".join(f"{name} {s:.3f}" for name, s in report.seconds.items()))
    say(console, f"look: {out}")


@app.command()
def status(
    url: UrlArgument,
    watch: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="look again and again, until it is complete"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a build is and how fast it goes, from any machine that can read the output."""
    from flawforge.status import show

    show(console, url, as_json=as_json, every=watch)


@app.command()
def verify(
    url: UrlArgument,
    address: Annotated[
        str | None, typer.Option(help="check on the workers of a Ray cluster instead of on threads here")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every shard against plan, index and sidecar. Exit code 1 when anything is wrong or missing."""
    from factory.maintain.verify import ShardChecks, check_on_threads
    from factory.maintain.verify import verify as check
    from factory.store.storage import Storage

    check_shards: ShardChecks = check_on_threads
    if address is not None:
        from factory.maintain.verify_on_ray import CheckOnRay

        check_shards = CheckOnRay(address)
    verdict = check(Storage(url), check_shards=check_shards)
    if as_json:
        print_json({**asdict(verdict), "sound": verdict.sound})
    else:
        for problem in verdict.problems:
            say(console, f"wrong: {problem}")
        for note in verdict.notes:
            say(console, f"note: {note}")
        sign = "=" if verdict.accepted + verdict.rejected == verdict.planned else "is not"
        console.print(
            f"accepted {verdict.accepted:,} + rejected {verdict.rejected:,} {sign} planned {verdict.planned:,}; "
            f"{verdict.done} of {verdict.shards} shards; {len(verdict.problems)} problems"
        )
    raise typer.Exit(DONE if verdict.sound else FAILED)


@app.command()
def gallery(
    url: UrlArgument, tiles: Annotated[int, typer.Option(min=1, help="samples to show")] = 200
) -> None:
    """Write the gallery page of an output anew."""
    from eval.gallery import PATH, write_gallery
    from factory.output.identity import read_identity
    from factory.output.plan import read_plan
    from factory.output.provenance import is_merged, parts_of
    from factory.store.storage import Storage

    storage = Storage(url)
    identity, _ = read_identity(storage)
    merged = is_merged(identity)
    name = str(identity.content["name"]) if merged else parts_of(storage, read_plan(storage))[0].name
    shown = write_gallery(storage, name, tiles=tiles)
    say(console, f"{redact(url)}/{PATH} shows {shown} samples")


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
        typer.Option(min=0, max=65535, help="level of --data's masks that counts nowhere, such as 255"),
    ] = None,
    alpha: Annotated[
        Literal["refuse", "opaque", "transparent", "ignore"],
        typer.Option(
            help="where --data's masks with transparency are true: opaque, transparent, or ignore it"
        ),
    ] = "refuse",
    mask_orientation: Annotated[
        Literal["stored", "displayed"] | None,
        typer.Option(
            help="what --data's masks fit, where their images have an EXIF orientation: stored or displayed"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a segmenter against true masks, with intervals over images."""
    if split and data:
        raise typer.BadParameter("give --split or --data, not both", param_hint="--split")
    if split not in ("", "labelled", "validation", "sealed"):
        raise typer.BadParameter("allowed: labelled, validation, sealed", param_hint="--split")
    from actors.masks import MaskReading
    from flawforge.evaluation import run, table

    reading = MaskReading(ignore_index, alpha, mask_orientation)
    if reading != MaskReading() and not data:
        raise typer.BadParameter("the masks of a split need no settings; give --data", param_hint="--data")
    screen = Console(stderr=True) if as_json else console
    report = run(
        checkpoint, split=split or "validation", urls=data or [], threshold=threshold, reading=reading
    )
    for note in report.notes:
        say(screen, note)
    if as_json:
        print_json(report.document())
    else:
        console.print(table(report))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has: Python, packages, GPUs, Ray, models. Exit code 1 when something is missing."""
    from flawforge.doctor import examine

    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table("", "what", "found", "what to do", box=None, show_header=False)
        for finding in findings:
            mark = "[green]ok[/]" if finding.ok else "[red]no[/]"
            table.add_row(mark, finding.name, cell(finding.value), "" if finding.ok else finding.advice)
        console.print(table)
    raise typer.Exit(DONE if all(finding.ok for finding in findings) else FAILED)


def main() -> NoReturn:
    """Runs a command and exits with its code."""
    guard_streams()
    # Bars of transformers and huggingface_hub, such as "Loading weights", would break into our own output.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except RecipeError as error:
        _complain(error, USAGE)
    except FlawforgeError as error:
        _complain(error, FAILED)
    except OSError as error:
        _complain(error, FAILED)
    sys.exit(DONE)


def _complain(error: object, code: int) -> NoReturn:
    complain(str(error))
    sys.exit(code)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
