"""docs/reading-shards.md on NVIDIA energon, MosaicML streaming and litdata, each in an environment of its own.

They pin other versions than constraints.txt, and two of them bring torchvision.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from factory.maintain.verify import verify
from factory.store.storage import Storage
from tests.integration.reading_page import block, make_output, put, run
from tests.integration.samples_seen import SEE, TELL, keys_by_digest, seen, surplus
from tests.patience import seconds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
# Without the name of a build such as +cpu.
COMMON = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "webdataset", "pillow")]
# A torchvision that was built for another torch has no operators; nobody calls them here, but it wants them to exist.
TORCHVISION = """
try:
    import torchvision as _torchvision
except RuntimeError:
    import torch as _torch
    for _name in ("nms", "qnms"):
        _torch.library.define(f"torchvision::{_name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
"""
JOIN = 'import torch.distributed as _distributed\n_distributed.init_process_group("gloo")\n'


@pytest.fixture
def made(tmp_path) -> Path:
    return make_output(tmp_path / "made")


@pytest.fixture
def shards(made) -> list[dict[str, str]]:
    shards = keys_by_digest(made)
    assert [len(keys) for keys in shards] == [4, 3, 4, 4]
    return shards


@contextmanager
def environment(folder: Path, *packages: str) -> Iterator[Path]:
    """`bin` of a new environment with these packages, which is removed after: it has more than a gigabyte."""
    place = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=seconds(120))
    command = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages, *COMMON]
    # Ours may point to folders where the packages of this environment are.
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        subprocess.run(command, check=True, env=outside, timeout=seconds(900))
        yield place / "bin"
    finally:
        shutil.rmtree(place)


def torchrun(programs: Path) -> tuple[str, ...]:
    return (str(programs / "torchrun"), "--standalone", "--nproc-per-node=2")


def new(folder: Path, name: str, *linked: Path) -> Path:
    """A working folder, with links to what an earlier block made."""
    place = folder / name
    (place / "out").mkdir(parents=True)
    for path in linked:
        (place / "out" / path.name).symlink_to(path)
    return place


def seeing(code: str) -> str:
    """A block whose loop reports its batches instead of printing their shapes."""
    line = "    print(images.shape, masks.shape, len(keys))\n"
    types = "    assert (images.dtype, masks.dtype) == (torch.uint8, torch.bool)\n"
    return SEE + put(code, line, types + "    _see(images, masks, keys)\n")


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("shards/*.tar")}


def test_energon(made, shards, tmp_path):
    code = put(
        block("NVIDIA energon"),
        "    print(batch.image.shape, batch.mask.shape, len(batch.__key__))\n",
        """    assert (batch.image.dtype, batch.mask.dtype) == (torch.float32, torch.bool)
    _see((batch.image * 255).round().byte().movedim(1, -1), batch.mask, batch.__key__)
""",
    )
    before = digests(made)
    with environment(tmp_path, "megatron-energon==7.4.1") as programs:
        prepare = shlex.split(put(block("NVIDIA energon", language=""), "out/quickstart", str(made)))
        assert prepare[0] == "energon"
        subprocess.run([str(programs / "energon"), *prepare[1:]], check=True, timeout=seconds(120))
        for ranks in (1, 2):
            folder = new(tmp_path, f"{ranks}")
            for rank in range(ranks):
                place = {"RANK": str(rank), "WORLD_SIZE": str(ranks)}
                run(SEE + code, str(made), folder, TELL, command=[str(programs / "python")], **place)
            processes = seen(folder, shards)
            assert len(processes) == ranks
            assert surplus(processes, shards) == []
    assert digests(made) == before
    assert verify(Storage(str(made))).sound


def test_mosaicml_streaming(made, shards, tmp_path):
    convert, read = block("MosaicML streaming"), seeing(block("MosaicML streaming", 1))
    with environment(tmp_path, "mosaicml-streaming==0.13.0") as programs:
        python = [str(programs / "python")]
        converted = new(tmp_path, "converted")
        run(TORCHVISION + convert, str(made), converted, command=python)
        mds = converted / "out" / "mds"
        one, two = new(tmp_path, "one", mds), new(tmp_path, "two", mds)
        run(TORCHVISION + read, None, one, TELL, command=python)
        run(TORCHVISION + read, None, two, TELL, command=torchrun(programs))
    assert surplus(seen(one, shards), shards) == []
    processes = seen(two, shards)
    assert [len(keys) for keys in processes] == [8, 8]
    assert len(surplus(processes, shards)) == 1


def test_litdata(made, shards, tmp_path):
    convert, read = block("litdata"), seeing(block("litdata", 1))
    with environment(tmp_path, "litdata==0.2.76") as programs:
        python = [str(programs / "python")]
        converted = new(tmp_path, "converted")
        run(convert, str(made), converted, command=python)
        chunks = converted / "out" / "litdata"
        one, two = new(tmp_path, "one", chunks), new(tmp_path, "two", chunks)
        run(read, None, one, TELL, command=python)
        run(JOIN + read, None, two, TELL, command=torchrun(programs))
    index = json.loads((chunks / "index.json").read_text())
    assert index["config"]["data_format"] == ["str", "bytes", "bytes"]
    assert surplus(seen(one, shards), shards) == []
    processes = seen(two, shards)
    assert len(processes) == 2
    assert surplus(processes, shards) == []
