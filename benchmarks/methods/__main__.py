"""Every corruption at every depth on the shipped weights: `python -m benchmarks.methods`.

Writes the tables of docs/methods.md between its two markers, and the images of docs/methods.png. Draws are
saved in the work folder batch by batch, so that a stopped run continues where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from actors.corruption.methods import METHODS
from actors.corruption.round_trip import RoundTrip
from actors.corruption.verifier import Verifier
from actors.diffusion.model import DiffusionModel
from benchmarks.methods.draws import cases, measure, read_cases, read_outcomes, save_cases, save_outcomes
from benchmarks.methods.grid import grid, varied
from benchmarks.methods.marks import chosen, mark_all
from benchmarks.methods.results import Results
from benchmarks.methods.tables import explanation, report
from factory.recipe.recipe import Recipe, load_recipe

FIRST_SEED = 3_000_000
"""Of scenes on which no limit was chosen."""

LIMITS = ("changed_threshold", "least_inside", "most_outside")
"""Of the verifier; they stand in the report, with its margin in pixels."""

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def draw(work: Path, recipe: Recipe, samples: int, *, steps: Sequence[int], batch: int, threads: int) -> None:
    """Fills the work folder: `run.json`, `scenes.parquet`, and a `draws-NNNN.parquet` for every batch.

    Raises:
        SystemExit: the folder holds a run with other settings.
    """
    work.mkdir(parents=True, exist_ok=True)
    model = DiffusionModel(recipe.corruption.model, device="cpu")
    verifier = Verifier(recipe.verify, vae_scale_factor=model.vae_scale_factor)
    run: dict[str, Any] = {
        "samples": samples,
        "methods": list(METHODS),
        "steps": list(steps),
        "batch": batch,
        "limits": recipe.verify.model_dump(include=set(LIMITS)) | {"margin": verifier.margin},
        "seed": recipe.seed,
        "source": recipe.source.model_dump(mode="json"),
        "regions": recipe.regions.model_dump(mode="json"),
    }
    settings = work / "run.json"
    if settings.exists() and json.loads(settings.read_text()) != run:
        raise SystemExit(
            f"{work} holds a run with other settings, see {settings}; take another --work, or empty it"
        )
    settings.write_text(json.dumps(run, indent=2) + "\n")
    if not (work / "scenes.parquet").exists():
        save_cases(cases(recipe, samples), work / "scenes.parquet")
    # The region selector has set the recipe's number of threads.
    torch.set_num_threads(threads)
    found, round_trip = read_cases(work / "scenes.parquet"), RoundTrip(model)
    batches = {
        work / f"draws-{first // batch:04d}.parquet": found[first : first + batch]
        for first in range(0, len(found), batch)
    }
    missing = {path: group for path, group in batches.items() if not path.exists()}
    began, left = time.monotonic(), sum(map(len, missing.values()))
    total = left
    for path, group in missing.items():
        save_outcomes(measure(round_trip, group, verifier, steps, recipe.seed), path)
        left -= len(group)
        seconds = (time.monotonic() - began) / (total - left) * left
        _progress(f"{path.name}: {left} scenes left, about {seconds / 60:.1f} minutes")


def write_report(work: Path, out: Path, annotated: int) -> None:
    """Writes the tables and images of the draws in the work folder, and annotates what is not annotated yet.

    Args:
        work: that `draw` has filled, at least by one batch.
        out: folder of `methods.md`, of which only the text between the markers is replaced, and of `methods.png`.
        annotated: images per row, at most, that the annotator processes.

    Raises:
        SystemExit: nothing was drawn.
        ValueError: the page has no markers.
    """
    paths = sorted(work.glob("draws-*.parquet"))
    if not paths:
        raise SystemExit(f"{work} holds no draws; run without --only-report first")
    results = Results(outcome for path in paths for outcome in read_outcomes(path))
    found = {case.key: case for case in read_cases(work / "scenes.parquet") if case.key in set(results.keys)}
    groups, began = chosen(results, annotated), time.monotonic()

    def progress(done: int, count: int) -> None:
        seconds = (time.monotonic() - began) / done * (count - done)
        _progress(f"{done} of {count} images annotated, about {seconds / 60:.1f} minutes left")

    marks = mark_all(groups, found, work / "annotations.parquet", progress)
    limits = json.loads((work / "run.json").read_text())["limits"]
    text = explanation(limits, len(results.keys)) + "\n\n" + report(results, groups, marks)
    out.mkdir(parents=True, exist_ok=True)
    page = out / "methods.md"
    before = page.read_text() if page.exists() else f"# Corruptions\n\n{BEGIN}\n{END}\n"
    page.write_text(between(before, text))
    grid(varied(list(found.values())), results).save(out / "methods.png", optimize=True)


def between(page: str, text: str) -> str:
    """The page with `text` in place of what stands between the markers.

    Raises:
        ValueError: a marker is missing.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or, after it, {END}")
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 15, 20], help="every k, rising")
    parser.add_argument("--batch", type=int, default=64, help="scenes that are drawn and saved together")
    parser.add_argument("--annotated", type=int, default=16, help="annotated images per row, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--work", type=Path, default=Path("out/methods"))
    parser.add_argument("--only-report", action="store_true", help="draw nothing; report the existing draws")
    given = parser.parse_args(arguments)
    if not given.only_report:
        recipe = load_recipe(
            "quickstart", [f"source.first_seed={FIRST_SEED}", f"source.limit={4 * given.samples}"]
        )
        draw(
            given.work,
            recipe,
            given.samples,
            steps=given.steps,
            batch=given.batch,
            threads=given.threads,
        )
    write_report(given.work, given.out, given.annotated)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
