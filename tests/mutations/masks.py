"""Masks in every form that tools write, and in some that nobody can read, each with what its writer meant."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from actors.masks import MaskReading
from tests.mutations.inputs import ACCEPTED, REGION_ENDS, Item, kind
from tests.mutations.pictures import HEIGHT, QUARTERS, WIDTH, flipped, plain, png, rows_of, saved

AS_IT_COMES = MaskReading()
BAD = frozenset({"bad_mask"})
CUT = frozenset({"mask_empty", "mask_not_an_image", "mask_damaged"})
Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class Meant:
    """A mask file, and what it means.

    Attributes:
        data: the file.
        ends: `accepted` if it must be read as it is meant; else the reasons for which it may be refused.
        inside: bool [H, W], what is meant.
        ignored: bool [H, W], what counts nowhere; None for nothing.
        reading: the settings that its writer would give.
        soft: its edges are grey, so that pixels on them may fall on either side.
    """

    data: bytes
    ends: frozenset[str]
    inside: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None = None
    reading: MaskReading = AS_IT_COMES
    soft: bool = False


def shape(rng: random.Random, scale: int = 1) -> NDArray[np.bool_]:
    """bool [HEIGHT * scale, WIDTH * scale]: an ellipse or a box about the middle, an eighth to a third of the image."""
    drawn = Image.new("1", (WIDTH * scale, HEIGHT * scale))
    draw = ImageDraw.Draw(drawn)
    x, y = rng.randint(40, 56), rng.randint(30, 42)
    across, down = rng.randint(16, 24), rng.randint(14, 20)
    box = tuple(scale * at for at in (x - across, y - down, x + across, y + down))
    (draw.ellipse if rng.random() < 0.7 else draw.rectangle)(box, fill=1)
    return np.asarray(drawn)


def rim(width: int) -> NDArray[np.bool_]:
    inner = np.zeros((HEIGHT, WIDTH), np.bool_)
    inner[width : HEIGHT - width, width : WIDTH - width] = True
    return ~inner


def grey_png(levels: NDArray[np.generic], bits: int) -> bytes:
    """By the specification; `levels` are the samples of the file."""
    if bits == 16:
        return png((WIDTH, HEIGHT, 16, 0), rows_of(levels.astype(">u2")))
    places = levels.astype(np.uint8).reshape(HEIGHT, -1, 8 // bits)
    packed = np.zeros(places.shape[:2], np.uint8)
    for place in range(8 // bits):
        packed |= places[..., place] << (8 - bits * (place + 1))
    return png((WIDTH, HEIGHT, bits, 0), rows_of(packed))


def palette_png(indices: Levels, rng: random.Random) -> bytes:
    image = Image.fromarray(indices, "P")
    image.putpalette(rng.randbytes(768))
    return saved(image, "PNG")


def two_levels(rng: random.Random) -> Meant:
    inside, bits = shape(rng), rng.choice((1, 2, 4, 8, 16))
    top = (1 << bits) - 1
    level = rng.choice((1, top, rng.randint(1, top)))
    right = level in (1, top) or (bits == 16 and level == 255)
    return Meant(grey_png(inside * np.uint16(level), bits), ACCEPTED if right else BAD, inside)


def indices(rng: random.Random) -> Meant:
    inside, level = shape(rng), rng.choice((1, 1, rng.randint(2, 255)))
    return Meant(palette_png(inside * np.uint8(level), rng), ACCEPTED if level == 1 else BAD, inside)


def channels(rng: random.Random) -> Meant:
    inside, mode = shape(rng), rng.choice(("RGB", "RGBA", "LA"))
    grey = Image.fromarray(inside * np.uint8(rng.choice((1, 255))))
    coloured = mode != "LA" and rng.random() < 0.4
    if coloured:
        colour = (rng.randint(0, 100), rng.randint(120, 255), rng.randint(0, 255))
        image = Image.fromarray(inside[..., None] * np.array(colour, np.uint8)).convert(mode)
    else:
        image = grey.convert(mode)
    form = "PNG" if mode == "LA" else rng.choice(("PNG", "WEBP"))
    return Meant(saved(image, form), BAD if coloured else ACCEPTED, inside)


def transparent(rng: random.Random) -> Meant:
    """A photo with a hole, a cut-out, or a mask whose transparency means nothing; or nobody says which."""
    inside, alpha = shape(rng), rng.choice(("opaque", "transparent", "ignore", "refuse"))
    photo = np.frombuffer(rng.randbytes(HEIGHT * WIDTH * 3), np.uint8).reshape(HEIGHT, WIDTH, 3)
    white = inside * np.uint8(255)
    if alpha == "ignore":
        pixels = np.dstack([white, white, white, photo[..., 0]])
    else:
        pixels = np.dstack([photo, white if alpha == "opaque" else 255 - white])
    form = rng.choice(("PNG", "WEBP"))
    data = saved(Image.fromarray(pixels), form, **({"exact": True} if form == "WEBP" else {}))
    reading = MaskReading(alpha=alpha)  # type: ignore[arg-type]
    return Meant(data, BAD if alpha == "refuse" else ACCEPTED, inside, reading=reading)


def ignoring(rng: random.Random) -> Meant:
    """An ignored rim, and a reading that knows of it, of another index, or of none."""
    bits, around = rng.choice((2, 4, 8, 8, 8, 16)), rim(rng.randint(1, 6))
    top = (1 << bits) - 1
    inside = shape(rng) & ~around
    index = rng.choice((top, rng.randint(2, top)))
    levels = np.where(around, index, inside).astype(np.uint16)
    is_palette = bits == 8 and rng.random() < 0.5
    data = palette_png(levels.astype(np.uint8), rng) if is_palette else grey_png(levels, bits)
    known = rng.choice((index, index, None, index - 1 if index > 2 else None))
    reading = MaskReading(ignore_index=known)
    return Meant(data, ACCEPTED if known == index else BAD, inside, around, reading)


def classes(rng: random.Random) -> Meant:
    """Areas of two or more classes beside the background: nobody can say which of them is meant."""
    levels = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers = rng.sample(range(1, rng.choice((4, 20, 34, 150, 256))), rng.randint(2, 3))
    for number in (*numbers, *rng.choices(numbers, k=2)):
        top, left = rng.randint(0, HEIGHT - 24), rng.randint(0, WIDTH - 24)
        levels[top : top + 24, left : left + 24] = number
    levels[:6, :6], levels[-6:, -6:] = numbers[0], numbers[1]
    form = rng.choice(("grey", "palette", "WEBP", "16 bit"))
    if form == "WEBP":
        data = saved(Image.fromarray(levels), "WEBP")
    elif form == "palette":
        data = palette_png(levels, rng)
    else:
        data = grey_png(levels, 16 if form == "16 bit" else 8)
    return Meant(data, BAD, levels > 0)


def soft(rng: random.Random) -> Meant:
    large = Image.fromarray(shape(random.Random(rng.random()), 4).astype(np.uint8) * 255)
    methods = (
        Image.Resampling.BOX,
        Image.Resampling.BILINEAR,
        Image.Resampling.BICUBIC,
        Image.Resampling.LANCZOS,
    )
    small = large.resize((WIDTH, HEIGHT), rng.choice(methods))
    inside = np.asarray(small) >= 128
    made: dict[str, Callable[[], bytes]] = {
        "PNG": lambda: saved(small, "PNG"),
        "JPEG": lambda: saved(small, "JPEG", quality=rng.randint(50, 100)),
        "RGB": lambda: saved(small.convert("RGB"), "JPEG", quality=rng.randint(50, 100)),
        "WEBP": lambda: saved(small, "WEBP", lossless=False, quality=rng.randint(50, 100)),
        "16 bit": lambda: grey_png(np.asarray(small).astype(np.uint16) * 257, 16),
    }  # fmt: skip
    return Meant(made[rng.choice(list(made))](), ACCEPTED, inside, soft=True)


def misshapen(rng: random.Random) -> Meant:
    inside = shape(rng)
    whole = grey_png(inside * np.uint8(255), 8)
    if rng.random() < 0.5:
        width, height = rng.choice(((WIDTH + 1, HEIGHT), (HEIGHT, WIDTH), (WIDTH // 2, HEIGHT // 2), (1, 1)))
        return Meant(saved(Image.new("L", (width, height), 255), "PNG"), frozenset({"mask_size"}), inside)
    # The last bytes hold no pixels, and may be missing without loss.
    return Meant(whole[: rng.randrange(len(whole) - 16)], CUT | ACCEPTED, inside)


FORMS = (two_levels, indices, channels, transparent, ignoring, classes, soft, misshapen)


def meant(number: int, rng: random.Random) -> Meant:
    """The nth mask, of the forms by turns."""
    return FORMS[number % len(FORMS)](rng)


def fitted(inside: NDArray[np.bool_], size: int = 64) -> NDArray[np.bool_]:
    """The centred square, and of it the pixel under the centre of each of `size` x `size`."""
    height, width = inside.shape
    side = min(height, width)
    places = np.floor((np.arange(size) + 0.5) * side / size).astype(int)
    rows, columns = places + (height - side) // 2, places + (width - side) // 2
    return inside[np.ix_(rows, columns)]


def agree(found: NDArray[np.bool_], wanted: NDArray[np.bool_], is_soft: bool) -> bool:
    """Whether a mask is as it is meant: exactly, or but for pixels beside an edge."""
    wrong = found != wanted
    if not is_soft:
        return not wrong.any()
    padded = np.pad(wanted, 1, mode="edge")
    moved = [padded[y : y + wanted.shape[0], x : x + wanted.shape[1]] for y in range(3) for x in range(3)]
    on_edge = np.logical_or.reduce(moved) & ~np.logical_and.reduce(moved)
    return not (wrong & ~on_edge).any()


@kind("mask: in the forms of other tools", 120)
def _forms(number: int, rng: random.Random) -> Item:
    """What is read with the settings of a recipe is refused here, where there are none."""
    mask = meant(number, rng)
    ends = mask.ends if mask.reading == AS_IT_COMES else mask.ends | BAD if mask.ends == BAD else BAD
    files = {"jpg": plain("JPEG"), "mask.png": mask.data}
    inside = None if "accepted" not in ends else fitted(mask.inside)
    return Item("mask: in the forms of other tools", files, ends, QUARTERS, inside=inside, soft=mask.soft)


@kind("mask: a known form with bits flipped", 40)
def _flipped_forms(number: int, rng: random.Random) -> Item:
    """Chance may make any mask of it; no error of Pillow or numpy comes through."""
    mask = flipped(meant(number, rng).data or b"\0", rng, 0, 1 << 20)
    ends = ACCEPTED | BAD | CUT | REGION_ENDS | {"mask_size", "mask_too_many_pixels", "mask_animated"}
    files = {"jpg": plain("JPEG"), "mask.png": mask}
    return Item("mask: a known form with bits flipped", files, ends | {"mask_too_many_scans"}, QUARTERS)
