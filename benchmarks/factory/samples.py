"""What a sample costs: 1,000, 10,000 and 100,000 of them through the real stages, with a model that does nothing."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.factory.usage import Usage

PER_TAR = 1000
REPEATS = 3
ONCE = 100_000
"""Builds of at least this many samples are made once."""

RECIPE = """
name: samples
source:
  kind: webdataset
  urls: [SOURCE/*.tar]
  size: 64
  fields: {image: [image.png], mask: mask.png}
regions: {kind: source}
corruption: {method: blur, target: image}
output: {samples_per_shard: 250}
execution:
  load: {cpus: 0.25, smallest: 2, largest: 2}
  select: {cpus: 0.25}
  corrupt: {cpus: 0.25}
  write: {cpus: 0.25}
"""


@dataclass(frozen=True)
class Run:
    """A build of `samples` samples.

    Attributes:
        cpu: seconds by role.
        peak: bytes of private memory of the largest process, by role.
        seconds: wall time, from the start of the program to its end.
        stored: by stage, bytes of the images that it passed on, of the tables, and of the objects in Ray's store.
    """

    samples: int
    cpu: dict[str, float]
    peak: dict[str, int]
    seconds: float
    stored: dict[str, tuple[int, int, int]]

    @property
    def total(self) -> float:
        return sum(self.cpu.values())


def make_source(folder: Path, samples: int) -> None:
    """Tars of `PER_TAR` rendered scenes with masks. They are links to one file, under names of their own."""
    from factory.sources.choice import Choice
    from factory.sources.tinytown import TinytownSource

    folder.mkdir(parents=True)
    source = TinytownSource(choice=Choice(limit=PER_TAR), run_seed=0)
    first = folder / "part-000.tar"
    with tarfile.open(first, "w", format=tarfile.USTAR_FORMAT) as tar:
        for reference, raw in source.read(list(source.list())):
            for name, data in (("image.png", raw.image), ("mask.png", raw.mask)):  # type: ignore[union-attr]
                header = tarfile.TarInfo(f"{reference.key}.{name}")
                header.size = len(data or b"")
                tar.addfile(header, io.BytesIO(data or b""))
    for number in range(1, samples // PER_TAR):
        (folder / f"part-{number:03d}.tar").hardlink_to(first)


def drive(source: str, out: str, ledger: str) -> None:
    """A program of its own: builds, and writes down what Ray Data reports of its operators."""
    from benchmarks.factory.pretence import connect, no_model
    from benchmarks.factory.pretence import ledger as keep
    from factory.build import build
    from factory.pipeline import pipeline
    from factory.recipe.recipe import parse_recipe

    datasets = []
    build_pipeline = pipeline._pipeline

    def recorded(*arguments: object) -> object:
        datasets.append(build_pipeline(*arguments))  # type: ignore[arg-type]
        return datasets[-1]

    pipeline._pipeline = recorded  # type: ignore[assignment]
    connect("local", no_model(), keep(ledger))
    total = build(parse_recipe(RECIPE.replace("SOURCE", source), "samples.yaml"), out)
    assert total.complete and total.accepted == total.planned, total
    Path(f"{ledger}.ray").write_text(json.dumps(_stored(datasets[-1])))
    time.sleep(1)  # for the last look at the processes


def _stored(dataset: object) -> dict[str, int]:
    """Bytes of the objects that each operator put into the store, by stage."""
    summary = dataset._get_stats_summary()  # type: ignore[attr-defined]
    found: dict[str, int] = {}
    while summary is not None:
        for one in summary.operators_stats:
            if one.output_size_bytes:
                found[one.operator_name] = int(one.output_size_bytes.sum)
        summary = summary.parents[0] if summary.parents else None
    return found


def through_the_factory(samples: int, work: Path) -> Run:
    """A build; of small ones, whose start weighs as much as their samples, the median of three."""
    make_source(work / f"source-{samples}", samples)
    runs = sorted(
        (_build(samples, work) for _ in range(REPEATS if samples < ONCE else 1)), key=lambda run: run.total
    )
    return runs[len(runs) // 2]


def _build(samples: int, work: Path) -> Run:
    source, out, ledger = work / f"source-{samples}", work / f"out-{samples}", work / f"ledger-{samples}"
    shutil.rmtree(out, ignore_errors=True)
    ledger.write_text("")
    usage = Usage()
    usage.start()
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.factory", "drive", str(source), str(out), str(ledger)], check=True
    )
    seconds = time.monotonic() - began
    usage.stop()
    stored: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for line in ledger.read_text().splitlines():
        stage, encoded, table = json.loads(line)
        stored[stage][0] += encoded
        stored[stage][1] += table
    for operator, size in json.loads(Path(f"{ledger}.ray").read_text()).items():
        for stage, name in (("load", "Load"), ("select", "SelectRegions"), ("corrupt", "Corrupt")):
            if operator.endswith(f"MapBatches({name})"):
                stored[stage][2] = size
    return Run(samples, usage.cpu, dict(usage.peak), seconds, {k: (*v,) for k, v in stored.items()})  # type: ignore[misc]


def in_a_loop(samples: int, work: Path) -> dict[str, float]:
    """CPU seconds of a sample: the same plan and stages, one shard after the other in this process, without Ray.

    By role: `driver` lists the source and draws the plan, the others are the stages' classes.
    """
    from benchmarks.factory.pretence import no_model
    from factory.output.identity import Identity
    from factory.output.plan import read_plan
    from factory.output.schema import ShardOfSamples
    from factory.output.shards.writer import write_shard
    from factory.output.versions import begin
    from factory.pipeline import stages
    from factory.recipe.recipe import parse_recipe
    from factory.sources import open_source
    from factory.store.storage import Storage

    recipe = parse_recipe(RECIPE.replace("SOURCE", str(work / f"source-{samples}")), "samples.yaml")
    storage = Storage(str(work / f"loop-{samples}"))
    no_model()()
    identity = Identity.of(recipe)
    corrupt = stages.Corrupt(recipe, storage.url, identity).make()
    regions, select = stages.region_selector(recipe), stages.image_selector(recipe)
    source = open_source(recipe.source, recipe.seed)
    how = stages.provenance(recipe, identity.digest)
    spent = dict.fromkeys(("driver", *_STAGES), 0.0)
    clock = time.process_time()

    def done(stage: str) -> None:
        nonlocal clock
        before, clock = clock, time.process_time()
        spent[stage] += clock - before

    begin(storage, recipe, identity, source.list(), source.skipped)
    plan = read_plan(storage)
    done("driver")
    for number in range(plan.shards):
        loaded = stages.load(source, plan.shard(number), select=select)
        done("Load")
        selected = regions(loaded)
        done("SelectRegions")
        made = corrupt(selected)
        done("Corrupt")
        write_shard(storage, ShardOfSamples(number, made), how, original=recipe.output.original)
        done("Write")
    return {role: seconds / samples for role, seconds in spent.items()}


def report(runs: Sequence[Run], loop: Mapping[str, float], console: Console) -> None:
    """Prints the figures. `loop` is the CPU of a sample in a plain loop, in seconds by role."""
    alone = sum(loop.values())
    table = Table(
        "samples", "CPU s", "CPU ms per sample, marginal", "above the loop", "wall s", "driver", "worker"
    )
    for before, run in zip([None, *runs[:-1]], runs, strict=True):
        marginal = above = "-"
        if before is not None:
            each = (run.total - before.total) / (run.samples - before.samples)
            marginal, above = f"{1e3 * each:.2f}", f"{1e3 * (each - alone):+.2f} ms"
        workers = max((size for role, size in run.peak.items() if role in _STAGES), default=0)
        table.add_row(
            f"{run.samples:,}",
            f"{run.total:.1f}",
            marginal,
            above,
            f"{run.seconds:.0f}",
            f"{run.peak.get('driver', 0) / 2**20:.0f} MiB",
            f"{workers / 2**20:.0f} MiB",
        )
    console.print(table)
    console.print(f"plain loop: {_by_role(loop)}")
    first, second = runs[0], runs[-1]
    marginals = {
        role: (second.cpu.get(role, 0.0) - first.cpu.get(role, 0.0)) / (second.samples - first.samples)
        for role in {*first.cpu, *second.cpu}
    }
    console.print(f"from the first run to the last: {_by_role(marginals)}")
    fixed = {role: spent - marginals[role] * first.samples for role, spent in first.cpu.items()}
    parts = ", ".join(f"{role} {spent:.1f}" for role, spent in sorted(fixed.items()))
    console.print(f"fixed cost {sum(fixed.values()):.1f} CPU s ({parts})")
    for stage, (encoded, packed, stored) in second.stored.items():
        console.print(
            f"{stage}: {packed / encoded:.3f} bytes in tables, {stored / encoded:.3f} in Ray's object store per byte "
            "of images"
        )


def _by_role(seconds: Mapping[str, float]) -> str:
    parts = ", ".join(f"{role} {1e3 * spent:.2f}" for role, spent in sorted(seconds.items()))
    return f"{1e3 * sum(seconds.values()):.2f} CPU ms per sample ({parts})"


_STAGES = ("Load", "SelectRegions", "Corrupt", "Write")
