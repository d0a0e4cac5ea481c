"""A conformant RichHF-18k with faults, imported: right labels, counts and reasons."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.errors import SourceError
from benchmarks.richhf.simulated import Drawn
from eval.imports.job import Imported, import_set
from eval.richhf.data_set import RichHF, RichHFSettings
from eval.richhf.labels import LabelPolicy
from eval.richhf.listing import Item, urls_of_records
from eval.richhf.sample import SampleSettings
from factory.output.reference import Reference
from factory.output.shards.tar import samples
from tests.richhf_files import SIDE, Files, messy

FAULTS = {
    "missing_image": "absent",
    "token_count": "fewer-labels",
    "map_damaged": "damaged-map",
    "bad_feature": "no-score",
    "bad_filename": "record",
    "bad_example": "record",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return messy(tmp_path_factory.mktemp("messy"))


@pytest.fixture(scope="module")
def imported(files: Files, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Imported]:
    out = tmp_path_factory.mktemp("imported")
    return out, run(files, out, soft=True)


def run(files: Files, out: Path, *, labels: LabelPolicy | None = None, **settings: Any) -> Imported:
    made_of = SampleSettings(labels=labels or LabelPolicy(), **settings)
    split = RichHFSettings(split="test", records=str(files.records), images=str(files.images), sample=made_of)
    return import_set(RichHF(split), str(out), per_shard=7)


def read(out: Path) -> dict[str, dict[str, Any]]:
    """The files of every sample by uid, images as arrays."""
    found = {}
    for tar in sorted(out.glob("shards/*.tar")):
        with tar.open("rb") as stream:
            for _, members in samples(stream):
                about = json.loads(members["json"])
                images = {
                    name: np.asarray(Image.open(io.BytesIO(data)))
                    for name, data in members.items()
                    if name != "json"
                }
                found[about["uid"]] = {**images, "json": about}
    return found


def people(drawn: Drawn) -> int:
    """By the policies' defaults: the first number from three on that fits, else the largest."""
    return next((number for number in drawn.fits if number >= 3), drawn.fits[-1])


def marks(drawn: Drawn, number: int) -> Any:
    return drawn.marks.astype(int) * number // drawn.annotators


def test_counts(files: Files, imported: tuple[Path, Imported]):
    total = imported[1].total
    kept = sum(people(drawn) >= 3 for drawn in files.drawn.values())
    few = len(files.drawn) - kept
    assert (total.planned, total.accepted, total.rejected) == (len(files.drawn) + 6, kept, few + 6)
    assert total.reasons == dict.fromkeys(FAULTS, 1) | ({"few_annotators": few} if few else {})
    assert total.skipped == {"duplicate_uid": 1}


def test_reasons_and_messages(imported: tuple[Path, Imported]):
    rows = [row for path in imported[0].glob("index/*.parquet") for row in pq.read_table(path).to_pylist()]
    rejected = {row["reason"]: row for row in rows if row["status"] == "rejected"}
    for reason, name in FAULTS.items():
        row = rejected[reason]
        assert row["key"].startswith(f"{name}-") and row["stage"] == "load", row
        assert "test.tfrecord#record=" in row["source"] and row["detail"]
    assert (
        "the prompt of the image has 9 tokens, prompt_misalignment_label 2"
        in rejected["token_count"]["detail"]
    )
    assert "artifact_map: " in rejected["map_damaged"]["detail"]
    assert "artifact_score holds no value" in rejected["bad_feature"]["detail"]
    assert "has no image of this uid" in rejected["missing_image"]["detail"]
    assert rejected["missing_image"]["annotators"] == 3  # the map was looked at all the same


def test_labels(files: Files, imported: tuple[Path, Imported]):
    found = read(imported[0])
    for uid, drawn in files.drawn.items():
        number = people(drawn)
        if number < 3:
            assert uid not in found
            continue
        sample, about = found[uid], found[uid]["json"]
        assert (about["annotators"], about["annotators_fit"]) == (number, ",".join(map(str, drawn.fits)))
        assert about["decided"] == ("exact" if len(drawn.fits) == 1 else "ambiguous")
        wanted = marks(drawn, number) >= math.ceil(2 * number / 3)
        soft = np.rint(255 * marks(drawn, number) / number).astype(np.uint8)
        if uid.startswith("png"):
            assert np.array_equal(sample["mask.png"], wanted)
            assert np.array_equal(sample["soft.png"], soft)
            assert np.array_equal(sample["misalignment.png"], soft)
            assert about["mask_area"] == wanted.mean()
        else:
            assert (sample["mask.png"] != wanted).mean() < 0.01
            assert (np.abs(sample["misalignment.png"].astype(int) - soft) > 30).mean() < 0.02
        assert sample["image.png"].shape == (SIDE, SIDE, 3)
        assert about["artifact_score"] == 0.5 and about["split"] == "test"
        assert about["token_labels"] == " ".join("1" * 9) and about["misaligned_tokens"] == ""


def test_every_sample_has_the_same_fields(imported: tuple[Path, Imported]):
    kinds = {
        tuple((name, type(value)) for name, value in sorted(sample["json"].items()))
        for sample in read(imported[0]).values()
    }
    assert len(kinds) == 1


def test_figures(files: Files, imported: tuple[Path, Imported]):
    figures = imported[1].figures
    exact = sum(len(drawn.fits) == 1 for drawn in files.drawn.values())
    # The maps of `absent` and `fewer-labels` were read too: three annotators, which fits six as well.
    assert figures["records"] == len(files.drawn) + 6
    assert figures["maps that fit one number of annotators"] == exact
    assert figures["maps that fit several, decided by ambiguous=three"] == len(files.drawn) - exact + 2
    assert figures["samples"] == figures["samples with a mask"] + figures["samples with an empty mask"]
    assert figures["images in the paper"] == 500
    card = (imported[0] / "README.md").read_text()
    assert "images in the paper | 500" in card and "`KEY.soft.png`" in card


def test_a_size_and_other_policies(files: Files, tmp_path: Path):
    """Maps are cropped and resized as their images are; every second pixel of the label stays."""
    policy = LabelPolicy(ambiguous="most", empty="reject", votes="two", least_annotators=1)
    total = run(files, tmp_path, labels=policy, size=SIDE // 2, tokens="ignore").total
    found = read(tmp_path)
    for uid, drawn in files.drawn.items():
        if not uid.startswith("png"):
            continue
        number = drawn.fits[-1]
        wanted = marks(drawn, number) >= min(2, number)
        assert (uid in found) == wanted.any()
        if uid in found:
            assert found[uid]["image.png"].shape == (SIDE // 2, SIDE // 2, 3)
            assert np.array_equal(found[uid]["mask.png"], wanted[1::2, 1::2])
            assert "soft.png" not in found[uid]
    assert "token_count" not in total.reasons
    assert found["fewer-labels"]["json"]["token_labels"] == ""


def test_which_files_hold_the_records():
    assert urls_of_records("/data/richhf", "dev") == ["/data/richhf/dev.tfrecord*"]
    assert urls_of_records("/data/my.tfrecords/", "test") == ["/data/my.tfrecords/test.tfrecord*"]
    for files in ("/data/x.tfrecord", "/data/x.tfrecord-00000-of-00002", "/data/*"):
        assert urls_of_records(files, "train") == [files]


def test_a_plan_of_something_else():
    for member in ("", "{}", '{"image":null,"record":[1]}', '{"image":{"x":1},"record":[1,2,3]}', "[]"):
        with pytest.raises(SourceError, match="does not say where the-key is"):
            Item.of(Reference("the-key", "/x.tfrecord", member, "", ""))
