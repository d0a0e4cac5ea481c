"""What a run says of itself: the tally, the lines off a terminal, the dataset card."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard
from rich.console import Console

from factory import monitor as monitoring
from factory.card import write_card
from factory.identity import Identity
from factory.manifest import Progress
from factory.monitor import LineMonitor, Tally
from factory.recipe import load_recipe
from factory.shards.records import FileRecord, Sidecar
from factory.storage import Storage

THERE = Progress(
    planned=100, retried=0, accepted=30, rejected=10, unverified=0, shards=10, done=4,
    reasons={"unchanged": 10}, skipped={"md": 2}, unet_rows=4000, seconds={"load": 1.0},
)  # fmt: skip


def shard(accepted: int, rejected: int) -> Sidecar:
    return Sidecar(
        schema_version=1, shard=5, digest="d", planned=accepted + rejected, accepted=accepted, rejected=rejected,
        unverified=0, reasons={"spilled": rejected}, unet_rows=1, tar=None,
        index=FileRecord(bytes=1, sha256="s"), seconds={},
    )  # fmt: skip


def test_the_tally_counts_on_from_earlier_runs(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tally = Tally(THERE)
    assert tally.words() == "30 accepted (75%), 0.0 images/s, ? left; rejects: unchanged 10"
    now[0] += 4
    tally.add(shard(7, 3))
    # 10 items in 4 seconds; 50 are left, which takes 20 seconds
    assert tally.words() == "37 accepted (74%), 2.5 images/s, 0:20 left; rejects: unchanged 10, spilled 3"


def test_lines_come_also_while_no_shard_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(monitoring, "SECONDS_BETWEEN_LINES", 0.01)
    text = io.StringIO()
    with LineMonitor(Console(file=text, width=40)) as view:
        view.show(Tally(THERE))
        deadline = time.monotonic() + 10
        while text.getvalue().count("\n") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = text.getvalue().splitlines()
    assert len(lines) >= 4 and all(line.startswith("40/100 done: 30 accepted (75%)") for line in lines)


def test_the_card_has_the_hub_s_front_matter_and_the_figures(tmp_path: Path):
    identity = Identity({}, {"corruption": "tinytown@abc"}, {}, {})
    write_card(Storage(str(tmp_path)), load_recipe("quickstart"), identity, THERE)
    card = DatasetCard((tmp_path / "README.md").read_text())
    assert card.data.task_categories == ["image-segmentation"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.to_dict()["configs"] == [{"config_name": "default", "data_files": "shards/*.tar"}]
    assert "30 samples in 4 of 10 shards" in card.text
    assert (
        "10 of 100 planned items were rejected (unchanged 10); passed over while listing the source: 2 md"
        in card.text
    )
    assert "tinytown@abc" in card.text and identity.digest[:16] in card.text


IMAGE = ("corruption.target=image", "corruption.inversion={}", "corruption.deeper=[]")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            ("corruption.deeper=[]",),
            "were inverted for 10 of 25 DDIM steps with `tinytown`, corrupted inside the region by the method `noise`",
        ),
        ((), "inverted for 10, 13 or 15 of 25 DDIM steps"),
        (
            IMAGE,
            "were encoded with `tinytown`, corrupted inside the region by the method `noise`, and decoded",
        ),
        (("verify.baseline=passage",), "against the image's own uncorrupted passage through the model."),
        ((), "uncorrupted passage through the autoencoder."),
        ((*IMAGE, "verify.baseline=passage"), "uncorrupted passage through the autoencoder."),
    ],
)
def test_the_card_says_what_was_done(tmp_path: Path, changes: tuple[str, ...], told: str):
    identity = Identity({}, {"corruption": "tinytown@abc"}, {}, {})
    write_card(Storage(str(tmp_path)), load_recipe("quickstart", changes), identity, THERE)
    assert told in " ".join((tmp_path / "README.md").read_text().split())
