"""The image of docs/methods.md: rows are images, columns are methods, like the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from actors.images import read_image
from benchmarks.methods.draws import Case, Images, Outcome, Setting
from benchmarks.methods.results import Results, at
from tinytown.render import render
from tinytown.scene import KINDS, parse

ROWS, SCALE, GAP, HEAD, BAR = 8, 3, 6, 16, 3
SMALLEST, LARGEST = 0.01, 0.25
"""Share of the image that a region in the grid has."""

ACCEPTED, REFUSED, OUTLINE = (0, 150, 0), (205, 205, 205), (0, 255, 0)


def main_kind(case: Case) -> str:
    """The kind of object of which the region holds most pixels, or `nothing`."""
    scene = parse(case.caption)
    numbers = np.bincount(render(scene).things[case.mask], minlength=len(scene.things) + 1)[1:]
    return scene.things[int(numbers.argmax())].kind if numbers.any() else "nothing"


def varied(cases: Sequence[Case], count: int = ROWS) -> list[Case]:
    """The first scenes with a region of fitting size: one of each kind, then further ones, in their own order.

    Where no region fits, of all scenes.
    """
    fitting = [case for case in cases if SMALLEST <= case.mask.mean() <= LARGEST] or list(cases)
    kinds = {case.key: main_kind(case) for case in fitting}
    first = [next((case.key for case in fitting if kinds[case.key] == kind), None) for kind in KINDS]
    chosen = [key for key in first if key]
    chosen += [case.key for case in fitting if case.key not in chosen]
    return [case for case in fitting if case.key in chosen[:count]]


def grid(cases: Sequence[Case], results: Results) -> Image.Image:
    """A row for every case: the original with its region, then its draws; a green bar under those accepted.

    Args:
        cases: scenes of the run.
        results: its draws. Columns stand for its largest k, `noise` also for one in the middle.
    """
    deepest, shallow = results.steps[-1], results.steps[len(results.steps) // 2 - 1]
    columns: dict[str, Mapping[str, Outcome]] = {
        f"{method}, k = {k}": _by_key(results.first(at(method, k)))
        for method, k in [(name, deepest) for name in ("none", "rotate", "blur", "downscale", "gaussian")]
        + [("noise", shallow), ("noise", deepest)]
    }
    columns["noise, ladder"] = _by_key([climb.last for climb in results.climbs("noise")])
    plain: Setting = next(setting for setting in results.direct if setting.method == "gaussian")
    columns["gaussian, image latent"] = _by_key(results.first(plain))
    side = len(cases[0].image) * SCALE
    width, height = side + GAP, side + BAR + 2 * GAP
    board = Image.new("RGB", ((len(columns) + 1) * width - GAP, HEAD + len(cases) * height - GAP), "white")
    pen = ImageDraw.Draw(board)
    for column, title in enumerate(["original, region", *columns]):
        pen.text((column * width + 2, 2), title, fill="black")
    for row, case in enumerate(cases):
        top = HEAD + row * height
        board.paste(Image.fromarray(_outlined(case)), (0, top))
        for column, (title, made) in enumerate(columns.items(), start=1):
            one, left = made[case.key], column * width
            board.paste(Image.fromarray(_enlarged(read_image(one.picture))), (left, top))
            if one.setting.method != "none":
                bar = (left, top + side + 2, left + side - 1, top + side + 1 + BAR)
                pen.rectangle(bar, fill=REFUSED if one.reason else ACCEPTED)
            if title.endswith("ladder"):
                pen.text(
                    (left + 3, top + 1),
                    f"k = {one.setting.steps}",
                    fill="white",
                    stroke_width=1,
                    stroke_fill="black",
                )
    return board


def _by_key(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    return {one.key: one for one in outcomes}


def _outlined(case: Case) -> Images:
    mask = case.mask.repeat(SCALE, 0).repeat(SCALE, 1)
    edge = mask & ~ndimage.binary_erosion(mask)
    return np.where(edge[..., None], np.array(OUTLINE, np.uint8), _enlarged(case.image))


def _enlarged(image: Images) -> Images:
    return image.repeat(SCALE, 0).repeat(SCALE, 1)
