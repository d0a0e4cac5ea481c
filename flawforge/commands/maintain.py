"""Commands on an output: verify, gallery, inspect, replay, retry-rejects, merge, split, manifest."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from actors.redaction import redact
from flawforge import api
from flawforge.commands.options import (
    AddressOption,
    CheckAddressOption,
    JsonOption,
    TakeOverOption,
    UrlArgument,
)
from flawforge.commands.printing import console, counts, print_json, say

if TYPE_CHECKING:
    from factory.store.storage import Storage

FAILED = 1

app = typer.Typer()


class Duplicates(StrEnum):
    """What `merge` does with a key that occurs twice."""

    REFUSE = "refuse"
    FIRST = "first"


class By(StrEnum):
    """The unit that `split` assigns to a side."""

    SHARD = "shard"
    KEY = "key"


@app.command()
def verify(
    url: UrlArgument,
    address: CheckAddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every shard against plan, index and sidecar. Exit code 1 when anything is wrong or missing."""
    verdict = api.verify(url, address=address)
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
    raise typer.Exit(0 if verdict.sound else FAILED)


@app.command()
def gallery(
    url: UrlArgument, tiles: Annotated[int, typer.Option(min=1, help="samples to show")] = 200
) -> None:
    """Write the gallery page of an output."""
    from eval.gallery import PATH, write_gallery
    from factory.output.identity import read_identity
    from factory.output.plan import read_plan
    from factory.output.provenance import is_import, is_merged, is_prediction, parts_of
    from factory.store.storage import Storage

    storage = Storage(url)
    identity, _ = read_identity(storage)
    if is_prediction(identity):
        from eval.predict.gallery import write_prediction_gallery

        shown = write_prediction_gallery(storage, tiles=tiles)
    else:
        merged = is_merged(identity)
        name = str(identity.content["name"]) if merged else parts_of(storage, read_plan(storage))[0].name
        if is_import(identity):
            from eval.imports.gallery import write_import_gallery as write_gallery
        shown = write_gallery(storage, name, tiles=tiles)
    say(console, f"{redact(url)}/{PATH} shows {shown} samples")


@app.command()
def inspect(
    url: UrlArgument,
    key: Annotated[str, typer.Argument(help="key of an item")],
    out: Annotated[Path | None, typer.Option(help="folder to write its images and JSON into")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything that is known about one item. Exit code 1 when something is wrong with it."""
    from factory.maintain import inspect as built
    from factory.store.storage import Storage

    storage = Storage(url)
    if _is_import(storage):
        from eval.imports import inspect as imported

        item = imported.inspect_import(storage, key)
        written = imported.write_images(item, out) if out else []
    else:
        item = built.inspect(storage, key)
        written = built.write_images(item, out) if out else []
    if as_json:
        print_json({**item.document, "written": [str(path) for path in written]})
    else:
        say(console, f"{item.key}: {item.status}")
        for problem in item.problems:
            say(console, f"wrong: {problem}")
        for title, section in (
            ("plan", item.plan),
            ("made by", item.made_by),
            ("shard", item.shard),
            ("index", item.index),
            ("json", item.about or {}),
        ):
            _section(title, section)
        for file in item.files:
            size = f", {file.size[0]} x {file.size[1]} pixels" if file.size else ""
            say(console, f"file {file.name}: {file.bytes:,} bytes{size}, sha256 {file.sha256}")
        for path in written:
            say(console, f"wrote {path}")
    raise typer.Exit(FAILED if item.problems else 0)


@app.command()
def replay(
    url: UrlArgument,
    keys: Annotated[list[str] | None, typer.Argument(help="keys of items", metavar="KEY...")] = None,
    count: Annotated[
        int, typer.Option("--random", min=0, help="number of additional items, drawn at random")
    ] = 0,
    seed: Annotated[int, typer.Option(help="seed of --random")] = 0,
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="make each item together with all other items of its shard")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="change the recipe: execution.corrupt.gpus=0 replays on the CPU"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make samples again from recipe, plan and key, and compare them. Exit code 1 when something differs."""
    if not keys and not count:
        raise typer.BadParameter("name keys, or give --random N", param_hint="KEY")
    from factory.maintain.replay import replay as make
    from factory.store.storage import Storage

    report = make(
        Storage(url), keys or [], count=count, seed=seed, overrides=set_ or [], neighbours=neighbours
    )
    if as_json:
        items = [{**asdict(item), "identical": item.identical} for item in report.items]
        print_json({"identical": report.identical, "notes": list(report.notes), "items": items})
    else:
        for note in report.notes:
            say(console, f"differs from the build: {note}")
        for item in report.items:
            if item.identical:
                what = item.here if not item.compared else ", ".join(item.compared)
                say(console, f"{item.key}: identical ({what})")
                continue
            if item.there != item.here:
                say(console, f"{item.key}: was {item.there}, is now {item.here}")
            for file in item.differences:
                levels = (
                    "" if file.largest is None else f", at most {file.largest}, on average {file.mean:.4g}"
                )
                say(
                    console,
                    f"{item.key}: {file.name} differs: {file.what}{levels}{' grey levels' if levels else ''}",
                )
        same = sum(item.identical for item in report.items)
        say(console, f"{same} of {len(report.items)} identical")
    raise typer.Exit(0 if report.identical else FAILED)


@app.command("retry-rejects")
def retry_rejects(
    url: UrlArgument,
    reason: Annotated[
        list[str] | None, typer.Option("--reason", help="only rejects with this reason; repeatable")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="the rule to change, such as verify.least_inside=0.1; repeatable"),
    ] = None,
    address: AddressOption = "local",
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try rejected items again by a changed rule, and add those that are accepted now."""
    from factory.maintain.retry_rejects import retry_rejects as run
    from flawforge.commands.running import watched

    with watched(Console(stderr=True) if as_json else console) as callbacks:
        retried = run(
            url, reasons=reason or [], overrides=set_ or [], take_over=take_over, address=address, **callbacks
        )
    if as_json:
        print_json({**asdict(retried), "out": redact(url)})
        return
    left = f" ({counts(retried.reasons)})"
    say(
        console,
        f"{retried.items:,} rejected items tried again: {retried.accepted:,} accepted, "
        f"{retried.items - retried.accepted:,} rejected{left if retried.reasons else ''}; "
        f"{url} has {retried.total.accepted:,} samples now",
    )


@app.command()
def merge(
    out: Annotated[str, typer.Argument(help="the new output: a new or empty folder or URL")],
    urls: Annotated[list[str], typer.Argument(help="complete outputs, two or more", metavar="URL URL...")],
    duplicates: Annotated[
        Duplicates, typer.Option(help="for items with the same key: refuse to merge, or keep the first")
    ] = Duplicates.REFUSE,
    name: Annotated[str, typer.Option(help="name of the new data set; default: the last part of OUT")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a new output with the shards of several complete ones, copied byte for byte."""
    from factory.maintain.merge import merge as run

    merged = run(out, urls, first_wins=duplicates is Duplicates.FIRST, name=name)
    if as_json:
        print_json({**asdict(merged), "out": redact(out)})
        return
    total = merged.total
    say(
        console,
        f"{total.accepted:,} samples in {total.shards:,} shards, {total.rejected:,} rejected; "
        f"{merged.copied:,} shards copied as they are, {merged.rewritten:,} written without duplicates, "
        f"{merged.left_out:,} items left out",
    )
    say(console, f"flawforge verify {out} checks them all")


@app.command()
def split(
    url: UrlArgument,
    val: Annotated[float, typer.Option(help="share for validation, above 0 and below 1")] = 0.1,
    seed: Annotated[int, typer.Option(help="another seed gives another split")] = 0,
    by: Annotated[By, typer.Option(help="assign whole shards, for streaming, or single samples")] = By.SHARD,
    as_json: JsonOption = False,
) -> None:
    """Write lists for training and validation that share no source image."""
    if not 0 < val < 1:
        raise typer.BadParameter("allowed: above 0 and below 1", param_hint="--val")
    from factory.maintain.split import TRAIN, VALIDATION
    from factory.maintain.split import split as assign
    from factory.store.storage import Storage

    made = assign(Storage(url), share=val, seed=seed, by_key=by is By.KEY)
    if as_json:
        print_json(asdict(made))
        return
    lists = (
        (TRAIN, made.train, made.train_samples),
        (VALIDATION, made.validation, made.validation_samples),
    )
    for path, lines, samples in lists:
        shards = "" if by is By.KEY else f" in {len(lines):,} shards"
        say(console, f"{url}/{path}: {samples:,} samples{shards}")


@app.command()
def manifest(url: UrlArgument, as_json: JsonOption = False) -> None:
    """Write manifest.json and the dataset card from plan, identity, recipe and sidecars."""
    from factory.output.rebuild import rebuild
    from factory.store.storage import Storage

    storage = Storage(url)
    if _is_import(storage):
        from eval.imports.job import rewrite_documents
        from flawforge.imports import imported_set

        total = rewrite_documents(imported_set(storage), storage).total
    else:
        total = rebuild(storage)
    if as_json:
        print_json({**asdict(total), "complete": total.complete})
        return
    say(
        console,
        f"{url}/manifest.json and README.md: {total.accepted:,} samples, {total.done} of {total.shards} shards",
    )


def _is_import(storage: Storage) -> bool:
    """Whether an output was made by `flawforge import`; one without an identity is left to whatever reads it."""
    from factory.output.identity import PATH, read_identity
    from factory.output.provenance import is_import

    return storage.exists(PATH) and is_import(read_identity(storage)[0])


def _section(title: str, values: Any) -> None:
    if values:
        say(console, f"{title}:")
    for name, value in values.items():
        say(console, f"  {name}: {value}")
