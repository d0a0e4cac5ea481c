"""What a training was given: code that is put into a block and reports it, and its comparison with the shards."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

# `_see` takes images uint8 [B, H, W, 3], masks bool [B, H, W] and keys; `_tell` writes them to a file of this process.
SEE = """
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


def keys_by_digest(output: Path) -> list[dict[str, str]]:
    """For each shard that has samples: their keys by the digest of their pixels, image and mask."""
    shards = []
    for path in sorted(output.glob("shards/*.tar")):
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        keys = {}
        for key in {name.partition(".")[0] for name in files}:
            image, mask = (
                np.asarray(Image.open(io.BytesIO(files[f"{key}.{kind}.png"]))) for kind in ("image", "mask")
            )
            assert (image.dtype, mask.dtype) == (np.uint8, np.bool_)
            keys[hashlib.sha256(image.tobytes() + np.packbits(mask).tobytes()).hexdigest()] = key
        shards.append(keys)
    return shards


def seen(folder: Path, shards: Sequence[dict[str, str]]) -> list[list[str]]:
    """The keys that each process was given. Pixels, shapes, types and, where they are reported, keys are checked."""
    by_digest = {digest: key for keys in shards for digest, key in keys.items()}
    processes = []
    for path in folder.glob("seen-*.json"):
        keys = []
        for key, kinds, digest in json.loads(path.read_text()):
            assert kinds == [[48, 48, 3], "uint8", [48, 48], "bool"]
            assert digest in by_digest, f"{key or 'a sample'}: its pixels are not those of the shards"
            assert key in ("", by_digest[digest])
            keys.append(by_digest[digest])
        processes.append(keys)
    return processes


def surplus(processes: Sequence[Sequence[str]], shards: Sequence[dict[str, str]]) -> list[str]:
    """What was given more than once, where no process was idle and every sample was given."""
    assert all(processes)
    given = Counter(key for keys in processes for key in keys)
    every = Counter(key for keys in shards for key in keys.values())
    assert every <= given
    return list((given - every).elements())
