"""A small output written by hand, in the layout of a build."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

KEYS = ("one", "two")
_TIMES = ("20261130T101534Z-99036090", "20261130T112233Z-01234567")


@dataclass(frozen=True)
class Written:
    """What the files of an output follow from.

    Attributes:
        code: version of the code; with it the digest differs, and all that follows from it.
        level: of one pixel of the image of `two`.
        seed, score: in JSON and index of `two`.
        mode: file mode in the header of the last member.
        keys: of the plan's rows.
        seconds: in the sidecar, by stage.
        stages: names of these.
        run: which of two runs made it.
    """

    code: str = "0.1.0+000000000000"
    level: int = 7
    seed: int = 11
    score: float = 0.25
    mode: int = 0o644
    keys: tuple[str, ...] = (*KEYS, "three")
    seconds: float = 1.5
    stages: tuple[str, ...] = ("load", "corrupt")
    run: int = 0

    def other(self, **changes: Any) -> Written:
        """The same output by another version of the code, in another run, with further changes."""
        return replace(self, code="0.2.0+ffffffffffff", seconds=20.25, run=1, **changes)


def write_build(folder: Path, written: Written, inputs: str = "/inputs") -> Path:
    """A build with the one case `small`, and its output."""
    record = {"root": str(folder), "inputs": inputs, "finished": {"small": 1.0}}
    output = folder / "small"
    output.mkdir(parents=True)
    (folder / "equal-bytes.json").write_text(json.dumps(record))
    _write_output(output, written)
    return output


def _write_output(output: Path, written: Written) -> None:
    files: dict[str, bytes] = {}
    plan = pa.table({"shard": [0] * len(written.keys), "key": list(written.keys)})
    files["plan.parquet"] = _parquet(plan)
    identity = {"content": {"seed": 3}, "versions": {"flawforge": written.code, "torch": "2.9"}}
    digest = _sha256(json.dumps(identity).encode())
    document = {**identity, "digest": digest, "plan_sha256": _sha256(files["plan.parquet"])}
    files["identity.json"] = json.dumps(document, indent=1).encode()
    samples = {key: _sample(key, digest, written) for key in KEYS}
    tar, index = _tar(samples, written.mode), _parquet(_index(samples, written))
    files |= {"shards/000000.tar": tar, "index/000000.parquet": index}
    records = {
        "tar": {"bytes": len(tar), "sha256": _sha256(tar)},
        "index": {"bytes": len(index), "sha256": _sha256(index)},
    }
    sidecar = {
        "shard": 0,
        "digest": digest,
        **records,
        "seconds": dict.fromkeys(written.stages, written.seconds),
        "plan_sha256": document["plan_sha256"],
    }
    files["stats/000000.json"] = json.dumps(sidecar, separators=(",", ":")).encode()
    manifest = {"digest": digest, "versions": identity["versions"], "shards": [records["tar"]]}
    files["manifest.json"] = json.dumps(manifest, indent=1).encode()
    files["README.md"] = f"# small\n\nrecipe digest `{digest[:16]}`\n".encode()
    files["splits/train.txt"] = f"{output}/shards/000000.tar\n".encode()
    name = _TIMES[written.run]
    files[f"runs/{name}.json"] = json.dumps({"name": name, "figures": {"made": 3}}).encode()
    files[f"runs/{name}.jsonl"] = json.dumps({"event": "begun", "time": name}).encode() + b"\n"
    for path, data in files.items():
        (output / path).parent.mkdir(exist_ok=True)
        (output / path).write_bytes(data)


def _sample(key: str, digest: str, written: Written) -> dict[str, bytes]:
    pixels = np.zeros((8, 8, 3), np.uint8)
    about = {"key": key, "recipe_digest": digest, "seed": 10, "score": 0.5}
    if key == "two":
        pixels[2, 3, 1] = written.level
        about |= {"seed": written.seed, "score": written.score}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"image.png": buffer.getvalue(), "json": json.dumps(about).encode()}


def _index(samples: dict[str, dict[str, bytes]], written: Written) -> pa.Table:
    """Rows of the samples, and of a reject, as factory.shards writes them."""
    about = [json.loads(files["json"]) for files in samples.values()]
    return pa.table(
        {
            "key": [*samples, "three"],
            "status": ["accepted", "accepted", "rejected"],
            "seed": [*(one["seed"] for one in about), 12],
            "image_sha256": [*(_sha256(files["image.png"]) for files in samples.values()), None],
            "json_sha256": [*(_sha256(files["json"]) for files in samples.values()), None],
        }
    )


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _tar(samples: dict[str, dict[str, bytes]], last_mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in samples.items():
            for extension, data in files.items():
                header = tarfile.TarInfo(f"{key}.{extension}")
                header.size = len(data)
                header.mode = last_mode if (key, extension) == (KEYS[-1], "json") else 0o644
                tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
