"""One Ray for the modules that need no other, and recipes small enough for two cores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from factory.recipe.recipe import Recipe, parse_recipe

SMALL = """
name: small
source: {kind: tinytown, limit: 12, size: 64, first_seed: 500}
regions: {kind: source}
corruption:
  inference_steps: 25
  inversion_steps: 8
  inversion: {mode: renoise, iterations: 1, averaging: false, regularisation: false}
  batch_size: 4
verify: {attempts: 2, changed_threshold: 0.08}
output: {samples_per_shard: 3}
execution:
  corrupt: {cpus: 0.5}
"""

WITHOUT_UNET = """
name: without-unet
source: {kind: tinytown, size: 64, limit: 20, first_seed: 7000}
regions: {kind: source}
corruption: {method: noise, target: image, batch_size: 4}
verify: {least_inside: 0, most_outside: 1}
output: {samples_per_shard: 2}
execution:
  load: {cpus: 0.25}
  select: {cpus: 0.25}
  corrupt: {cpus: 0.5}
  write: {cpus: 0.25}
"""
"""For tests of order, resume and kills. Noise is drawn as ever, but into the image latent: no UNet is evaluated. Every
item is accepted."""


@pytest.fixture(scope="package")
def _ray_ends() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="module")
def ray_here(_ray_ends: None) -> None:
    """A Ray that every build and training of the module joins.

    The next such module finds it still running: a start takes several seconds of both cores.
    """
    from factory.pipeline.cluster import connect

    connect("local")


@pytest.fixture(scope="module")
def no_ray_before() -> Iterator[None]:
    """For modules that start a Ray with settings of their own."""
    import ray

    ray.shutdown()
    yield
    ray.shutdown()


@pytest.fixture
def small() -> Callable[..., Recipe]:
    """The small recipe, with changes such as `verify.attempts=1`."""
    return lambda *changes: parse_recipe(SMALL, "small.yaml", changes)


def content_of(out: Path) -> dict[str, str]:
    """sha256 of everything that must not depend on how a build ran: tars, indexes, plan, identity.

    What a killed writer has left aside, with a leading dot, is no part of the output.
    """
    made = [path for folder in ("shards", "index") for path in out.glob(f"{folder}/[!.]*")]
    files = sorted([*made, out / "plan.parquet", out / "identity.json"])
    return {file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
