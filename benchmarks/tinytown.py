"""What the embedded world is worth: `python -m benchmarks.tinytown autoencoder|faithfulness|realism|wild`.

`autoencoder`: what the VAE loses. `faithfulness`: of the objects that captions state, how many a model draws, by two
judges. `realism`: how well a classifier tells injected from wild artifacts. `wild`: a sheet of wild images with the
annotator's marks, for the eye.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from actors.corruption.methods import draw_noise
from actors.diffusion.model import DiffusionModel
from actors.diffusion.prompts import Prompts
from actors.images import read_image, read_mask
from actors.seeding import seed_for
from eval.metrics import Interval, precision
from eval.realism import Crops, crop, halves, tell_apart
from eval.splits import open_split
from factory.pipeline.stages import corruptor, image_selector, load, region_selector
from factory.recipe.recipe import load_recipe
from factory.sources import open_source
from tinytown.annotator import Annotation, annotate
from tinytown.scene import KINDS, Scene, caption, parse, sample_scene
from tools.tinytown.data import HELD_OUT
from tools.tinytown.objects import MAIN_COLOUR, NEAR, Detection, Judge, present
from tools.tinytown.vae import evaluate

REALISM_SEED = 4_000_000
STEPS, GUIDANCE, BATCH = 30, 4.0, 50
GAP, LINE = 4, (0, 255, 0)
console = Console(width=110)

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Verdicts:
    """Which objects are present, one entry for each that a caption states.

    Attributes:
        images: int64 [M], number of the image.
        kinds: str [M].
        judge, annotator: bool [M].
    """

    images: NDArray[np.int64]
    kinds: NDArray[np.str_]
    judge: NDArray[np.bool_]
    annotator: NDArray[np.bool_]


def sample(model: DiffusionModel, captions: Sequence[str], keys: Sequence[str]) -> Images:
    """Images of captions, uint8 [N, 64, 64, 3], each from noise that its key alone decides."""
    shape = (model.unet.config.in_channels, *(model.unet.config.sample_size,) * 2)
    empty, rows = model.embed([""]), []
    for first in range(0, len(captions), BATCH):
        texts, names = captions[first : first + BATCH], keys[first : first + BATCH]
        prompts = Prompts.cat([empty.repeat(len(texts)), model.embed(list(texts))])
        latents = draw_noise([seed_for(0, key, "faithfulness") for key in names], shape)
        model.scheduler.set_timesteps(STEPS)
        for timestep in model.scheduler.timesteps:
            both = model.denoise(latents.repeat(2, 1, 1, 1), int(timestep), prompts.embeds)
            without, conditioned = both.chunk(2)
            noise = without + GUIDANCE * (conditioned - without)
            latents = model.scheduler.step(noise, int(timestep), latents).prev_sample
        rows.append(model.decode(latents))
    return np.concatenate(rows)


def verdicts(
    scenes: Sequence[Scene], detections: Sequence[Sequence[Detection]], annotations: Sequence[Annotation]
) -> Verdicts:
    """Verdicts of both judges on every object of every scene: right kind, near its place, main colour right."""
    rows = []
    for number, (scene, detected, annotation) in enumerate(zip(scenes, detections, annotations, strict=True)):
        for thing, found in zip(scene.things, annotation.found, strict=True):
            placed = (
                found is not None
                and math.dist(found.centre, thing.centre) <= NEAR
                and found.colour == thing[MAIN_COLOUR[thing.kind]]
            )
            rows.append((number, thing.kind, present(detected, thing), placed))
    images, kinds, judge, annotator = (np.array(column) for column in zip(*rows, strict=True))
    return Verdicts(images, kinds, judge, annotator)


def autoencoder(arguments: argparse.Namespace) -> None:
    """PSNR of the VAE on 500 held-out renders."""
    for name, decibels in evaluate(DiffusionModel(arguments.model).vae).items():
        console.print(f"{name}: {decibels:.1f} dB")


def faithfulness(arguments: argparse.Namespace) -> None:
    """Objects of held-out captions that are in the samples, by the judge and by the annotator."""
    scenes = [sample_scene(HELD_OUT + number) for number in range(arguments.captions)]
    keys = [f"heldout-{number:05d}" for number in range(len(scenes))]
    images = sample(DiffusionModel(arguments.model), [caption(scene) for scene in scenes], keys)
    detections = Judge.load(arguments.assets / "judge")(images)
    annotations = [annotate(image, scene) for image, scene in zip(images, scenes, strict=True)]
    own = verdicts(scenes, detections, annotations)
    others = scenes[1 : arguments.control + 1]
    foreign = [annotate(image, scene) for image, scene in zip(images, others, strict=False)]
    table = Table("caption", "objects", "by the judge", "by the annotator", title="objects that are present")
    _add(table, "its own", own, np.ones(len(own.kinds), bool))
    for kind in KINDS:
        _add(table, f"  {kind}", own, own.kinds == kind)
    control = verdicts(others, detections[: len(others)], foreign)
    _add(table, "another image's", control, np.ones(len(control.kinds), bool))
    console.print(table)
    areas = np.array([one.mask.mean() for one in annotations])
    low, middle, high = np.quantile(areas, (0.1, 0.5, 0.9))
    console.print(
        f"{arguments.model}: the annotator marks {middle:.2%} of an image (median; 10th to 90th percentile "
        f"{low:.2%} to {high:.2%}), and nothing in {(areas == 0).mean():.1%} of them"
    )


def realism(arguments: argparse.Namespace) -> None:
    """AUC of telling injected from wild artifacts, a row for every method; and of wild against wild."""
    validation = open_split("validation")
    wild_crops = crop(validation.images, validation.masks)
    made = injected(arguments.methods.split(","), arguments.items)
    pairs = {name: (crops, wild_crops) for name, crops in made.items()}
    pairs["control: wild"] = halves(wild_crops)
    table = Table("injected by", "crops", "wild crops", "AUC", title="injected or wild? 0.5: chance")
    for name, (one, other) in pairs.items():
        table.add_row(
            name, str(len(one.images)), str(len(other.images)), _with_interval(tell_apart(one, other))
        )
    console.print(table)
    if arguments.sheet:
        blind_sheet(next(iter(made.values())), wild_crops, arguments.sheet, arguments.seed)


def injected(methods: Sequence[str], items: int) -> dict[str, Crops]:
    """Crops of the quickstart recipe's regions after each method: the same regions for all of them.

    Every method but `none` must be accepted by the verifier; `none` changes nothing that it could accept.
    """
    built, accepted = {}, None
    for method in methods:
        changes = [
            f"source.first_seed={REALISM_SEED}",
            f"source.limit={items}",
            f"corruption.method={method}",
        ]
        recipe = load_recipe("quickstart", [*changes, "verify.on_failure=keep"])
        source = open_source(recipe.source, recipe.seed)
        samples = load(source, list(source.list()), image_selector(recipe))
        samples = corruptor(recipe)(region_selector(recipe)(samples))
        built[method] = {one.key: one for one in samples if not one.rejected}
        passed = {key for key, one in built[method].items() if one.verified or method == "none"}
        accepted = passed if accepted is None else accepted & passed
    crops = {}
    for method, by_key in built.items():
        chosen = [by_key[key] for key in sorted(accepted or ())]
        images = np.stack([read_image(one.corrupted or b"") for one in chosen])
        crops[method] = crop(images, np.stack([read_mask(one.mask or b"") for one in chosen]))
    return crops


def blind_sheet(made: Crops, wild_crops: Crops, path: Path, seed: int, each: int = 16) -> None:
    """Numbered crops of either kind in random order; a JSON file beside the image has the answers."""
    rng = np.random.default_rng(seed)
    picked = []
    for answer, crops in (("injected", made), ("wild", wild_crops)):
        picked += [(answer, crops.images[row]) for row in rng.permutation(len(crops.images))[:each]]
    order = rng.permutation(len(picked))
    tiles = [enlarged(picked[row][1], 5) for row in order]
    board(tiles, [str(number) for number in range(1, len(tiles) + 1)], 8).save(path, optimize=True)
    key = {str(number): picked[row][0] for number, row in enumerate(order, start=1)}
    path.with_suffix(".json").write_text(json.dumps(key, indent=2) + "\n")


def wild(arguments: argparse.Namespace) -> None:
    """Random wild images with the annotator's marks, each beside the nearest legal image."""
    split = open_split("wild")
    chosen = np.random.default_rng(arguments.seed).permutation(len(split.keys))[: arguments.count]
    tiles, titles = [], []
    for index in sorted(chosen.tolist()):
        annotation = annotate(split.images[index], parse(split.captions[index]))
        image = enlarged(split.images[index], 3)
        tiles.append(
            np.concatenate([_outlined(image, enlarged(annotation.mask, 3)), enlarged(annotation.legal, 3)], 1)
        )
        titles.append(str(index))
    board(tiles, titles, 10).save(arguments.out, optimize=True)
    console.print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


def board(tiles: Sequence[Images], titles: Sequence[str], per_row: int) -> Image.Image:
    """Equal tiles, uint8 [H, W, 3], in rows on white, a title above each."""
    (height, width), head = tiles[0].shape[:2], 14
    rows = -(-len(tiles) // per_row)
    sheet = Image.new("RGB", (per_row * (width + GAP), rows * (height + head + GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (tile, title) in enumerate(zip(tiles, titles, strict=True)):
        x, y = number % per_row * (width + GAP), number // per_row * (height + head + GAP)
        pen.text((x + 2, y + 1), title, fill="black")
        sheet.paste(Image.fromarray(tile), (x, y + head))
    return sheet


def enlarged(image: NDArray, times: int) -> NDArray:
    """Every pixel of an image or mask as a square of `times` pixels."""
    return image.repeat(times, 0).repeat(times, 1)


def _outlined(image: Images, mask: NDArray[np.bool_]) -> Images:
    return np.where((mask & ~ndimage.binary_erosion(mask))[..., None], np.array(LINE, np.uint8), image)


def _add(table: Table, name: str, found: Verdicts, which: NDArray[np.bool_]) -> None:
    shares = []
    for verdict in (found.judge, found.annotator):
        hits, misses = (
            np.bincount(found.images[which & yes], minlength=found.images.max() + 1)
            for yes in (verdict, ~verdict)
        )
        # The share of hits is precision without false negatives; its bootstrap is over images.
        shares.append(_with_interval(precision(np.stack([hits, misses, np.zeros_like(hits)], 1))))
    table.add_row(name, str(which.sum()), *shares)


def _with_interval(figure: Interval) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


COMMANDS = {"autoencoder": autoencoder, "faithfulness": faithfulness, "realism": realism, "wild": wild}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--model", default="tinytown", help="faithfulness: tinytown, or a folder")
    parser.add_argument("--captions", type=int, default=500, help="faithfulness: images")
    parser.add_argument("--control", type=int, default=100, help="faithfulness: images with others' captions")
    parser.add_argument("--assets", type=Path, default=Path.home() / ".cache" / "flawforge-assets")
    parser.add_argument("--items", type=int, default=160, help="realism: clean scenes")
    parser.add_argument("--methods", default="noise,none", help="realism: of corruption.method")
    parser.add_argument("--sheet", type=Path, help="realism: PNG of 32 crops; the answers go beside it")
    parser.add_argument("--count", type=int, default=50, help="wild: images")
    parser.add_argument("--out", type=Path, default=Path("docs/wild-50.png"), help="wild: PNG")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn for the sheets")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    COMMANDS[arguments.command](arguments)
