"""The speed benchmark at toy sizes, and its count of operations at full size."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu import FAMILIES, flops, main, measure


def test_toy_networks_go_through_the_same_program():
    small = ["--toy", "--dtype", "float32", "--modes", "eager", "--batches", "2", "--repeats", "1"]
    found = main(["--device", "cpu", *small])
    assert list(found) == ["sd15", "sdxl"]
    for rows in found.values():
        assert [(row.what, row.batch) for row in rows] == [("baseline", 1), ("eager", 2)]
        # Published settings: 10 steps of 6 evaluations and one for regularisation, then 10 of resampling.
        assert [row.evaluations for row in rows] == [80, 25]
        assert all(row.speed > 0 for row in rows)


@pytest.mark.parametrize(
    ("name", "unet", "vae"), [("sd15", 0.803, 1.117 + 2.515), ("sdxl", 6.761, 4.879 + 10.470)]
)
def test_operations_at_full_size_are_those_measured_on_the_real_configurations(name, unet, vae):
    once, both = flops(FAMILIES[name])
    assert once / 1e12 == pytest.approx(unet, rel=0.01)
    assert both / 1e12 == pytest.approx(vae, rel=0.01)


def test_a_batch_without_memory_is_a_row_and_no_end():
    def work() -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    row = measure("eager", 64, work, "cpu", 1)
    assert (row.batch, row.evaluations, row.speed) == (64, 0, 0.0)
