"""The recipe: how it is read, what its digest covers, that it survives its own text."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from actors.errors import RecipeError
from factory.recipe.recipe import (
    SHIPPED,
    Recipe,
    content,
    differences,
    digest,
    dump,
    load_recipe,
    parse_recipe,
)

SMALL = """\
name: small
source: {kind: tinytown, size: 64}
regions: {kind: source}
"""


def small(extra: str = "", *overrides: str) -> Recipe:
    return parse_recipe(SMALL + extra, "mine.yaml", overrides)


def test_overrides_win_over_the_file_and_the_later_over_the_earlier() -> None:
    recipe = small(
        "verify:\n", "verify.attempts=2", "verify.attempts=3", "source.limit=", "source.parts=[hand]"
    )
    assert (recipe.verify.attempts, recipe.source.limit, recipe.source.parts) == (3, None, ["hand"])
    assert small("seed: -1\n", "seed=5").seed == 5


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_recipes_load_by_their_bare_names(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_recipe(Path(__file__).parents[3] / "recipes" / f"{name}.yaml") == recipe
    assert parse_recipe(dump(recipe), "dump") == recipe


def test_the_shipped_recipes_say_what_they_promise() -> None:
    quickstart, sd15 = load_recipe("quickstart"), load_recipe("sd15")
    negatives = load_recipe("tinytown-negatives")
    differing = {line.split(":")[0] for line in differences(content(quickstart), content(negatives))}
    assert {name for name in differing if not name.startswith("regions.")} == {
        "corruption.deeper",
        "corruption.method",
        "source.first_seed",
        "verify.baseline",
        "verify.least_inside",
        "verify.most_outside",
    }
    assert (quickstart.source.limit, quickstart.source.size, quickstart.output.samples_per_shard) == (
        512,
        64,
        64,
    )
    assert quickstart.corruption.steps == (10, 13, 15)
    assert (sd15.corruption.inversion.mode, sd15.corruption.deeper) == ("fast", [])
    assert (sd15.corruption.inversion_steps, sd15.corruption.inference_steps) == (10, 50)
    assert (sd15.corruption.dtype, sd15.corruption.batch_size, sd15.execution.corrupt.gpus) == (
        "float16",
        32,
        1,
    )


def test_the_sections_of_corruption() -> None:
    text = """\
corruption:
  method: rotate
  inversion_steps: 5
  deeper: [10, 15, 20]
  inversion: {mode: published, iterations: 4, regularisation: false}
  guidance_scale: 7.5
  prompt: caption
verify: {baseline: autoencoder}
"""
    corruption = small(text).corruption
    assert corruption.steps == (5, 10, 15, 20) and not corruption.inversion.regularised
    assert (corruption.inversion.iterations, corruption.inversion.averaging) == (4, None)
    assert small("", "corruption.inversion.mode=renoise").corruption.inversion.regularised
    plain = small().corruption
    assert (plain.steps, plain.inversion.mode, plain.inversion.regularised) == ((10,), "fast", False)
    image = small("", "corruption.target=image", "corruption.inversion_steps=20").corruption
    assert (image.steps, image.inversion_steps) == ((0,), 20)


def test_what_is_taken_of_a_source() -> None:
    text = """\
name: rows
source:
  kind: parquet
  urls: ["hf://datasets/org/name/data/*.parquet"]
  size: 64
  share: 1
  limit: 9
  fields: {image: [image, "img url"], mask: "m:1", caption: "any text"}
  filters:
    - {field: width, least: 512, most: 4096.5}
    - {field: day, least: "2020-01-01"}
    - {field: license, any_of: [by, 4, true]}
    - {field: nsfw, none_of: [true]}
regions: {kind: source}
corruption: {prompt: caption}
selection: {largest_artifact_area: 0, detector: d, detector_revision: v1}
"""
    recipe = parse_recipe(text, "mine.yaml")
    source = recipe.source
    assert (source.share, source.limit, source.fields.image) == (1.0, 9, ["image", "img url"])
    assert [(one.field, one.least, one.most, one.any_of, one.none_of) for one in source.filters] == [
        ("width", 512, 4096.5, None, None),
        ("day", "2020-01-01", None, None, None),
        ("license", None, None, ["by", 4, True], None),
        ("nsfw", None, None, None, [True]),
    ]
    assert (recipe.selection.detector_threshold, recipe.selection.largest_artifact_area) == (0.5, 0.0)
    again = parse_recipe(dump(recipe), "dump")
    assert again == recipe
    assert digest(content(again)) == digest(content(recipe))
    assert digest(content(parse_recipe(text, "x", ["source.filters=[]"]))) != digest(content(recipe))


def test_the_digest_is_sha256_of_canonical_json() -> None:
    document = {"b": [1, 2.5, None], "a": {"z": "é", "y": True}}
    assert digest(document) == hashlib.sha256(b'{"a":{"y":true,"z":"\\u00e9"},"b":[1,2.5,null]}').hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"a": float("nan")})


def test_the_digest_covers_content_and_nothing_else() -> None:
    plain = digest(content(small()))
    idle = "execution: {passes: 9, corrupt: {gpus: 1, largest: 8, memory: 1}}\nlimits: {rejects: 0.5}\n"
    assert digest(content(small(idle, "name=other"))) == plain
    assert digest(content(small("verify: {least_inside: 0.2}\n"))) == plain
    changes = (
        "verify.least_inside=0.3",
        "seed=1",
        "corruption.dtype=bfloat16",
        "corruption.threads=2",
        "corruption.batch_size=8",
        "corruption.method=blur",
        "corruption.target=image",
        "corruption.deeper=[15, 20]",
        "corruption.inversion.mode=published",
        "corruption.channels_last=true",
        "corruption.compiled=true",
        "verify.baseline=autoencoder",
        "verify.baseline=original",
        "source.limit=4",
        "output.original=false",
        "regions.threshold=0.4",
        "selection.smallest_side=32",
        "source.share=0.5",
    )
    digests = {digest(content(small("", change))) for change in changes}
    assert len(digests | {plain}) == len(changes) + 1


def test_a_whole_number_is_as_good_as_a_fraction_for_the_digest() -> None:
    three, exact = small("selection: {largest_aspect: 3}\n"), small("selection: {largest_aspect: 3.0}\n")
    assert digest(content(three)) == digest(content(exact))


def test_differences_name_each_value_on_its_own_line() -> None:
    old, new = content(small()), content(small("", "verify.least_inside=0.3", "source.parts=[hand]"))
    assert differences(old, new) == [
        'source.parts: ["face", "hand", "letter"] -> ["hand"]',
        "verify.least_inside: 0.2 -> 0.3",
    ]
    assert differences(old, old) == []
    assert differences({"b": {"c": 1, "d": {}}, "a": None}, {"b": {"c": 1.0}, "e": {"f": "x"}}) == [
        "a: null -> (not set)",
        "b.c: 1 -> 1.0",
        "b.d: {} -> (not set)",
        'e.f: (not set) -> "x"',
    ]
    assert differences({"a": {"b": 1}}, {"a": 2}) == ['a: {"b": 1} -> 2']


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([1.0, 0.5]) | st.sampled_from("xy"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_no_differences_means_the_same_digest(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert (differences(old, new) == []) == (digest(old) == digest(new))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@settings(max_examples=60, deadline=None)
@example(
    urls=["a\x85b", "a\u2028", " x ", "1e3", "010", "0o7", "1_0", "1:30", "no", "~", "<<", "=", "2020-01-01"],
    checkpoint="\x85",
    threshold=1e-7,
    cpus=1.0,
    limit=None,
)
@given(
    urls=st.lists(TEXT.filter(str.strip), min_size=1, max_size=3),
    checkpoint=TEXT,
    threshold=st.floats(0, 1, exclude_min=True, exclude_max=True),
    cpus=st.floats(0, exclude_min=True, allow_infinity=False),
    limit=st.none() | st.integers(1, 2**63 - 1),
)
def test_a_recipe_survives_its_own_text(
    urls: list[str], checkpoint: str, threshold: float, cpus: float, limit: int | None
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "1e5",
            "source": {"kind": "images", "urls": urls, "size": 64, "limit": limit},
            "regions": {"kind": "segmenter", "checkpoint": checkpoint, "threshold": threshold},
            "execution": {"load": {"cpus": cpus}},
        }
    )
    again = parse_recipe(dump(recipe), "dump")
    assert again == recipe
    assert digest(content(again)) == digest(content(recipe))
    assert yaml.safe_load(dump(recipe)) == recipe.model_dump(mode="json")


def test_a_recipe_is_frozen_and_every_key_is_described() -> None:
    with pytest.raises(ValidationError):
        small().seed = 3
    left: list[type[BaseModel]] = [Recipe]
    while left:
        for name, field in left.pop().model_fields.items():
            assert field.description, name
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                left.append(field.annotation)


def test_a_recipe_is_read_without_anything_heavy() -> None:
    program = (
        "import sys, factory.recipe.recipe; "
        "sys.exit(str(sys.modules.keys() & {'torch', 'ray', 'diffusers', 'transformers', 'numpy'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.stderr.strip() == "set()"


def test_the_autoencoder_s_batch_is_content_and_part_of_a_batch() -> None:
    plain = small("corruption: {batch_size: 4}\n")
    fewer = small("corruption: {batch_size: 4, vae_batch_size: 1}\n")
    assert plain.corruption.vae_batch_size is None
    assert differences(content(plain), content(fewer)) == ["corruption.vae_batch_size: null -> 1"]
    with pytest.raises(RecipeError, match=r"vae_batch_size.*null, or at most batch_size \(4\)"):
        small("corruption: {batch_size: 4, vae_batch_size: 5}\n")
    with pytest.raises(RecipeError, match="vae_batch_size"):
        small("corruption: {vae_batch_size: 0}\n")


def test_hardware_decides_no_bytes() -> None:
    same = small("execution: {hardware: same}\n")
    assert content(same) == content(small()) and small().execution.hardware == "any"
    with pytest.raises(RecipeError, match=r"execution\.hardware"):
        small("execution: {hardware: equal}\n")


PARQUET = """
name: rows
source:
  kind: parquet
  urls: [rows.parquet]
  size: 64
  fields: {image: [image], encoding: base64}
  cells: {allow: ["https://", "s3://bucket/photos", /data]}
regions: {kind: segmenter, checkpoint: tinytown/regions-convnext}
corruption: {prompt: empty}
"""


def test_what_cells_may_name_is_content() -> None:
    recipe = parse_recipe(PARQUET, "rows.yaml")
    assert recipe.source.cells.allow == ["https://", "s3://bucket/photos", "/data"]
    assert recipe.source.fields.encoding == "base64"
    assert parse_recipe(dump(recipe), "dump") == recipe
    other = parse_recipe(PARQUET, "rows.yaml", ["source.cells.allow=[]"])
    assert digest(content(other)) != digest(content(recipe))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("source.cells.allow=[images]", "source.cells.allow.*'images'.*full URL"),
        ("source.cells.allow=['https://u:p@h/']", "source.cells.allow.*user name, password or token"),
        ("source.cells.allow=['ftp://u:p@h/']", "source.cells.allow.*user name, password or token"),
        ("source.cells.allow=['https://h/../x']", "source.cells.allow.*no '..'"),
        ("source.fields.encoding=hex", "source.fields.encoding.*plain.*base64"),
    ],
)
def test_cells_that_make_no_sense(override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        parse_recipe(PARQUET, "rows.yaml", [override])
    assert "u:p@" not in str(caught.value)


def test_settings_of_cells_are_for_parquet_only() -> None:
    for override in ("source.cells.allow=['https://']", "source.fields.encoding=base64"):
        with pytest.raises(RecipeError, match="parquet"):
            parse_recipe(
                PARQUET.replace("kind: parquet", "kind: images")
                .replace("[image]", "[png]")
                .replace("encoding: base64", "mask: mask.png"),
                "rows.yaml",
                ["source.cells.allow=[]", override],
            )


@pytest.mark.parametrize(
    "url",
    [
        "https://host.example.org/folder/rows.parquet?token=AbCdEfGhIjKlMnOpQrStUvWxY",
        "https://user:AbCdEfGhIjKlMnOpQrStUvWxY@host.example.org/a/long/way/to/the/rows.parquet",
    ],
)
def test_a_mistake_shows_no_secret(url: str) -> None:
    """A text where a list belongs is the usual slip; it is cut in its middle for the message."""
    for recipe, overrides in (
        (PARQUET.replace("[rows.parquet]", f'"{url}"'), []),
        (PARQUET, [f"source.urls={url}"]),
        (PARQUET, [f"source.urls=[1, '{url}']"]),
    ):
        with pytest.raises(RecipeError, match=r"source\.urls") as caught:
            parse_recipe(recipe, "rows.yaml", overrides)
        assert not any(part in str(caught.value) for part in ("AbC", "WxY"))
