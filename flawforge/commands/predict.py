"""The command `predict`: marks artifacts in images without labels."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from eval.predict.recipe import SHIPPED, load_prediction
from flawforge import predicting
from flawforge.commands.build import conclude
from flawforge.commands.options import (
    AddressOption,
    JsonOption,
    OutOption,
    SetOption,
    TakeOverOption,
    usage,
)
from flawforge.commands.printing import console

app = typer.Typer()


@app.command()
def predict(
    recipe: Annotated[str, typer.Argument(help=f"a YAML file, or a shipped recipe: {', '.join(SHIPPED)}")],
    out: OutOption,
    set_: SetOption = None,
    mode: Annotated[
        predicting.PredictMode,
        typer.Option(help="resume: make the missing shards; overwrite: delete the output and start again"),
    ] = "resume",
    address: AddressOption = "local",
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Mark artifacts in images with a detector: score maps, masks and figures as shards."""
    from flawforge.commands.running import watched

    loaded = load_prediction(recipe, set_ or [])
    screen = Console(stderr=True) if as_json else console
    with usage(), watched(screen) as callbacks:
        total = predicting.predict(loaded, out, mode=mode, take_over=take_over, address=address, **callbacks)
    conclude(total, out, loaded.limits.rejects, screen, "images", as_json=as_json)
