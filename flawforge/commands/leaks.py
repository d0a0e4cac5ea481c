"""The command `leaks`: samples of a data set that a test set also has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from actors.redaction import redact
from flawforge.commands.options import JsonOption
from flawforge.commands.printing import cell, console, print_json, say

_SHOWN = 20

app = typer.Typer()


@app.command()
def leaks(
    data: Annotated[str, typer.Argument(help="an output of flawforge build, or tars with images")],
    against: Annotated[
        list[str], typer.Option(help="a test set: an output, tars, or tinytown/validation; repeatable")
    ],
    captions: Annotated[bool, typer.Option(help="equal captions count, and not only equal images")] = True,
    as_json: JsonOption = False,
) -> None:
    """Find samples whose image or caption a test set also has; exit with 1 if there are any."""
    from train.leak_guard import find

    samples, found = find(data, against, captions=captions)
    if as_json:
        print_json({"data": redact(data), "samples": samples, "leaks": [asdict(one) for one in found]})
    else:
        say(console, f"{len(found):,} of {samples:,} samples of {redact(data)} are in a test set, too")
        if found:
            table = Table("sample", "has the", "as", title=f"the first {min(len(found), _SHOWN)}")
            for one in found[:_SHOWN]:
                table.add_row(cell(one.sample), one.how, cell(one.test))
            console.print(table)
    raise typer.Exit(1 if found else 0)
