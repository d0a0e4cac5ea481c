"""What a run says of itself when it is over: the dataset card."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from factory.output.card import card_text
from factory.output.identity import Identity
from factory.output.manifest import Progress
from factory.recipe.recipe import load_recipe

THERE = Progress(
    planned=100, retried=0, accepted=30, rejected=10, unverified=0, shards=10, done=4,
    reasons={"unchanged": 10}, skipped={"md": 2}, unet_rows=4000, seconds={"load": 1.0},
)  # fmt: skip


def test_the_card_has_the_hub_s_front_matter_and_the_figures(tmp_path: Path):
    identity = Identity({}, {"corruption": "tinytown@abc"}, {}, {})
    (tmp_path / "README.md").write_text(card_text(load_recipe("quickstart"), identity, THERE))
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
    ("changes", "reported"),
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
def test_the_card_says_what_was_done(tmp_path: Path, changes: tuple[str, ...], reported: str):
    identity = Identity({}, {"corruption": "tinytown@abc"}, {}, {})
    (tmp_path / "README.md").write_text(card_text(load_recipe("quickstart", changes), identity, THERE))
    assert reported in " ".join((tmp_path / "README.md").read_text().split())
