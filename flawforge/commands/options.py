"""Arguments and options that several commands share, and errors in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from actors.errors import ArgumentError
from factory.recipe.recipe import SHIPPED

RecipeArgument = Annotated[
    str, typer.Argument(help=f"a YAML file, or a shipped recipe: {', '.join(SHIPPED)}")
]
UrlArgument = Annotated[str, typer.Argument(help="an output: a folder, or a URL such as s3://bucket/folder")]
OutOption = Annotated[str, typer.Option(help="a folder, or a URL such as s3://bucket/folder")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="change the recipe: a.b=value; repeatable")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
AddressOption = Annotated[str, typer.Option(help="a Ray cluster; 'local' starts one here, 'auto' joins one")]
CheckAddressOption = Annotated[
    str | None, typer.Option(help="check on the workers of a Ray cluster instead of on threads here")
]
TakeOverOption = Annotated[
    bool, typer.Option("--take-over", help="continue even if another run seems to be active on the output")
]


@contextmanager
def usage() -> Iterator[None]:
    """Report an ArgumentError of the Python API as wrong usage of the option with that name."""
    try:
        yield
    except ArgumentError as error:
        raise typer.BadParameter(error.text, param_hint=f"--{error.argument}") from None
