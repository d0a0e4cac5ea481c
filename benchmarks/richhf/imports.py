"""Memory of an import, and its bytes after a kill: `python -m benchmarks.richhf.imports`.

Simulates RichHF-18k with 2,000 and with 20,000 records (maps of 512 pixels, images of 64), imports each in a process of
its own, and the larger one again, with a SIGKILL when half of its shards are published. The shards and indexes of both
must be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.richhf.simulated import example, features, simulate, write_pairs, write_records

DISTINCT = 500
"""Maps that are drawn; the records take them in turn."""

PER_FILE = 1000
"""Pairs of images in a Parquet file."""


def write_files(folder: Path, count: int) -> None:
    """A TFRecord file and Parquet files of a simulated RichHF-18k."""
    maps = [drawn.data for _, drawn, _ in simulate(1, DISTINCT)]
    uids = [
        f"{number:08x}-{hashlib.sha256(str(number).encode()).hexdigest()[:12]}" for number in range(count)
    ]
    write_records(folder / "records/train.tfrecord", _examples(uids, maps))
    mixed = random.Random(0).sample(uids, count)  # pairs are not in the order of the records
    for first in range(0, count, 2 * PER_FILE):
        write_pairs(
            folder / f"images/train-{first:06d}.parquet", mixed[first : first + 2 * PER_FILE], group=100
        )


def _examples(uids: Sequence[str], maps: Sequence[bytes]) -> Iterator[bytes]:
    for number, uid in enumerate(uids):
        first, second = maps[number % len(maps)], maps[(7 * number + 3) % len(maps)]
        yield example(features(uid, first, second))


def start(folder: Path, out: Path) -> subprocess.Popen[str]:
    """An import in a process of its own, which prints its peak memory at the end."""
    command = [sys.executable, "-m", "benchmarks.richhf.imports", "drive", str(folder), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def drive(folder: Path, out: Path) -> None:
    """Imports, and prints counts and peak memory as JSON."""
    import flawforge
    from tests.peak_memory import peak_mib

    began = time.monotonic()
    found = flawforge.import_richhf(
        out, split="train", records=folder / "records", images=folder / "images", soft=True
    )
    total = found.total
    print(
        json.dumps(
            {
                "planned": total.planned,
                "accepted": total.accepted,
                "rejected": total.rejected,
                "seconds": round(time.monotonic() - began, 1),
                "peak_mib": round(peak_mib()),
            }
        )
    )


def digest(out: Path) -> str:
    """Of all shards and indexes."""
    total = hashlib.sha256()
    for path in sorted([*out.glob("shards/*.tar"), *out.glob("index/*.parquet")]):
        total.update(
            f"{path.parent.name}/{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return total.hexdigest()


def killed_in_the_middle(folder: Path, out: Path, shards: int) -> int:
    """Kills an import when half of its shards are published; how many there were then."""
    process = start(folder, out)
    while len(list(out.glob("stats/*.json"))) < shards // 2:
        if process.poll() is not None:
            raise RuntimeError("the import ended before it could be killed")
        time.sleep(0.05)
    process.kill()
    process.wait()
    return len(list(out.glob("stats/*.json")))


def finished(process: subprocess.Popen[str]) -> dict[str, float]:
    """What an import printed."""
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the import failed with the code {process.returncode}")
    report: dict[str, float] = json.loads(output.splitlines()[-1])
    return report


def measure(counts: Sequence[int], folder: Path) -> None:
    """Runs and prints everything."""
    for count in counts:
        place = folder / str(count)
        write_files(place, count)
        print(f"{count:,} records: {finished(start(place, place / 'whole'))}", flush=True)
    shards = len(list((place / "whole/stats").glob("*.json")))
    before = killed_in_the_middle(place, place / "killed", shards)
    resumed = finished(start(place, place / "killed"))
    same = digest(place / "whole") == digest(place / "killed")
    print(
        f"killed after {before} of {shards} shards, resumed: {resumed}; shards and indexes the same: {same}"
    )


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["drive"]:
        drive(Path(arguments[1]), Path(arguments[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--folder", type=Path, help="for the files; default: a temporary folder")
    options = parser.parse_args(arguments)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="richhf-"))
    try:
        measure(options.records, folder)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
