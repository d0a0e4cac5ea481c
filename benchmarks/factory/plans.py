"""A plan of ten million items, and a resume over it with half of its shards done."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.factory.usage import Usage
from factory.output.reference import Reference

PER_SHARD = 128
MORE = 40
"""Shards that the resume makes before it is stopped."""

RECIPE = """
name: plan
source: {kind: images, urls: [/nowhere], size: 64, fields: {mask: mask.png}}
regions: {kind: source}
corruption: {method: blur, target: image}
output: {samples_per_shard: 128, original: false}
execution:
  load: {cpus: 0.25}
  select: {cpus: 0.25}
  corrupt: {cpus: 0.25}
  write: {cpus: 0.25}
"""


def references(count: int) -> Iterator[Reference]:
    """As long as those of a real source: keys of 40 letters, a place in a tar, a caption, an etag."""
    for number in range(count):
        tar = number // 10_000
        yield Reference(
            f"train-{tar:05d}_{number:012d}-{number * 2654435761 % 2**64:016x}",
            f"s3://bucket/clean-images/2026/train-{tar:05d}.tar",
            f'{{"stem":"{number:012d}","image":[{512 * number},98304]}}',
            "a photograph of two people who shake hands in front of a small blue house",
            f"{tar:032x}-12",
        )


def draw(items: int, out: str) -> None:
    """A program of its own: draws the plan and begins the output."""
    from factory.output.identity import Identity
    from factory.output.versions import begin
    from factory.recipe.recipe import parse_recipe
    from factory.store.storage import Storage

    recipe = parse_recipe(RECIPE, "plan.yaml")
    begin(Storage(out), recipe, Identity.of(recipe), references(items), {})
    time.sleep(0.5)  # for the last look at the processes


def mark_half(out: Path) -> int:
    """Gives every second shard the sidecar of a done one; how many that are."""
    from factory.output.identity import read_identity
    from factory.output.plan import read_plan
    from factory.output.schema import SCHEMA_VERSION
    from factory.store.storage import Storage

    storage = Storage(str(out))
    plan, identity = read_plan(storage), read_identity(storage)[0]
    (out / "stats").mkdir()
    done = range(0, plan.shards, 2)
    for number in done:
        document = {
            "schema_version": SCHEMA_VERSION,
            "shard": number,
            "digest": identity.digest,
            "planned": plan.size(number),
            "accepted": plan.size(number) - 3,
            "rejected": 3,
            "unverified": 0,
            "reasons": {"unchanged": 2, "damaged": 1},
            "unet_rows": 4400,
            "tar": {"bytes": 12_345_678, "sha256": f"{number:064x}"},
            "index": {"bytes": 23_456, "sha256": f"{number:064x}"},
            "seconds": {"load": 1.5, "select": 2.5, "corrupt": 40.25, "write": 0.75},
        }
        (out / f"stats/{number:06d}.json").write_text(json.dumps(document))
    return len(done)


def resume(out: str, report: str) -> None:
    """A program of its own: goes on with the build, and ends it after `MORE` shards."""
    from benchmarks.factory.pretence import connect, images_of, sleeping
    from factory.build import build
    from factory.recipe.recipe import parse_recipe

    began, published = time.monotonic(), list[float]()

    def show(tally: object) -> None:
        published.append(time.monotonic() - began)
        if len(published) > MORE:
            Path(report).write_text(json.dumps({"ready": published[0], "first": published[1]}))
            time.sleep(1)
            raise KeyboardInterrupt

    # The content of images does not matter here, only their number.
    connect("local", images_of(1000), sleeping("SelectRegions", 0.0), sleeping("Corrupt", 0.0))
    try:
        build(parse_recipe(RECIPE, "plan.yaml"), out, show=show)
    except KeyboardInterrupt:
        return


def measure(items: int, work: Path, console: Console) -> None:
    out, report = work / "plan", work / "report"
    for what, arguments in (("draw", [str(items), str(out)]), ("resume", [str(out), str(report)])):
        usage = Usage()
        usage.start()
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "benchmarks.factory", what, *arguments], check=True)
        seconds = time.monotonic() - began
        usage.stop()
        peaks = ", ".join(f"{role} {size / 2**20:.0f} MiB" for role, size in sorted(usage.peak.items()))
        console.print(f"{what}: {seconds:.0f} s; {sum(usage.cpu.values()):.0f} CPU s; most memory: {peaks}")
        if what == "draw":
            size = (out / "plan.parquet").stat().st_size
            console.print(f"plan of {items:,} items: {size / 2**20:.0f} MiB; {mark_half(out):,} shards done")
        else:
            times = json.loads(report.read_text())
            console.print(
                f"resume: plan and sidecars read after {times['ready']:.0f} s, "
                f"the first shard after {times['first']:.0f} s"
            )
