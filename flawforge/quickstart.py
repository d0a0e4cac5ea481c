"""The main job on the embedded world: clean scenes to verified shards to a page."""

from __future__ import annotations

import time

from rich.console import Console
from rich.panel import Panel

from eval.gallery import PATH, write_gallery
from factory.build import build
from factory.identity import read_identity
from factory.manifest import Progress
from factory.monitor import monitor
from factory.plan import read_plan
from factory.recipe import load_recipe
from factory.shards.check import verify
from factory.storage import Storage


def run(console: Console, out: str, items: int) -> int:
    """Builds the recipe `quickstart` into `out`, checks it, and says what was made. Returns the exit code."""
    began = time.monotonic()
    recipe = load_recipe("quickstart", [f"source.limit={items}"])
    console.print(
        f"[bold]Flawforge[/] breaks {items} clean scenes of its embedded world, each in one region."
    )
    console.print("Look at the recipe with: flawforge plan quickstart\n")
    with monitor(console) as view:
        total = build(recipe, out, show=view.show)
    storage = Storage(out)
    write_gallery(storage, recipe.name)
    verdict = verify(storage, read_plan(storage), read_identity(storage).digest)
    for problem in verdict.problems:
        console.print(f"[red]wrong[/] {problem}", highlight=False)
    console.print(_closing(out, total, sound=verdict.sound, seconds=time.monotonic() - began))
    return 0 if verdict.sound else 1


def _closing(out: str, total: Progress, *, sound: bool, seconds: float) -> Panel:
    reasons = ", ".join(f"{count} {reason}" for reason, count in total.reasons.items()) or "none"
    state = "every byte and every item accounted for" if sound else "[red]not sound, see above[/]"
    return Panel(
        f"[bold]{total.accepted}[/] images with artifacts and their masks, in {total.done} shards\n"
        f"{total.rejected} items rejected: {reasons}\n"
        f"{total.accepted} + {total.rejected} = {total.planned} planned; {state}\n\n"
        f"look      [bold]{out}/{PATH}[/]  (any browser, no server)\n"
        f"shards    {out}/shards/*.tar   WebDataset: image, mask, changed, original, json\n"
        f"totals    {out}/manifest.json, {out}/README.md\n\n"
        "next\n"
        "  flawforge preview quickstart --k 5,10,20,30     how strong should it be?\n"
        f"  flawforge build quickstart --set corruption.method=none --out {out}-none\n"
        "  flawforge build images --set 'source.urls=[/my/pictures]' --out out/mine\n",
        title=f"done in {int(seconds // 60)}:{int(seconds % 60):02d}",
        expand=False,
    )
