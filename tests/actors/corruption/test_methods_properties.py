"""Corruptions and latent masks on drawn sizes, regions and seeds, against plain loops in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from actors.corruption.methods import METHODS, corrupt, to_latent_mask

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 21)


@dataclass(frozen=True)
class Case:
    """Arguments of `corrupt` in numpy: float64 [B, C, h, w], latent_mask bool [B, 1, h, w], alpha_prod float64 [B]."""

    latents: np.ndarray
    clean: np.ndarray
    latent_mask: np.ndarray
    alpha_prod: np.ndarray
    noise: np.ndarray

    def corrupted(
        self, method: str, dtype: torch.dtype = torch.float64, rows: object = slice(None)
    ) -> Tensor:
        latents, clean, noise = (
            torch.from_numpy(array[rows]).to(dtype) for array in (self.latents, self.clean, self.noise)
        )
        latent_mask, alpha_prod = (
            torch.from_numpy(self.latent_mask[rows]),
            torch.from_numpy(self.alpha_prod[rows]).to(dtype),
        )
        return corrupt(method, latents, clean, latent_mask, alpha_prod=alpha_prod, noise=noise)


def drawn(seed: int, rows: int, channels: int, height: int, width: int, density: float) -> Case:
    """Regions are scattered latent pixels, or with a density above 1 some rectangles."""
    random = np.random.default_rng(seed)
    shape = (rows, channels, height, width)
    latent_mask = random.random((rows, 1, height, width)) < density
    if density > 1:
        latent_mask[:] = False
        for _ in range(random.integers(1, 4)):
            for row in latent_mask[:, 0]:
                top, left = random.integers(height), random.integers(width)
                row[top : top + random.integers(1, 9), left : left + random.integers(1, 9)] = True
    latents, clean, noise = (random.standard_normal(shape) for _ in range(3))
    return Case(latents, clean, latent_mask, random.uniform(0.05, 1, rows), noise)


CASES = st.builds(
    drawn,
    SEEDS,
    st.integers(1, 3),
    st.integers(1, 4),
    SIDES,
    SIDES,
    st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 2.0]),
)


def noised(
    latents: np.ndarray, clean: np.ndarray, latent_mask: np.ndarray, alpha_prod: float, noise: np.ndarray
):
    values = [
        math.sqrt(alpha_prod) * z + math.sqrt(1 - alpha_prod) * e
        for z, e in zip(clean.flat, noise.flat, strict=True)
    ]
    return np.reshape(values, clean.shape)


def gaussian(
    latents: np.ndarray, clean: np.ndarray, latent_mask: np.ndarray, alpha_prod: float, noise: np.ndarray
):
    return noise


def blurred(
    latents: np.ndarray, clean: np.ndarray, latent_mask: np.ndarray, alpha_prod: float, noise: np.ndarray
):
    """Every latent pixel from the thirteen by thirteen around it at once."""
    steps = np.arange(-6, 7)
    weights = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * 2.0**2))
    weights /= weights.sum()
    _, height, width = latents.shape
    found = np.empty_like(latents)
    for row, column in np.ndindex(height, width):
        rows, columns = np.clip(row + steps, 0, height - 1), np.clip(column + steps, 0, width - 1)
        found[:, row, column] = (latents[:, rows][:, :, columns] * weights).sum((1, 2))
    return found


def turned(
    latents: np.ndarray, clean: np.ndarray, latent_mask: np.ndarray, alpha_prod: float, noise: np.ndarray
):
    """Fills every region from a first latent pixel, and turns a copy of its square."""
    _, height, width = latents.shape
    found, left_over = (
        latents.copy(),
        {(int(y), int(x)) for y, x in zip(*np.nonzero(latent_mask[0]), strict=True)},
    )
    while left_over:
        region, front = [], [left_over.pop()]
        while front:
            y, x = front.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left_over
            left_over -= near
            front += near
        extents = [(min(axis), max(axis) + 1) for axis in zip(*region, strict=True)]
        side = max(stop - start for start, stop in extents)
        corner = []
        for (start, stop), size in zip(extents, (height, width), strict=True):
            first = start - (side - (stop - start)) // 2
            while first < 0 and first + side < size:
                first += 1
            while first > 0 and first + side > size:
                first -= 1
            corner.append(first)
        places = [
            np.clip(first + np.arange(side), 0, size - 1)
            for first, size in zip(corner, (height, width), strict=True)
        ]
        square = np.rot90(latents[:, places[0]][:, :, places[1]], axes=(1, 2))
        for y, x in region:
            found[:, y, x] = square[:, y - corner[0], x - corner[1]]
    return found


def downscaled(
    latents: np.ndarray, clean: np.ndarray, latent_mask: np.ndarray, alpha_prod: float, noise: np.ndarray
):
    found = np.empty_like(latents)
    for channel in range(len(latents)):
        for top in range(0, latents.shape[1], 8):
            for left in range(0, latents.shape[2], 8):
                block = (channel, slice(top, top + 8), slice(left, left + 8))
                found[block] = math.fsum(latents[block].flat) / latents[block].size
    return found


def unchanged(
    latents: np.ndarray, clean: np.ndarray, latent_mask: np.ndarray, alpha_prod: float, noise: np.ndarray
):
    return latents


PLAIN = {
    "noise": noised,
    "gaussian": gaussian,
    "blur": blurred,
    "rotate": turned,
    "downscale": downscaled,
    "none": unchanged,
}


def test_every_method_has_a_plain_loop():
    assert list(PLAIN) == list(METHODS)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(case=CASES, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_equals_a_plain_loop(method: str, case: Case, dtype: torch.dtype):
    found = case.corrupted(method, dtype)
    assert found.dtype == dtype
    arrays = (case.latents, case.clean, case.latent_mask, case.alpha_prod, case.noise)
    for one, *row in zip(found.double().numpy(), *arrays, strict=True):
        wanted = np.where(row[2], PLAIN[method](*row), row[0])
        assert np.abs(one - wanted).max() < (1e-12 if dtype == torch.float64 else 5e-6)
    outside = ~np.broadcast_to(case.latent_mask, case.latents.shape)
    given = torch.from_numpy(case.latents).to(dtype).numpy()
    assert np.array_equal(found.numpy()[outside], given[outside])


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, height=SIDES, width=SIDES, density=st.sampled_from([0.3, 2.0]))
def test_a_batch_equals_batches_of_one(method: str, seed: int, height: int, width: int, density: float):
    case = drawn(seed, 16, 4, height, width, density)
    alone = torch.cat([case.corrupted(method, rows=slice(row, row + 1)) for row in range(16)])
    assert torch.allclose(case.corrupted(method), alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, height=SIDES, width=SIDES, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_permuted_rows_only_move(method: str, seed: int, height: int, width: int, dtype: torch.dtype):
    case = drawn(seed, 16, 4, height, width, 2.0)
    order = np.random.default_rng(seed).permutation(16)
    assert torch.equal(case.corrupted(method, dtype, order), case.corrupted(method, dtype)[order])


def scattered(seed: int, height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.random((height, width)) < random.choice([0.01, 0.1, 0.5])


def walked(seed: int, height: int, width: int) -> np.ndarray:
    """A connected line one pixel wide, of up to 60 pixels."""
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    y, x = random.integers(height), random.integers(width)
    step = random.integers(-1, 2, 2)
    for _ in range(random.integers(1, 60)):
        mask[y, x] = True
        if random.random() < 0.2:
            step = random.integers(-1, 2, 2)
        y, x = np.clip(np.add((y, x), step), 0, (height - 1, width - 1))
    return mask


def shares(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels inside, of every latent pixel: int [height, width]."""
    rows, columns = mask.shape[0] // height, mask.shape[1] // width
    return mask.reshape(height, rows, width, columns).sum((1, 3))


def around(latent_mask: np.ndarray, y: int, x: int) -> np.ndarray:
    """A latent pixel and its neighbours, fewer at the edge."""
    return latent_mask[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]


def parts(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The pixels of each part that is connected, corners included."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        part, front = set(), [left.pop()]
        while front:
            y, x = front.pop()
            part.add((y, x))
            near = {(y + down, x + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            front += near
        found.append(part)
    return found


GRIDS = {
    "height": st.integers(1, 8),
    "width": st.integers(1, 8),
    "rows": st.integers(1, 8),
    "columns": st.integers(1, 8),
}


@pytest.mark.parametrize("shape", [scattered, walked])
@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, **GRIDS)
def test_cells_equal_a_plain_loop(shape, seed: int, height: int, width: int, rows: int, columns: int):
    mask = shape(seed, height * rows, width * columns)
    covered = shares(mask, height, width)
    wanted = np.zeros((height, width), bool)
    for y, x in np.ndindex(height, width):
        solid_nearby = (2 * around(covered, y, x) >= rows * columns).any()
        wanted[y, x] = 2 * covered[y, x] >= rows * columns or (covered[y, x] > 0 and not solid_nearby)
    chosen = wanted.copy()
    for part in parts(mask):
        touched = {(y // rows, x // columns) for y, x in part}
        if not any(chosen[place] for place in touched):
            for place in touched:
                wanted[place] = True
    assert np.array_equal(to_latent_mask(torch.from_numpy(mask)[None], height, width)[0, 0].numpy(), wanted)


@pytest.mark.parametrize("shape", [scattered, walked])
@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, **GRIDS)
def test_no_touched_cell_is_far_from_the_region(
    shape, seed: int, height: int, width: int, rows: int, columns: int
):
    mask = shape(seed, height * rows, width * columns)
    touched = shares(mask, height, width) > 0
    latent_mask = to_latent_mask(torch.from_numpy(mask)[None], height, width)[0, 0].numpy()
    assert not (latent_mask & ~touched).any()
    assert latent_mask.any() == mask.any()
    for y, x in zip(*np.nonzero(touched), strict=True):
        assert around(latent_mask, y, x).any()


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, height=st.integers(1, 8), width=st.integers(1, 8), vertical=st.booleans())
def test_a_line_thinner_than_half_a_cell_keeps_every_cell_that_it_crosses(
    seed: int, height: int, width: int, vertical: bool
):
    random = np.random.default_rng(seed)
    mask = np.zeros((8 * height, 8 * width), bool)
    across, along = (mask.T, height) if vertical else (mask, width)
    # Up to three pixels of eight wherever it lies: 24 of a latent pixel's 64.
    first, stop = np.sort(random.choice(8 * along + 1, 2, replace=False))
    place = random.integers(len(across))
    across[place : place + random.integers(1, 4), first:stop] = True
    touched = shares(mask, height, width) > 0
    assert np.array_equal(to_latent_mask(torch.from_numpy(mask)[None], height, width)[0, 0].numpy(), touched)


@settings(max_examples=30, deadline=None)
@given(**GRIDS)
def test_full_masks_are_full_and_empty_ones_empty(height: int, width: int, rows: int, columns: int):
    full = torch.ones(2, height * rows, width * columns, dtype=torch.bool)
    assert to_latent_mask(full, height, width).all()
    assert not to_latent_mask(~full, height, width).any()
    assert to_latent_mask(full, height, width).shape == (2, 1, height, width)
