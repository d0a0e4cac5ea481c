"""What batch norms do in training: keep their statistics, or take those of all images of a step, or of a worker's."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from actors.errors import TrainingError

Norm = nn.modules.batchnorm._BatchNorm


def prepare(module: nn.Module, policy: str) -> nn.Module:
    """The module with batch norms that follow the policy; see `train.recipe.ModelConfig.batch_norm`."""
    if policy != "synchronised":
        return module
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return converted


def training_mode(module: nn.Module, policy: str) -> None:
    """Set the module to training; where the policy is `frozen`, batch norms stay in evaluation mode."""
    module.train()
    if policy == "frozen":
        for part in module.modules():
            if isinstance(part, Norm):
                part.eval()


def check_images(module: nn.Module, policy: str, images: int) -> None:
    """Refuse forward passes of a single image where a batch norm would compute statistics of a single value.

    Args:
        module: the network.
        policy: of the recipe.
        images: fewest images over which statistics are computed.

    Raises:
        TrainingError: there is one image only.
    """
    if policy != "frozen" and images < 2 and any(isinstance(part, Norm) for part in module.modules()):
        raise TrainingError(
            f"model.batch_norm is {policy}, and a forward pass has one image, of which no statistics can be computed: "
            "set model.batch_norm to frozen, or take a larger batch or micro_batch, or fewer workers"
        )


def check_passes(numbers: Collection[int]) -> None:
    """Refuse synchronised batch norms where a worker would wait in a forward pass that others do not have.

    Args:
        numbers: of forward passes in a step, of all workers.

    Raises:
        TrainingError: they differ.
    """
    if len(set(numbers)) > 1:
        raise TrainingError(
            f"model.batch_norm is synchronised, and some workers have {min(numbers)} micro-batches in a step, others "
            f"{max(numbers)}: make batch a multiple of the number of workers, or change execution.micro_batch"
        )
