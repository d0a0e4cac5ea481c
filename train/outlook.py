"""What a training would do, without doing it: steps, passes, memory and time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from train.data.catalogue import DataSet, open_data_set
from train.data.order import slots_of
from train.data.reading import Reader
from train.data.samples import IGNORED, decode
from train.places import place_of
from train.recipe import TrainingRecipe
from train.segmentation_loss import SegmentationBatch, SegmentationLoss
from train.segmenter import starting_point

UTILISATION = 0.35
"""Share of the rate of a matrix product that a training of convolutions reaches."""

_BYTES = {"float32": 4, "bfloat16": 4, "float64": 8}
_MATRIX = {"cpu": 512, "cuda": 8192}
_TRIES = 5


@dataclass(frozen=True)
class DataOutlook:
    """A data set of a training.

    Attributes:
        name, label: of the recipe.
        samples: of the data set.
        read: samples that the training reads of it, those of all passes together.
    """

    name: str
    label: str
    samples: int
    read: int

    @property
    def passes(self) -> float:
        """How often the training reads the whole data set."""
        return self.read / self.samples


@dataclass(frozen=True)
class TrainingOutlook:
    """A training's work, before any of it is done.

    Attributes:
        name, kind: of the recipe.
        iterations, batch: of the recipe.
        data: its data sets.
        weights: parameters of the network.
        new_weights: names of those that the checkpoint does not have.
        workers: fewest and most.
        cpus, gpus: of a worker.
        size: height and width of the images in a forward pass.
        per_worker: images that a worker has in a forward pass, at the fewest workers.
        state_bytes: weights, gradients, moments of the optimizer and averages, of each worker.
        activation_bytes: kept between the forward and the backward pass, of each worker.
        step_flops: floating-point operations of a step, forward and backward, of all workers.
        hours: estimate for this machine's processor; None where the recipe asks for a GPU and there is none here.
    """

    name: str
    kind: str
    iterations: int
    batch: int
    data: tuple[DataOutlook, ...]
    weights: int
    new_weights: tuple[str, ...]
    workers: tuple[int, int]
    cpus: float
    gpus: float
    size: tuple[int, int]
    per_worker: int
    state_bytes: int
    activation_bytes: int
    step_flops: int
    hours: float | None

    @property
    def memory_bytes(self) -> int:
        """Of each worker, without the libraries."""
        return self.state_bytes + self.activation_bytes


def training_outlook(recipe: TrainingRecipe) -> TrainingOutlook:
    """Open the data sets, load the weights, and add up. Nothing is written or trained.

    Raises:
        SourceError: the data cannot be listed or read.
        TrainingError: a data set is empty, unfinished, or damaged.
        ModelError: the weights are missing or do not fit.
    """
    data = [
        open_data_set(one.name, place_of(str(one.url)), label=one.label, cache=None) for one in recipe.data
    ]
    execution = recipe.execution
    net, _, new = starting_point(recipe.model, seed=recipe.seed)
    weights = sum(one.numel() for one in net.parameters())
    share = -(-recipe.batch // execution.fewest)
    per_worker = min(share, execution.micro_batch or share)
    size = (recipe.augmentation.crop,) * 2 if recipe.augmentation.crop else _size_of(data[0])
    flops, activations = _measure(SegmentationLoss(net, recipe.loss), per_worker, size)
    step_flops = 3 * flops * recipe.batch // per_worker  # The backward pass costs twice the forward pass.
    return TrainingOutlook(
        name=recipe.name,
        kind=recipe.kind,
        iterations=recipe.iterations,
        batch=recipe.batch,
        data=_data(recipe, data),
        weights=weights,
        new_weights=tuple(new),
        workers=(execution.fewest, execution.most),
        cpus=execution.cpus,
        gpus=execution.gpus,
        size=size,
        per_worker=per_worker,
        state_bytes=weights * _BYTES[recipe.precision] * (5 if recipe.ema else 4),
        activation_bytes=activations * {"float32": 4, "bfloat16": 2, "float64": 8}[recipe.precision] // 4,
        step_flops=step_flops,
        hours=_hours(recipe, step_flops),
    )


def _data(recipe: TrainingRecipe, data: Sequence[DataSet]) -> tuple[DataOutlook, ...]:
    slots = slots_of([one.weight for one in recipe.data])
    total = recipe.iterations * recipe.batch
    return tuple(
        DataOutlook(one.name, one.label, one.samples, total * count // sum(slots))
        for one, count in zip(data, slots, strict=True)
    )


def _size_of(data: DataSet) -> tuple[int, int]:
    """Height and width of a data set's first sample, which stands for all."""
    shard = next(number for number, count in enumerate(data.counts) if count)
    height, width = decode(Reader(data).read(shard, 0), "none").label.shape
    return height, width


def _measure(module: SegmentationLoss, images: int, size: tuple[int, int]) -> tuple[int, int]:
    """Operations of a forward pass, and bytes of float32 that it keeps for the backward pass. Nothing is computed."""
    kept: dict[int, int] = {}
    own = {id(one) for one in module.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own:
            kept[id(tensor.untyped_storage()._cdata)] = tensor.numel() * tensor.element_size()
        return tensor

    module = module.to("meta").train()
    batch = SegmentationBatch(
        torch.empty(images, 3, *size, device="meta"),
        torch.full((images, *size), IGNORED, device="meta", dtype=torch.int64),
    )
    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(batch)
    return counter.get_total_flops(), sum(kept.values())


def _hours(recipe: TrainingRecipe, step_flops: int) -> float | None:
    device, execution = recipe.execution.device, recipe.execution
    if device == "cuda" and not torch.cuda.is_available():
        return None
    rate = _rate(device, torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32)
    seconds = step_flops * recipe.iterations / (UTILISATION * rate * execution.fewest)
    if device == "cpu":
        seconds /= execution.threads
    return seconds / 3600


def _rate(device: str, dtype: torch.dtype) -> float:
    """Operations per second of a matrix product here; of one thread on a CPU."""
    side = _MATRIX[device]
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return 2 * side**3 / min(_seconds(matrix) for _ in range(_TRIES))
    finally:
        torch.set_num_threads(threads)


def _seconds(matrix: torch.Tensor) -> float:
    """Seconds of a product of the matrix with itself."""
    _wait(matrix)
    began = time.perf_counter()
    torch.mm(matrix, matrix)
    _wait(matrix)
    return time.perf_counter() - began


def _wait(matrix: torch.Tensor) -> None:
    if matrix.device.type == "cuda":
        torch.cuda.synchronize()
