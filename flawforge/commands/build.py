"""Commands that make a dataset: recipes, plan, preview, build, scan, status."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from actors.errors import RecipeError
from actors.foreign_text import one_line
from actors.redaction import redact
from eval.predict.recipe import SHIPPED as PREDICTIONS
from eval.predict.recipe import shipped_prediction
from factory.recipe.recipe import SHIPPED, load_recipe, shipped_recipe
from flawforge import api
from flawforge.commands.options import (
    AddressOption,
    CheckAddressOption,
    JsonOption,
    OutOption,
    RecipeArgument,
    SetOption,
    TakeOverOption,
    UrlArgument,
    usage,
)
from flawforge.commands.printing import cell, console, counts, print_json, say, summary
from train.recipe import SHIPPED as TRAININGS
from train.recipe import is_training, shipped_training

if TYPE_CHECKING:
    from factory.output.manifest import Progress

TOO_MANY_REJECTS = 3
"""Exit code of a build that rejects a larger share of the items than its recipe allows."""

app = typer.Typer()


@app.command()
def recipes(
    name: Annotated[str, typer.Argument(help="the recipe to print; without a name, list all")] = "",
) -> None:
    """List the shipped recipes, or print one to copy and change: flawforge recipes images > mine.yaml"""
    texts = {
        **{one: shipped_recipe(one) for one in SHIPPED},
        **{one: shipped_training(one) for one in TRAININGS},
        **{one: shipped_prediction(one) for one in PREDICTIONS},
    }
    if name:
        if name not in texts:
            raise RecipeError(f"{name}: no shipped recipe; allowed: {', '.join(texts)}")
        print(texts[name], end="")
        return
    for shipped, text in texts.items():
        say(console, f"{shipped:<25}{text.splitlines()[0].removeprefix('# ')}")


@app.command()
def plan(
    recipe: RecipeArgument,
    data: Annotated[
        list[str] | None, typer.Option(help="[NAME=]URL of a data set of a training recipe; repeatable")
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show stages, resources, shards and estimated work of a build, or steps, memory and hours of a training."""
    if is_training(recipe):
        from flawforge.commands.train import show_plan

        show_plan(recipe, data or [], set_ or [], as_json=as_json)
        return
    if data:
        raise typer.BadParameter("only a training recipe reads data sets", param_hint="--data")
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
def preview(
    recipe: RecipeArgument,
    n: Annotated[int, typer.Option("--n", min=1, help="items to try")] = 16,
    k: Annotated[str, typer.Option(help="inversion steps to try, such as 5,10,20")] = "",
    threshold: Annotated[str, typer.Option(help="region thresholds to try, such as 0.3,0.5")] = "",
    out: Annotated[Path, typer.Option(help="the HTML page to write")] = Path("preview.html"),
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a few items through every stage, without Ray, and write a page to check before a long run."""
    report = api.preview(recipe, n, k=_parts(k), thresholds=_parts(threshold), page=out, overrides=set_ or [])
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
    say(console, f"wrote {out}")


@app.command()
def build(
    recipe: RecipeArgument,
    out: OutOption,
    set_: SetOption = None,
    mode: Annotated[
        str,
        typer.Option(
            help="resume: make the missing shards; extend: add items of the source that are not planned; again: add "
            "all items once more, by this recipe; overwrite: delete the output and start again"
        ),
    ] = "resume",
    address: AddressOption = "local",
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a data set, finish one that was stopped, or extend it."""
    from flawforge.commands.running import watched

    loaded = load_recipe(recipe, set_ or [])
    screen = Console(stderr=True) if as_json else console
    with usage(), watched(screen) as callbacks:
        total = api.build(
            loaded, out, mode=cast(api.ModeName, mode), take_over=take_over, address=address, **callbacks
        )
    conclude(total, out, loaded.limits.rejects, screen, "items", as_json=as_json)


def conclude(
    total: Progress, out: str, most_rejects: float, screen: Console, things: str, *, as_json: bool
) -> None:
    """Prints the counts of a finished output; exits with `TOO_MANY_REJECTS` if more were rejected than allowed."""
    from eval.gallery import PATH

    if as_json:
        print_json({**asdict(total), "out": redact(out)})
    else:
        say(console, summary(total))
        if total.skipped:
            say(console, "passed over while listing the source: " + counts(total.skipped))
        shown = redact(out)
        say(console, f"{shown}/{PATH} shows a sample of them; flawforge verify {shown} checks them all")
    share = total.rejected / total.planned
    if share > most_rejects:
        screen.print(f"rejected {share:.1%} of the {things}; limits.rejects is {most_rejects:.1%}")
        raise typer.Exit(TOO_MANY_REJECTS)


@app.command()
def scan(
    recipe: RecipeArgument,
    out: OutOption,
    set_: SetOption = None,
    near: Annotated[
        int,
        typer.Option(
            min=0, max=16, help="near duplicates: perceptual hashes differ in at most this many of 64 bits"
        ),
    ] = 4,
    exact: Annotated[bool, typer.Option("--exact", help="leave out only images with the same bytes")] = False,
    address: CheckAddressOption = None,
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check every image of a source, and plan those that are readable and not duplicates."""
    from factory.dedup.scan import scan as run
    from factory.recipe.recipe import load_recipe
    from flawforge.commands.running import stoppable

    screen = Console(stderr=True) if as_json else console
    with stoppable(), screen.status("listing the source") as shown:
        found = run(
            load_recipe(recipe, set_ or []),
            out,
            nearness=None if exact else near,
            address=address,
            take_over=take_over,
            show=lambda count: shown.update(f"{count:,} images checked"),
            tell=partial(say, screen),
        )
    if as_json:
        print_json({**asdict(found), "out": redact(out)})
        return
    left = counts(found.reasons) or "nothing left out"
    say(console, f"{found.items:,} images checked, {found.planned:,} planned; {left}")
    say(console, f"{out}/{found.table} has a row for each; flawforge build {recipe} --out {out} makes them")


@app.command()
def status(
    url: UrlArgument,
    watch: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="repeat at this interval until the output is complete"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the progress and the speed of a build or a training, from any machine that can read the output."""
    from flawforge.commands.status import show

    show(console, url, as_json=as_json, every=watch)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
