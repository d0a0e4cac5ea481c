"""Files of a small simulated RichHF-18k with its images, sound or with the faults that real downloads have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.richhf.simulated import (
    Drawn,
    draw_map,
    example,
    features,
    simulate,
    write_pairs,
    write_records,
)

SIDE = 96


@dataclass(frozen=True)
class Files:
    """Where the files are, and what is in them.

    Attributes:
        records, images: folders.
        drawn: the artifact maps, by uid, of the records that are sound.
    """

    records: Path
    images: Path
    drawn: dict[str, Drawn]


def sound(folder: Path, count: int) -> Files:
    """Records of which every one has an image; every other map is a JPEG."""
    every = list(simulate(1, count, side=SIDE))
    write_records(folder / "records/train.tfrecord", [data for _, _, data in every])
    write_pairs(folder / "images/train-00000-of-00002.parquet", [uid for uid, _, _ in every[: count // 2]])
    write_pairs(folder / "images/train-00001-of-00002.parquet", [uid for uid, _, _ in every[count // 2 :]])
    return Files(folder / "records", folder / "images", {uid: drawn for uid, drawn, _ in every})


def messy(folder: Path) -> Files:
    """Maps of 1 to 6 annotators as PNG and JPEG, and records with a fault each, whose uids name it."""
    drawn = {
        f"{form}-{people}-{seed}".lower(): draw_map(people, seed, side=SIDE, form=form)
        for people in range(1, 7)
        for seed in (1, 2)
        for form in ("PNG", "JPEG")
    }
    sound_map = draw_map(3, 5, side=SIDE).data
    rows = [example(features(uid, one.data, one.data)) for uid, one in drawn.items()]
    rows += [
        example(features("absent", sound_map, sound_map)),
        example(features("fewer-labels", sound_map, sound_map, [1, 0])),
        example(features("damaged-map", sound_map[: len(sound_map) // 2], sound_map)),
        example({**features("no-score", sound_map, sound_map), "artifact_score": None}),
        example({**features("x", sound_map, sound_map), "filename": b"a/.png"}),
        b"\xff no message",
        rows[0],
    ]
    write_records(folder / "records/test.tfrecord", rows)
    named = [*drawn, "fewer-labels", "damaged-map", "no-score"]
    write_pairs(folder / "images/test-0.parquet", named, side=SIDE)
    write_pairs(folder / "images/train-0.parquet", ["absent"], side=SIDE)
    return Files(folder / "records", folder / "images", drawn)
