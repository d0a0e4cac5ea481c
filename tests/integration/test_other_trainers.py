"""The blocks of docs/reading-shards.md that feed other trainers, in processes that cannot import any code of ours."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.reading_page import HERE, block, make_output, put, run
from tests.upernet import save_upernet

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

# `_see` takes what a model is given; `_tell` writes it to a file of this process.
SEEN = """
import hashlib as _hashlib, json as _json, os as _os, sys as _sys
import numpy as _np
_seen = []
def _see(images, masks, keys):
    for image, mask, key in zip(images, masks, keys, strict=True):
        image, mask = _np.asarray(image), _np.asarray(mask)
        kinds = [list(image.shape), str(image.dtype), list(mask.shape), str(mask.dtype)]
        _seen.append([key, kinds, _hashlib.sha256(image.tobytes() + _np.packbits(mask).tobytes()).hexdigest()])
def _tell():
    assert not {"flawforge", "train", "eval", "factory", "actors", "tinytown"} & set(_sys.modules)
    with open(f"seen-{_os.getpid()}.json", "w") as file:
        _json.dump(_seen, file)
"""
TELL = "\n_tell()\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Fifteen samples in shards of 4, 3, 0, 4 and 4."""
    return make_output(tmp_path_factory.mktemp("made") / "out")


@pytest.fixture(scope="module")
def shards(made) -> list[dict[str, str]]:
    """Of each shard with samples: key by digest of the image's pixels and the mask's."""
    found = []
    for path in sorted(made.glob("shards/*.tar")):
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        keys = {name.partition(".")[0] for name in files}
        pixels = {
            key: [np.asarray(Image.open(io.BytesIO(files[f"{key}.{kind}.png"]))) for kind in ("image", "mask")]
            for key in keys
        }
        assert {(image.dtype.name, mask.dtype.name) for image, mask in pixels.values()} == {("uint8", "bool")}
        found.append(
            {
                hashlib.sha256(image.tobytes() + np.packbits(mask).tobytes()).hexdigest(): key
                for key, (image, mask) in pixels.items()
            }
        )
    assert [len(keys) for keys in found] == [4, 3, 4, 4]
    return found


def seen(folder: Path, shards: list[dict[str, str]]) -> list[list[str]]:
    """The keys that each process was given; pixels, kinds and keys are compared with the shards."""
    by_digest = {digest: key for keys in shards for digest, key in keys.items()}
    processes = []
    for path in folder.glob("seen-*.json"):
        keys = []
        for key, kinds, digest in json.loads(path.read_text()):
            assert kinds == [[48, 48, 3], "uint8", [48, 48], "bool"]
            assert key in ("", by_digest[digest])
            keys.append(by_digest[digest])
        processes.append(keys)
    return processes


def exactly_once(processes: list[list[str]], shards: list[dict[str, str]]) -> None:
    """No process is idle, and together they have every sample once."""
    assert all(processes)
    assert sorted(key for keys in processes for key in keys) == sorted(
        key for keys in shards for key in keys.values()
    )


@pytest.mark.skipif(find_spec("pytorch_lightning") is None, reason="pytorch-lightning is not installed")
@pytest.mark.parametrize("ranks", [1, 2])
def test_lightning(made, shards, tmp_path, ranks):
    code = put(block("PyTorch Lightning"), "devices=1", f"devices={ranks}, accelerator='cpu'")
    step = "        images, masks, keys = batch\n"
    gather = """        assert images.dtype == masks.dtype == torch.float32 and set(masks.unique().tolist()) == {0, 1}
        _see((images * 255).round().byte().movedim(1, -1), masks.bool(), keys)
"""
    run(SEEN + put(code, step, step + gather), str(made), tmp_path, TELL)
    processes = seen(tmp_path, shards)
    assert len(processes) == ranks
    exactly_once(processes, shards)


@pytest.mark.skipif(find_spec("pytorch_lightning") is None, reason="pytorch-lightning is not installed")
def test_ranks_of_lightning_have_as_many_batches(made, shards, tmp_path):
    """With batches of one, the rank with 8 samples has 8 batches, so the rank with 7 starts its next pass."""
    code = put(block("PyTorch Lightning"), "devices=1", "devices=2, accelerator='cpu'")
    code = put(code, "batch_size, workers = 4, 2", "batch_size, workers = 1, 2")
    step = "        images, masks, keys = batch\n"
    gather = "        _see((images * 255).round().byte().movedim(1, -1), masks.bool(), keys)\n"
    run(SEEN + put(code, step, step + gather), str(made), tmp_path, TELL)
    first, second = seen(tmp_path, shards)
    assert len(first) == len(second) == 8
    once_more_than_needed(Counter(first + second), shards, of=[shards[1], shards[3]])


def once_more_than_needed(counts: Counter[str], shards: list[dict[str, str]], of: list[dict[str, str]]) -> None:
    """Every sample once, and one of some shards a second time."""
    every = Counter(key for keys in shards for key in keys.values())
    assert every <= counts
    (again,) = (counts - every).elements()
    assert again in {key for keys in of for key in keys.values()}


@pytest.mark.parametrize("ranks", [1, 2])
def test_hugging_face_trainer(made, shards, tmp_path, ranks):
    """Worker 0 of rank 1, or worker 1 of the only rank, has the three samples, and starts its next pass."""
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
    code = SEEN + put(code, heading, heading + gather)
    run(code, str(made), tmp_path, TELL, command=HERE if ranks == 1 else TORCHRUN)
    processes = seen(tmp_path, shards)
    assert [len(keys) for keys in processes] == [16 // ranks] * ranks
    counts = Counter(key for keys in processes for key in keys)
    once_more_than_needed(counts, shards, of=shards[1:2] if ranks == 2 else [shards[1], shards[3]])
    assert (tmp_path / "out/upernet/model.safetensors").is_file()
