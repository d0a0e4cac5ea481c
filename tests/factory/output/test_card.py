"""The dataset card: front matter in the words of the Hub's schema, and read by the libraries that read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard
from markdown_it.token import Token

from actors.foreign_text import one_line
from factory.maintain.merge import merge
from factory.output.card import card_text, merged_card_text
from factory.output.identity import Identity
from factory.output.manifest import Progress
from factory.output.provenance import Part, merged_identity
from factory.recipe.recipe import content, load_recipe, parse_recipe
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_hand, recipe, sample
from tests.hostile import HOSTILE, tokens, unseen

TOTAL = Progress(
    planned=100, retried=0, accepted=30, rejected=10, unverified=0, shards=10, done=4,
    reasons={"unchanged": 10}, skipped={}, unet_rows=4000, seconds={},
)  # fmt: skip

# The vocabulary, as written down by others.
# size_categories, annotations_creators: docstring of huggingface_hub.DatasetCardData, release 2.4.
SIZES = [
    "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "10B<n<100B",
    "100B<n<1T", "n>1T",
]  # fmt: skip
CREATORS = {"found", "crowdsourced", "expert-generated", "machine-generated", "no-annotation", "other"}
# task_categories and task_ids of computer vision: huggingface.js, packages/tasks/src/pipelines.ts.
TASKS = {
    "image-segmentation": {"instance-segmentation", "semantic-segmentation", "panoptic-segmentation"},
    "image-classification": {"multi-label-image-classification", "multi-class-image-classification"},
    "object-detection": {"face-detection", "vehicle-detection"},
    "image-to-image": {"image-inpainting", "image-colorization", "super-resolution"},
}
# license: hub-docs, docs/hub/repositories-licenses.md, as far as a card of ours can name one.
LICENSES = {"apache-2.0", "unknown", "other"}
# Keys of the front matter: hub-docs, datasetcard.md.
KEYS = {
    "language", "license", "license_name", "license_link", "license_details", "tags", "annotations_creators",
    "language_creators", "language_details", "pretty_name", "size_categories", "source_datasets", "task_categories",
    "task_ids", "paperswithcode_id", "configs", "dataset_info", "extra_gated_fields", "extra_gated_prompt",
    "train-eval-index",
}  # fmt: skip

IDENTITY = Identity({}, {"corruption": "tinytown@abc"}, {}, {})


def card(folder: Path, *changes: str, accepted: int = 30) -> DatasetCard:
    (folder / "README.md").write_text(
        card_text(load_recipe("quickstart", changes), IDENTITY, replace(TOTAL, accepted=accepted))
    )
    return DatasetCard((folder / "README.md").read_text())


def test_every_word_is_one_that_the_hub_knows(tmp_path: Path):
    data = card(tmp_path).data.to_dict()
    assert data.keys() <= KEYS
    assert set(data["task_categories"]) <= TASKS.keys()
    assert set(data["task_ids"]) <= set().union(*(TASKS[task] for task in data["task_categories"]))
    assert set(data["size_categories"]) <= set(SIZES)
    assert set(data["annotations_creators"]) <= CREATORS
    assert data["license"] in LICENSES
    assert all(isinstance(tag, str) for tag in data["tags"])
    assert [(one["config_name"], one["data_files"]) for one in data["configs"]] == [
        ("default", "shards/*.tar")
    ]
    assert data["dataset_info"]["config_name"] == "default"


@pytest.mark.parametrize(
    ("accepted", "place"),
    [
        (0, 0),
        (999, 0),
        (1_000, 1),
        (9_999, 1),
        (10_000, 2),
        (999_999, 3),
        (1_000_000, 4),
        (10**7, 5),
        (10**9, 7),
    ],
)
def test_the_size_is_in_its_bucket(tmp_path: Path, accepted: int, place: int):
    assert card(tmp_path, accepted=accepted).data.size_categories == [SIZES[place]]


@pytest.mark.parametrize("name", ["1.0", "null", "on", "1e5", "-", "2024-01-01", "0x1F"])
def test_a_name_that_looks_like_something_else_stays_a_name(tmp_path: Path, name: str):
    made_by = recipe("small").model_copy(update={"name": name})
    (tmp_path / "README.md").write_text(card_text(made_by, IDENTITY, TOTAL))
    assert DatasetCard((tmp_path / "README.md").read_text()).data.pretty_name == name


def test_only_our_own_images_have_our_own_licence(tmp_path: Path):
    assert card(tmp_path).data.license == "apache-2.0"
    assert card(tmp_path, "corruption.model=someone/sd").data.license == "unknown"
    theirs = parse_recipe(
        "name: x\nsource: {kind: images, urls: [/pictures], size: 64}\n"
        "regions: {kind: segmenter, checkpoint: tinytown/regions-convnext}\n"
        "corruption: {model: tinytown, prompt: empty}\n",
        "x.yaml",
    )
    (tmp_path / "README.md").write_text(card_text(theirs, IDENTITY, TOTAL))
    text = (tmp_path / "README.md").read_text()
    assert DatasetCard(text).data.license == "unknown"
    assert "whoever publishes this sets `license` above" in " ".join(text.split())


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_card_of_clean_negatives_promises_no_artifacts(tmp_path: Path):
    clean = load_recipe("tinytown-negatives")
    text = words(card_text(clean, IDENTITY, TOTAL))
    assert "Clean images that went through a diffusion model, with empty masks, made by Flawforge" in text
    assert (
        "were inverted for 10 of 25 DDIM steps with `tinytown` and resampled, as corrupted images are" in text
    )
    assert "accepted when at most 0% of it changed, against the clean image." in text
    assert "| `KEY.mask.png` | empty: no region was chosen |" in text and "artifacts and" not in text
    image = ("corruption.target=image", "verify.most_outside=0.001")
    text = words(card_text(load_recipe("tinytown-negatives", image), IDENTITY, TOTAL))
    assert "were encoded with `tinytown` and decoded, as" in text and "at most 0.1% of it" in text


def test_the_card_names_what_was_compared():
    for changes, baseline in (
        (["verify.baseline=passage"], "the image's own uncorrupted passage through the model."),
        (["verify.baseline=autoencoder"], "the image's own uncorrupted passage through the autoencoder."),
        (["verify.baseline=original"], "the clean image."),
    ):
        text = words(card_text(load_recipe("quickstart", changes), IDENTITY, TOTAL))
        assert f"of the rest changed, against {baseline}" in text
        assert "corrupted inside the region by the method `noise`, and resampled" in text
    image = recipe("small", "corruption.target=image", "corruption.inversion={}")
    assert "passage through the autoencoder." in words(card_text(image, IDENTITY, TOTAL))


def test_a_merged_card_says_that_some_are_clean():
    clean = content(load_recipe("tinytown-negatives"))
    parts = [
        Part(f"/{name}", name, 5, "", Identity(made_of, {}, {}, {}))
        for name, made_of in (("one", content(recipe("one"))), ("two", clean))
    ]
    text = words(merged_card_text(merged_identity("both", parts), TOTAL, parts))
    assert "Images with injected artifacts and their masks, and clean negatives, made by Flawforge" in text
    assert "| two | 5 | `none` with `tinytown` |" in text and "; of a clean negative empty |" in text
    only = merged_card_text(merged_identity("both", parts[1:]), TOTAL, parts[1:])
    assert "| `KEY.mask.png` | empty: no region was chosen |" in only


def test_a_merged_card_names_its_parts(tmp_path: Path):
    parts = []
    for name, method in (("one", "noise"), ("two", "blur | `x`")):
        made_of = content(recipe(name))
        made_of["corruption"]["method"] = method
        parts.append(Part(f"/{name}", name, 5, "", Identity(made_of, {"corruption": "m@1"}, {}, {})))
    (tmp_path / "README.md").write_text(merged_card_text(merged_identity("both", parts), TOTAL, parts))
    text = (tmp_path / "README.md").read_text()
    data = DatasetCard(text).data.to_dict()
    assert data["pretty_name"] == "both" and data.keys() <= KEYS
    rows = [line for line in text.splitlines() if line.startswith(("| one", "| two"))]
    assert rows == [
        f"| one | 5 | `noise` with `tinytown` | `tinytown` | `{parts[0].identity.digest[:16]}` |",
        f"| two | 5 | `` blur \\x7c `x` `` with `tinytown` | `tinytown` | `{parts[1].identity.digest[:16]}` |",
    ]


def test_datasets_reads_a_folder_by_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The features of the card are those that `datasets` finds itself, and the number of samples is checked by it."""
    import datasets

    shards = [
        [sample(f"item-{n}", f"memory://{n}.png", rejected="x" if n == 1 else "") for n in numbers]
        for numbers in ((0, 1, 2), (3, 4, 5))
    ]
    out = by_hand(tmp_path / "out", shards, name="seen")
    urls = sorted(str(path) for path in (tmp_path / "out" / "shards").glob("*.tar"))
    plain = datasets.load_dataset("webdataset", data_files=urls, split="train", cache_dir=str(tmp_path / "a"))
    carded = datasets.load_dataset(out.url, split="train", cache_dir=str(tmp_path / "b"))
    assert dict(carded.features) == dict(plain.features)
    assert sorted(carded["__key__"]) == [f"item-{n}" for n in (0, 2, 3, 4, 5)]
    assert carded[0]["json"] == plain[0]["json"] and carded[0]["image.png"].size == (16, 16)
    readme = tmp_path / "out" / "README.md"
    front = readme.read_text()
    readme.write_text(front.replace("num_examples: 5", "num_examples: 6"))
    with pytest.raises(datasets.exceptions.NonMatchingSplitsSizesError):
        datasets.load_dataset(out.url, split="train", cache_dir=str(tmp_path / "c"))


def test_datasets_reads_merged_parts_of_other_fields(tmp_path: Path):
    """One part without originals: its samples have None there, whichever part comes first."""
    import datasets

    without = Storage(str(tmp_path / "without"))
    by_hand(tmp_path / "with", [[sample("a-1", "memory://1.png")]], name="with")
    by_hand(Path(without.url), [[sample("b-1", "memory://2.png")]], name="without", original=False)
    merge(str(tmp_path / "both"), [without.url, str(tmp_path / "with")])
    both = datasets.load_dataset(str(tmp_path / "both"), split="train", cache_dir=str(tmp_path / "cache"))
    found = {row["__key__"]: row["original.png"] for row in both}
    assert found["b-1"] is None and found["a-1"].size == (16, 16)


def test_the_front_matter_is_plain_yaml(tmp_path: Path):
    card(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\n")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["dataset_info"]["splits"] == [{"name": "train", "num_examples": 30}]
    names = [feature["name"] for feature in front["dataset_info"]["features"]]
    assert names == ["image.png", "mask.png", "changed.png", "original.png", "json", "__key__", "__url__"]


HARMFUL = {"html_inline", "html_block", "link_open", "image", "s_open", "blockquote_open", "bullet_list_open"}


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_stays_text(tmp_path: Path, text: str):
    """Extensions of the source's files, reasons, URLs and names of models come from outside."""
    made_by = recipe("small")
    source = made_by.source.model_copy(update={"urls": [text, f"s3://bucket/{text}"]})
    corruption = made_by.corruption.model_copy(update={"model": text, "method": text})
    made_by = made_by.model_copy(update={"name": text, "source": source, "corruption": corruption})
    total = replace(TOTAL, skipped={text: 3, "md": 1}, reasons={text: 4})
    (tmp_path / "README.md").write_text(card_text(made_by, Identity({}, {text: text}, {}, {}), total))
    _check_hostile(tmp_path, text)
    made_of = content(made_by)
    parts = [Part("/x", text, 5, "", Identity(made_of, {"corruption": text}, {}, {})) for _ in range(2)]
    merged = Identity({"name": text, "parts": []}, {text: text}, {}, {})
    (tmp_path / "README.md").write_text(merged_card_text(merged, total, parts))
    rows = [token for token in _check_hostile(tmp_path, text) if token.type == "tr_open"]
    assert len(rows) == 1 + 2 + 1 + 5, "two tables: parts, and files of a sample"


def _check_hostile(folder: Path, text: str) -> list[Token]:
    plain = (folder / "README.md").read_text()
    card, front = DatasetCard(plain), yaml.safe_load(plain.split("\n---\n")[0].removeprefix("---\n"))
    assert front["license"] == "unknown" and front["pretty_name"] == one_line(text)
    assert front == card.data.to_dict() | {"pretty_name": one_line(text)} and front.keys() <= KEYS
    assert not unseen(plain.replace("\n", ""))
    found = list(tokens(card.text))
    assert not {token.type for token in found} & HARMFUL
    assert [token.tag for token in found if token.type == "heading_open"] == ["h1"]
    assert [token.content[:11] for token in found if token.type == "fence"] == ["import glob"]
    return found


def test_the_most_frequent_reasons_only(tmp_path: Path):
    skipped = {f"ext{number}": number for number in range(1, 1001)}
    made_by = recipe("small")
    (tmp_path / "README.md").write_text(card_text(made_by, IDENTITY, replace(TOTAL, skipped=skipped)))
    text = " ".join((tmp_path / "README.md").read_text().split())
    assert "1000 ext1000, 981 ext981," in text
    assert f"999 ext999, {sum(range(1, 981))} for 980 other reasons." in text
