"""The main job on the embedded world: clean scenes to verified shards to a page."""

from __future__ import annotations

import time

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from eval.gallery import PATH, write_gallery
from factory.build import build
from factory.manifest import Progress
from factory.monitor import monitor
from factory.recipe import load_recipe
from factory.shards.check import verify
from factory.storage import Storage


def run(console: Console, out: str, items: int) -> int:
    """Builds the recipe `quickstart` into `out`, checks it, and says what was made. Returns the exit code."""
    began = time.monotonic()
    recipe = load_recipe("quickstart", [f"source.limit={items}"])
    console.print(f"[bold]Flawforge[/] breaks {items} clean scenes of its embedded world in chosen regions.")
    console.print("The recipe: flawforge plan quickstart\n")
    with monitor(console) as view:
        total = build(recipe, out, show=view.show)
    storage = Storage(out)
    write_gallery(storage, recipe.name)
    verdict = verify(storage)
    for problem in verdict.problems:
        console.print(f"wrong: {problem}", markup=False, highlight=False)
    words = _closing(out, total, sound=verdict.sound)
    seconds = int(time.monotonic() - began)
    console.print(Panel(words, title=f"done in {seconds // 60}:{seconds % 60:02d}", expand=False))
    return 0 if verdict.sound else 1


def _closing(out: str, total: Progress, *, sound: bool) -> Text:
    reasons = ", ".join(f"{count} {reason}" for reason, count in total.reasons.items()) or "none"
    state = "every item and every shard accounted for" if sound else "NOT SOUND, see above"
    lines = (
        f"{total.accepted} images with artifacts and their masks, in {total.done} shards",
        f"{total.rejected} items rejected: {reasons}",
        f"{total.accepted} + {total.rejected} = {total.planned} planned; {state}",
        "",
        f"look      {out}/{PATH}   (any browser, no server)",
        f"shards    {out}/shards/*.tar   (WebDataset)",
        f"totals    {out}/manifest.json, {out}/README.md",
        "",
        "next",
        "  flawforge preview quickstart --k 10,25     how strong should it be?",
        f"  flawforge verify {out}",
        "  recipes/images.yaml                        for your own pictures: copy it, change it",
    )
    return Text("\n".join(lines))
