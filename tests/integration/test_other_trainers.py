"""docs/reading-shards.md on PyTorch Lightning and the Trainer of Hugging Face: what the models are given."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.integration.reading_page import HERE, block, make_output, put, run
from tests.integration.samples_seen import SEE, TELL, keys_by_digest, seen, surplus
from tests.upernet import save_upernet

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
RANKS = [1, pytest.param(2, marks=pytest.mark.slow)]
needs_lightning = pytest.mark.skipif(
    find_spec("pytorch_lightning") is None, reason="pytorch-lightning is not installed; the extra dev has it"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_output(tmp_path_factory.mktemp("made") / "out")


@pytest.fixture(scope="module")
def shards(made) -> list[dict[str, str]]:
    """Keys by digest; a reader's worker or rank gets every second shard."""
    shards = keys_by_digest(made)
    assert [len(keys) for keys in shards] == [4, 3, 4, 4]
    return shards


def lightning(made: Path, folder: Path, *, ranks: int = 1, batch_size: int = 4, workers: int = 2) -> None:
    code = put(block("PyTorch Lightning"), "devices=1", f"devices={ranks}, accelerator='cpu'")
    code = put(code, "batch_size, workers = 4, 2", f"batch_size, workers = {batch_size}, {workers}")
    step = "        images, masks, keys = batch\n"
    gather = """        assert images.dtype == masks.dtype == torch.float32 and set(masks.unique().tolist()) == {0, 1}
        _see((images * 255).round().byte().movedim(1, -1), masks.bool(), keys)
"""
    run(SEE + put(code, step, step + gather), str(made), folder, TELL)


@needs_lightning
@pytest.mark.parametrize("ranks", RANKS)
def test_lightning_reads_every_sample_once(made, shards, tmp_path, ranks):
    lightning(made, tmp_path, ranks=ranks)
    processes = seen(tmp_path, shards)
    assert len(processes) == ranks
    assert surplus(processes, shards) == []


@pytest.mark.slow
@needs_lightning
def test_lightning_with_more_workers_than_shards(made, shards, tmp_path):
    lightning(made, tmp_path, workers=6)
    assert surplus(seen(tmp_path, shards), shards) == []


@pytest.mark.slow
@needs_lightning
def test_ranks_of_lightning_have_as_many_batches(made, shards, tmp_path):
    """The rank with 7 samples starts its next pass, since the other one has 8."""
    lightning(made, tmp_path, ranks=2, batch_size=1)
    processes = seen(tmp_path, shards)
    assert [len(keys) for keys in processes] == [8, 8]
    (again,) = surplus(processes, shards)
    assert again in {*shards[1].values(), *shards[3].values()}


@pytest.mark.parametrize("ranks", RANKS)
def test_hugging_face_trainer(made, shards, tmp_path, ranks):
    """Four batches of four from 15 samples: the worker with an odd number of them starts its next pass."""
    checkpoint = save_upernet(tmp_path / "upernet", labels=150)
    code = put(block("Hugging Face Trainer"), "openmmlab/upernet-convnext-tiny", str(checkpoint))
    code = put(code, "steps = 1000", f"steps = {4 // ranks}")
    code = put(code, "report_to=", "use_cpu=True, report_to=")
    heading = "class ShardTrainer(Trainer):\n"
    gather = """    def training_step(self, model, inputs, *others):
        images, masks = inputs["pixel_values"] * std + mean, inputs["labels"]
        assert images.dtype == torch.float32 and masks.dtype == torch.int64
        _see((images * 255).round().byte().movedim(1, -1), masks.bool(), [""] * len(images))
        return super().training_step(model, inputs, *others)

"""
    code = SEE + put(code, heading, heading + gather)
    run(code, str(made), tmp_path, TELL, command=HERE if ranks == 1 else TORCHRUN)
    processes = seen(tmp_path, shards)
    assert [len(keys) for keys in processes] == [16 // ranks] * ranks
    (again,) = surplus(processes, shards)
    # One rank: its second worker has the second and the last shard. Two: the second rank's first worker has the second.
    assert again in ({*shards[1].values(), *shards[3].values()} if ranks == 1 else {*shards[1].values()})
    assert (tmp_path / "out/upernet/model.safetensors").is_file()
