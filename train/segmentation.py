"""The task of region selectors and detectors: images and labels from shards, a UperNet, validation by IoU_fg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from actors.errors import BadSample
from actors.segmentation.normalisation import Normalisation
from factory.store.storage import Storage
from train import batch_norm
from train.augmentation import augment
from train.data.catalogue import DataSet
from train.data.order import Order
from train.data.reading import Reader
from train.data.samples import IGNORED, decode
from train.distributed import Workers
from train.recipe import TrainingRecipe
from train.segmentation_loss import SegmentationBatch, SegmentationLoss
from train.segmentation_validation import validate
from train.segmenter import starting_point
from train.task import Read, Scores

_BLANK = 64
"""Pixels along the side of the image that stands for a forward pass without any example."""


@dataclass(frozen=True)
class LabelledImage:
    """An augmented training image.

    Attributes:
        image: uint8 [H, W, 3].
        label: uint8 [H, W]: 0 clean, 1 artifact, 255 ignored.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]


class Segmentation:
    """See `train.task.Task`, whose methods these are.

    Args:
        recipe: of the training.
        data: the recipe's data sets, in its order.
        validation: the data set of its validation, if it has one.
        cache: the output, where the indexes of foreign tars are.

    Raises:
        ModelError: the checkpoint cannot be loaded.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        data: Sequence[DataSet],
        validation: DataSet | None,
        *,
        cache: Storage | None = None,
    ) -> None:
        self.recipe, self.data = recipe, data
        net, self.normalisation, self.new_weights = starting_point(recipe.model, seed=recipe.seed)
        net.to(memory_format=torch.channels_last)
        module = SegmentationLoss(net, recipe.loss)
        _freeze_unused(module)
        if recipe.precision == "float64":
            module = module.double()
        self.module: nn.Module = module
        self._units = module.units
        # Batch norms need two images, and skipped samples may leave fewer.
        skips = recipe.bad_samples == "skip" and recipe.model.batch_norm != "frozen"
        self._fewest = 2 if skips else 1
        self._readers = [Reader(one, cache=cache) for one in data]
        self._validation = Reader(validation, cache=cache) if validation else None
        self.order = Order(
            [one.counts for one in data],
            [one.weight for one in recipe.data],
            seed=recipe.seed,
            digests=[one.digest for one in data],
        )

    def read(self, step: int, slot: int) -> Read[LabelledImage]:
        """See `Task.read`."""
        recipe = self.recipe
        draw = self.order.at(step * recipe.batch + slot)
        data_set = self.data[draw.data_set]
        key = ""
        try:
            encoded = self._readers[draw.data_set].read(draw.shard, draw.row)
            key = encoded.key
            sample = decode(encoded, data_set.label)
        except BadSample as bad:
            if recipe.bad_samples == "refuse":
                raise
            return Read(data_set.name, key, None, str(bad))
        image, label = augment(
            sample.image, sample.label, recipe.augmentation, seed=recipe.seed, step=step, slot=slot
        )
        return Read(data_set.name, sample.key, LabelledImage(image, label))

    def collate(self, examples: Sequence[LabelledImage]) -> SegmentationBatch:
        """See `Task.collate`.

        Images of unequal sizes are padded at the right and below with ignored pixels. Where skipped samples leave too
        few for batch norms, an image is repeated with an ignored label.
        """
        side = self.recipe.augmentation.crop or _BLANK
        sizes = [one.label.shape for one in examples] or [(side, side)]
        height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
        images = np.zeros((max(self._fewest, len(examples)), height, width, 3), np.uint8)
        labels = np.full(images.shape[:3], IGNORED, np.uint8)
        for number, one in enumerate(examples):
            images[number, : one.label.shape[0], : one.label.shape[1]] = one.image
            labels[number, : one.label.shape[0], : one.label.shape[1]] = one.label
        images[len(examples) :] = images[0]
        pixels = normalised(self.normalisation, images)
        if self.recipe.precision == "float64":
            pixels = pixels.double()
        return SegmentationBatch(pixels, torch.from_numpy(labels).long())

    def units(self, batch: SegmentationBatch) -> float:
        """See `Task.units`."""
        return self._units(batch.labels)

    def to_device(self, batch: SegmentationBatch, workers: Workers) -> SegmentationBatch:
        """See `Task.to_device`."""
        if workers.device.type == "cpu":
            return batch
        pixels, labels = (
            one.pin_memory().to(workers.device, non_blocking=True) for one in (batch.pixels, batch.labels)
        )
        return SegmentationBatch(pixels, labels)

    def training_mode(self) -> None:
        """See `Task.training_mode`."""
        batch_norm.training_mode(self.module, self.recipe.model.batch_norm)

    def network(self, module: nn.Module) -> nn.Module:
        """See `Task.network`: the UperNet."""
        net = module.net
        assert isinstance(net, nn.Module)
        return net

    def validate(self, network: nn.Module, workers: Workers) -> Scores:
        """See `Task.validate`."""
        assert self._validation is not None
        return validate(
            network, self._validation, self.normalisation, workers, decoders=self.recipe.execution.decoders
        )


def _freeze_unused(module: SegmentationLoss) -> None:
    """Exempt weights that the loss does not depend on, as the last norm of Swin, from training.

    DistributedDataParallel waits for the gradient of every weight that is trained.
    """
    pixels = torch.zeros(1, 3, _BLANK, _BLANK)
    module(SegmentationBatch(pixels, torch.full((1, _BLANK, _BLANK), IGNORED))).backward()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    module.zero_grad()


def normalised(normalisation: Normalisation, images: NDArray[np.uint8]) -> torch.Tensor:
    """Images, uint8 [B, H, W, 3], as float32 [B, 3, H, W] for the network, channels last."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return normalisation(pixels).contiguous(memory_format=torch.channels_last)
