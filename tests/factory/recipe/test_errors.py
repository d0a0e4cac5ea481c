"""The report on a wrong recipe: every mistake, its line, and what is allowed, word for word."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from actors.errors import RecipeError
from factory.recipe.recipe import load_recipe, parse_recipe

SMALL = """\
name: small
source: {kind: tinytown, size: 64}
regions: {kind: source}
"""


def refused(text: str, *overrides: str) -> list[str]:
    """The lines of the report on a wrong recipe."""
    with pytest.raises(RecipeError) as caught:
        parse_recipe(dedent(text), "mine.yaml", overrides)
    return str(caught.value).splitlines()


def test_every_mistake_is_listed_with_its_line_and_what_is_allowed() -> None:
    text = """\
        # a comment moves the lines
        name: mine
        sorce: {kind: tinytown, size: 64}
        regions:
          kind: segmenter
          smallest_area: '1e-3'
        corruption:
          dtype: fp16
          inference_steps: 50
          inversion_steps: 60
        verify:
          margin: 1.5
          steps: 3
        execution:
          load: {smallest: 3}
    """
    assert refused(text, "verify.least_inside=high", "seed=-1") == [
        "mine.yaml: 10 mistakes",
        "  line 3   sorce: unknown key; did you mean 'source'? allowed here: name, seed, source, selection, "
        "regions, corruption, verify, output, limits, execution",
        "  line 4   regions.checkpoint: not set; "
        "allowed: a folder or hub id, since regions.kind is segmenter",
        "  line 6   regions.smallest_area: found '1e-3' (text to YAML: write 0.001); "
        "allowed: a number from 0 to 1",
        "  line 8   corruption.dtype: found 'fp16'; allowed: one of float32, bfloat16, float16",
        "  line 10  corruption.inversion_steps: found 60; allowed: at most inference_steps (50)",
        "  line 12  verify.margin: found 1.5; allowed: a whole number from 0 to 64",
        "  line 13  verify.steps: unknown key; allowed here: changed_threshold, least_inside, most_outside, "
        "margin, baseline, attempts, on_failure, judge",
        "  line 15  execution.load.largest: not set, so 1; allowed: a whole number of at least smallest (3)",
        "  (--set)  seed: found -1; allowed: a whole number from 0 to 9223372036854775807",
        "  (--set)  verify.least_inside: found 'high'; allowed: a number from 0 to 1",
    ]


def test_checks_across_keys_and_sections_hide_nothing() -> None:
    text = """\
        name: mine
        source: {kind: images, urls: ['*.png'], size: 512}
        regions: {kind: source, smallest_area: 0.6}
        corruption: {prompt: caption, revision: main}
        verify: {attempts: 17}
    """
    assert refused(text) == [
        "mine.yaml: 3 mistakes",
        "  line 3  regions.largest_area: not set, so 0.5; "
        "allowed: a number above smallest_area (0.6), at most 1",
        "  line 4  corruption.revision: found 'main'; allowed: nothing, since corruption.model is tinytown",
        "  line 5  verify.attempts: found 17; allowed: a whole number from 1 to 16",
    ]
    mended = text.replace(", smallest_area: 0.6", "").replace(", revision: main", "")
    assert refused(mended) == [
        "mine.yaml: 3 mistakes",
        "  line 3  regions.kind: found 'source'; allowed: segmenter, unless source.fields.mask names a mask",
        "  line 4  corruption.prompt: found 'caption'; "
        "allowed: empty, unless source.fields.caption names a caption",
        "  line 5  verify.attempts: found 17; allowed: a whole number from 1 to 16",
    ]


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("name: a b", "name: found 'a b'; allowed: 1 to 80 letters, digits, '-', '_' or '.'"),
        ("name: 1.0", "name: found 1.0 (text needs quotes here); allowed: text"),
        ("seed: true", "seed: found true; allowed: a whole number from 0 to 9223372036854775807"),
        ("seed: 1.0", "seed: found 1.0; allowed: a whole number from 0 to 9223372036854775807"),
        (
            "seed: '7'",
            "seed: found '7' (text to YAML: write 7); allowed: a whole number from 0 to 9223372036854775807",
        ),
        ("verify: {least_inside: .nan}", "verify.least_inside: found nan; allowed: a number from 0 to 1"),
        (
            "verify: {changed_threshold: 1}",
            "verify.changed_threshold: found 1; allowed: a number above 0 and below 1",
        ),
        (
            "selection: {largest_aspect: .inf}",
            "selection.largest_aspect: found inf; allowed: a number of at least 1",
        ),
        (
            "output: {original: 'yes'}",
            "output.original: found 'yes' (text to YAML 1.2: write true); allowed: true or false",
        ),
        ("output: null", "output: found null; allowed: a section with the keys samples_per_shard, original"),
        ("limits: 3", "limits: found 3; allowed: a section with the keys rejects"),
        (
            "execution: {write: {memory: 0}}",
            "execution.write.memory: found 0; allowed: a whole number of at least 1, or null",
        ),
        ("corruption: {model: ''}", "corruption.model: found ''; allowed: tinytown, a folder or a hub id"),
        (
            "corruption: {method: melt}",
            "corruption.method: found 'melt'; allowed: one of noise, gaussian, blur, rotate, downscale, none",
        ),
        (
            "corruption: {target: sky}",
            "corruption.target: found 'sky'; allowed: one of intermediate, image",
        ),
        (
            "corruption: {iterations: 4}",
            "corruption.iterations: unknown key; allowed here: model, revision, method, target, inference_steps, "
            "inversion_steps, deeper, inversion, guidance_scale, prompt, dtype, channels_last, compiled, batch_size, "
            "vae_batch_size, threads",
        ),
        (
            "corruption: {deeper: 20}",
            "corruption.deeper: found 20; allowed: a list, each item a whole number",
        ),
        (
            "corruption: {deeper: [20, 15]}",
            "corruption.deeper: found [20, 15]; "
            "allowed: whole numbers that rise, above inversion_steps (10), at most inference_steps (50)",
        ),
        (
            "corruption: {deeper: [10]}",
            "corruption.deeper: found [10]; "
            "allowed: whole numbers that rise, above inversion_steps (10), at most inference_steps (50)",
        ),
        (
            "corruption: {inference_steps: 20, deeper: [21]}",
            "corruption.deeper: found [21]; "
            "allowed: whole numbers that rise, above inversion_steps (10), at most inference_steps (20)",
        ),
        (
            "corruption: {inversion: {mode: slow}}",
            "corruption.inversion.mode: found 'slow'; allowed: one of fast, renoise, published",
        ),
        (
            "corruption: {inversion: {iterations: 4}}",
            "corruption.inversion.iterations: found 4; allowed: nothing, since corruption.inversion.mode is fast",
        ),
        (
            "corruption: {inversion: {averaging: false}}",
            "corruption.inversion.averaging: found false; "
            "allowed: nothing, since corruption.inversion.mode is fast",
        ),
        (
            "corruption: {inversion: {mode: renoise, extra: 1}}",
            "corruption.inversion.extra: found 1; allowed: 0, unless corruption.inversion.mode is fast; there are "
            "iterations",
        ),
        (
            "corruption: {inversion: {mode: renoise, iterations: -1}}",
            "corruption.inversion.iterations: found -1; allowed: a whole number from 0 to 50, or null",
        ),
        (
            "corruption: {guidance_scale: 0.5, prompt: caption}",
            "corruption.guidance_scale: found 0.5; allowed: a number of at least 1",
        ),
        (
            "corruption: {guidance_scale: 2}",
            "corruption.prompt: not set, so 'empty'; "
            "allowed: caption, since guidance_scale leads away from the empty prompt",
        ),
        (
            "corruption: {guidance_scale: 2, prompt: caption, inversion: {mode: published}}",
            "corruption.guidance_scale: found 2; allowed: 1 with regularised inversion, since the published program "
            "mixes up the rows of the two and gives NaN; or set inversion.regularisation to false, or inversion.mode "
            "to fast",
        ),
        (
            "corruption: {target: image, deeper: [20]}",
            "corruption.deeper: found [20]; allowed: nothing but the default, since corruption.target is image",
        ),
        (
            "corruption: {target: image, inversion: {mode: renoise}}",
            "corruption.inversion: found a section; "
            "allowed: nothing but the default, since corruption.target is image",
        ),
        (
            "corruption: {target: image, prompt: caption}",
            "corruption.prompt: found 'caption'; "
            "allowed: nothing but the default, since corruption.target is image",
        ),
        ("corruption: {compiled: 1}", "corruption.compiled: found 1; allowed: true or false"),
        (
            "verify: {baseline: none}",
            "verify.baseline: found 'none'; allowed: one of passage, autoencoder, original",
        ),
        (
            "seed: 2024-13-45",
            "seed: found '2024-13-45'; allowed: a whole number from 0 to 9223372036854775807",
        ),
        (
            "output: !!python/object/apply:os.system [true]",
            "output: the tag tag:yaml.org,2002:python/object/apply:os.system has no meaning in a recipe",
        ),
        ("? [a]\n: 1", "a key must be text"),
    ],
)
def test_a_single_mistake(line: str, reported: str) -> None:
    text = "\n".join([*(row for row in SMALL.splitlines() if row.split(":")[0] != line.split(":")[0]), line])
    number = len(text.splitlines()) - line.count("\n")
    assert refused(text) == ["mine.yaml: 1 mistake", f"  line {number}  {reported}"]


@pytest.mark.parametrize(
    ("source", "reported"),
    [
        ("size: 65", "source.size: found 65; allowed: a multiple of 8 from 16 to 4096"),
        ("size: 64, urls: [a]", "source.urls: found ['a']; allowed: nothing, since source.kind is tinytown"),
        (
            "size: 64, parts: [face, foot]",
            "source.parts[1]: found 'foot'; allowed: one of face, hand, letter",
        ),
        (
            "size: 64, parts: [face, face]",
            "source.parts: found ['face', 'face']; allowed: a list of face, hand, letter, each at most once",
        ),
        (
            "size: 64, fields: {caption: txt}",
            "source.fields: found a section; "
            "allowed: nothing but the default, unless source.kind is images, webdataset or parquet",
        ),
        (
            "size: 64, filters: [{field: a, least: 1}]",
            "source.filters: found [{'field': 'a', 'least': 1}]; "
            "allowed: nothing but the default, unless source.kind is images, webdataset or parquet",
        ),
        ("size: 64, share: 0", "source.share: found 0; allowed: a number above 0 and of at most 1"),
        (
            "size: 64, fields: {image: png}",
            "source.fields.image: found 'png'; allowed: a list, each item text",
        ),
    ],
)
def test_a_wrong_source(source: str, reported: str) -> None:
    text = SMALL.replace("size: 64", source)
    assert refused(text) == ["mine.yaml: 1 mistake", f"  line 2  {reported}"]


EXTENSIONS = "each an extension without its leading dot, such as png or image.png"
VALUES = "a list of one or more numbers, texts, true or false, or null"


@pytest.mark.parametrize(
    ("kind", "setting", "reported"),
    [
        (
            "images",
            "fields: {image: [.png]}",
            "source.fields.image: found ['.png']; "
            "allowed: a list of one or more, "
            "each an extension without its leading dot, such as png or image.png",
        ),
        (
            "images",
            "fields: {mask: png}",
            "source.fields.mask: found 'png'; "
            "allowed: an extension that is not among those of fields.image, or null",
        ),
        (
            "images",
            "fields: {caption: 'txt:a'}",
            "source.fields.caption: found 'txt:a'; "
            "allowed: EXT such as txt, json:FIELD such as json:prompt, or null",
        ),
        (
            "parquet",
            "fields: {caption: text}",
            "source.fields.image: not set, so ['png', 'jpg', 'jpeg', 'webp']; "
            "allowed: a list of one or more columns, since source.kind is parquet",
        ),
        (
            "parquet",
            "fields: {image: []}",
            "source.fields.image: found []; "
            "allowed: a list of one or more columns, since source.kind is parquet",
        ),
        (
            "parquet",
            "fields: {image: [a], mask: ' '}",
            "source.fields.mask: found ' '; allowed: a column, or null",
        ),
        (
            "parquet",
            "fields: {image: [a], mask: a}",
            "source.fields.mask: found 'a'; "
            "allowed: a column that is not among those of fields.image, or null",
        ),
        (
            "images",
            "filters: [{field: ' ', least: 1}]",
            "source.filters[0].field: found ' '; allowed: the name of a column or a JSON field",
        ),
        (
            "images",
            "filters: [{field: a}]",
            "source.filters[0].none_of: not set; allowed: a list, unless there is least, most or any_of",
        ),
        (
            "images",
            "filters: [{field: a, least: true}]",
            "source.filters[0].least: found true; allowed: a number or text, or null",
        ),
        (
            "images",
            "filters: [{field: a, most: .inf}]",
            "source.filters[0].most: found inf; allowed: a number or text, or null",
        ),
        (
            "images",
            "filters: [{field: a, least: 3, most: 2}]",
            "source.filters[0].most: found 2; allowed: at least least (3), or null",
        ),
        (
            "images",
            "filters: [{field: a, least: 3, most: x}]",
            "source.filters[0].most: found 'x'; "
            "allowed: a number where least is a number, and text where it is text",
        ),
        (
            "images",
            "filters: [{field: a, any_of: []}]",
            f"source.filters[0].any_of: found []; allowed: {VALUES}",
        ),
        (
            "images",
            "filters: [{field: a, none_of: [[1]]}]",
            f"source.filters[0].none_of: found [[1]]; allowed: {VALUES}",
        ),
        (
            "images",
            "filters: [{field: a, exactly: 1, least: 2}]",
            "source.filters[0].exactly: unknown key; allowed here: field, least, most, any_of, none_of",
        ),
        (
            "images",
            "filters: [{least: 2}]",
            "source.filters[0].field: missing (a column, or a field of the item's JSON file); allowed: text",
        ),
    ],
)
def test_a_wrong_source_of_files(kind: str, setting: str, reported: str) -> None:
    text = SMALL.replace("tinytown, size: 64", f"{kind}, urls: [a], size: 64, {setting}")
    text = text.replace("kind: source", "kind: segmenter, checkpoint: c")
    assert refused(text) == ["mine.yaml: 1 mistake", f"  line 2  {reported}"]


@pytest.mark.parametrize(
    ("setting", "reported"),
    [
        (
            "largest_artifact_area: 0.01",
            "selection.detector: not set; "
            "allowed: a folder or hub id, since selection.largest_artifact_area is set",
        ),
        (
            "detector: d",
            "selection.detector: found 'd'; "
            "allowed: nothing but the default, unless selection.largest_artifact_area is set",
        ),
        (
            "detector_revision: main",
            "selection.detector_revision: found 'main'; "
            "allowed: nothing but the default, unless selection.largest_artifact_area is set",
        ),
        (
            "detector_threshold: 0.4",
            "selection.detector_threshold: found 0.4; "
            "allowed: nothing but the default, unless selection.largest_artifact_area is set",
        ),
        (
            "largest_artifact_area: 2",
            "selection.largest_artifact_area: found 2; allowed: a number from 0 to 1, or null",
        ),
    ],
)
def test_a_detector_and_its_area_come_together(setting: str, reported: str) -> None:
    lines = refused(f"{SMALL}selection: {{{setting}}}\n")
    assert lines == ["mine.yaml: 1 mistake", f"  line 4  {reported}"]


def test_files_need_urls_and_have_no_use_for_the_settings_of_tinytown() -> None:
    reported = refused(SMALL.replace("tinytown", "images, first_seed: 4, parts: [hand]"))
    assert reported == [
        "mine.yaml: 3 mistakes",
        "  line 2  source.urls: not set, so []; "
        "allowed: a list of one or more URLs or paths, since source.kind is images",
        "  line 2  source.first_seed: found 4; "
        "allowed: nothing but the default, unless source.kind is tinytown",
        "  line 2  source.parts: found ['hand']; "
        "allowed: nothing but the default, unless source.kind is tinytown",
    ]


def test_a_webdataset_brings_masks_and_captions_only_where_its_fields_say_so() -> None:
    text = """\
        name: mine
        source: {kind: webdataset, urls: ['{000..003}.tar'], size: 64, fields: {}}
        regions: {kind: source}
        corruption: {prompt: caption}
    """
    assert refused(text) == [
        "mine.yaml: 2 mistakes",
        "  line 3  regions.kind: found 'source'; allowed: segmenter, unless source.fields.mask names a mask",
        "  line 4  corruption.prompt: found 'caption'; "
        "allowed: empty, unless source.fields.caption names a caption",
    ]
    fields = "fields: {image: [image.png], mask: mask.png, caption: 'json:prompt'}"
    assert parse_recipe(dedent(text).replace("fields: {}", fields), "x").source.fields.mask == "mask.png"


def test_missing_keys_stand_at_the_line_of_the_section_that_lacks_them() -> None:
    assert refused("name: mine\nregions:\n  threshold: 0.5\n") == [
        "mine.yaml: 2 mistakes",
        "  line 1  source: missing (clean images); "
        "allowed: a section with the keys kind, urls, fields, masks, cells, filters, share, limit, first_seed, "
        "parts, size",
        "  line 2  regions.kind: missing (masks of the source, predicted ones, or empty ones: clean negatives); "
        "allowed: one of source, segmenter, none",
    ]


def test_a_repeated_key_is_a_mistake_also_deep_inside_and_on_one_line() -> None:
    assert refused(SMALL + "seed: 1\nverify:\n  attempts: 2\n  margin: 1\n  attempts: 3\nseed: 1\n") == [
        "mine.yaml: 2 mistakes",
        "  line 8  verify.attempts: written twice; first on line 6",
        "  line 9  seed: written twice; first on line 4",
    ]
    assert refused(SMALL + "limits: {rejects: 0, rejects: 0}") == [
        "mine.yaml: 1 mistake",
        "  line 4  limits.rejects: written twice; first on line 4",
    ]


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("a: b: c\n", "line 1, column 5  not YAML: mapping values are not allowed here"),
        ("a: 1\nb: 'x\n", "line 3, column 1  not YAML: while scanning a quoted scalar, found unexpected end"),
        (
            "a: 1\n\tb: 2\n",
            "line 2, column 1  not YAML: while scanning for the next token, found character '\\t'",
        ),
        ("a: 1\nb: \x00\n", "line 2, column 4  not YAML: the character '\\x00' is not allowed"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1  not YAML: expected a single document in the stream"),
        ("[" * 3_000, "line 1, column 33  not a recipe: nested more than 32 levels deep"),
        ("# nothing\n", "line 1  empty; allowed: KEY: VALUE lines with the keys name, seed, source"),
        ("- a\n", "line 1  not a section; allowed: KEY: VALUE lines with the keys name, seed, source"),
    ],
)
def test_what_is_no_recipe_at_all(text: str, reported: str) -> None:
    first, only = refused(text)
    assert first == "mine.yaml: 1 mistake"
    assert only.startswith(f"  {reported}")


def test_malformed_overrides_are_listed_with_the_other_mistakes() -> None:
    reported = refused(
        SMALL + "seed: -1\n",
        "nonsense",
        "source.kind.x=1",
        "verify.attempts=[",
        "output={original: 1, original: 2}",
    )
    assert reported[:4] == [
        "mine.yaml: 5 mistakes",
        "  line 4   seed: found -1; allowed: a whole number from 0 to 9223372036854775807",
        "  (--set)  found 'nonsense'; allowed: KEY=VALUE, such as source.share=1.0",
        "  (--set)  source.kind.x: leads through something that is not a section; allowed: SECTION.KEY=VALUE",
    ]
    assert reported[4].startswith("  (--set)  verify.attempts: not YAML: while parsing a flow node")
    assert reported[5] == "  (--set)  output.original: written twice; first on line 1"
    assert refused(SMALL, "source.urls.0=x")[1] == (
        "  (--set)  source.urls: found a section; allowed: a list, each item text"
    )


def test_a_recipe_of_another_command():
    with pytest.raises(RecipeError, match=r"^train-detector: a recipe of another command; .*quickstart, "):
        load_recipe("train-detector")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^quickstrat: no such file; did you mean 'quickstart'\?"):
        load_recipe("quickstrat")
    with pytest.raises(
        RecipeError,
        match="a folder; allowed: a YAML file, or one of quickstart, quickstart-judged, images, sd15, tinytown-",
    ):
        load_recipe(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: a\n# caf\xe9\n".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.yaml: line 2: not UTF-8"):
        load_recipe(latin)
    marked = tmp_path / "marked.yaml"
    marked.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load_recipe(marked) == parse_recipe(SMALL, "mine.yaml")


def test_tinytown_without_parts_brings_no_masks() -> None:
    assert refused(SMALL.replace("size: 64", "size: 64, parts: []")) == [
        "mine.yaml: 1 mistake",
        "  line 3  regions.kind: found 'source'; allowed: segmenter, unless source.parts names parts",
    ]


CLEAN = """\
name: clean
source: {kind: tinytown, size: 64, parts: []}
regions: {kind: none}
corruption: {method: none}
verify: {baseline: original, least_inside: 0}
"""


def test_without_regions_nothing_is_corrupted_and_nothing_need_change() -> None:
    assert parse_recipe(CLEAN, "mine.yaml").regions.kind == "none"
    assert parse_recipe(CLEAN, "mine.yaml", ["verify.baseline=autoencoder"]).verify.baseline == "autoencoder"
    without = "\n".join(CLEAN.splitlines()[:3])
    assert refused(without) == [
        "mine.yaml: 2 mistakes",
        "  line 1  corruption.method: not set, so 'noise'; allowed: none, since regions.kind is none",
        "  line 1  verify.baseline: not set, so 'passage'; "
        "allowed: original or autoencoder, with least_inside 0, since regions.kind is none",
    ]


@pytest.mark.parametrize(
    ("override", "reported"),
    [
        (
            "regions={kind: none, checkpoint: a/b, threshold: 0.4, smallest_area: 0.01, largest_area: 0.6}",
            [
                "regions.checkpoint: found 'a/b'; allowed: nothing, since regions.kind is none",
                *(
                    f"regions.{key}: found {value}; allowed: nothing but the default, since regions.kind is none"
                    for key, value in (("threshold", 0.4), ("smallest_area", 0.01), ("largest_area", 0.6))
                ),
            ],
        ),
        (
            "corruption.method=blur",
            ["corruption.method: found 'blur'; allowed: none, since regions.kind is none"],
        ),
        (
            "corruption.deeper=[12]",
            ["corruption.deeper: found [12]; allowed: nothing, since regions.kind is none"],
        ),
        (
            "verify.least_inside=0.1",
            ["verify.least_inside: found 0.1; allowed: 0, since regions.kind is none"],
        ),
        (
            "verify.baseline=passage",
            [
                "verify.baseline: found 'passage'; "
                "allowed: original or autoencoder, with least_inside 0, since regions.kind is none"
            ],
        ),
    ],
)
def test_settings_of_regions_mean_nothing_without_regions(override: str, reported: list[str]) -> None:
    assert refused(CLEAN, override)[1:] == [f"  (--set)  {line}" for line in reported]


def test_the_autoencoder_alone_is_not_compared_with_itself() -> None:
    image = ("corruption.target=image", "verify.baseline=autoencoder")
    assert refused(CLEAN, *image)[1:] == [
        "  (--set)  verify.baseline: found 'autoencoder'; "
        "allowed: original, with least_inside 0, since regions.kind is none"
    ]
    assert parse_recipe(CLEAN, "mine.yaml", image[:1]).corruption.steps == (0,)


def test_none_with_regions_is_the_control() -> None:
    text = "corruption: {method: none}\nverify: {least_inside: 0}\n"
    assert parse_recipe(SMALL + text, "mine.yaml").verify.baseline == "passage"


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("{}", "verify.judge.kind: missing (what it is: a segmenter of the classes clean and artifact); "),
        ("{kind: detector}", "verify.judge.folder: missing (of its weights, as flawforge train writes it, "),
        ("{kind: classifier, folder: x}", "verify.judge.kind: found 'classifier'; allowed: one of detector"),
        (
            "{kind: detector, folder: ' '}",
            "verify.judge.folder: found ' '; allowed: a folder, shipped name or ",
        ),
        (
            "{kind: detector, folder: x, threshold: 1}",
            "verify.judge.threshold: found 1; allowed: a number above 0 and below 1, or null",
        ),
        (
            "{kind: detector, folder: x, least_area: 0}",
            "verify.judge.least_area: found 0; allowed: a number above 0 and of at most 1",
        ),
        (
            "{kind: detector, folder: x, least_area: 0.1, least_pixels: 3}",
            "verify.judge.least_pixels: found 3; allowed: nothing, since verify.judge.least_area is set",
        ),
    ],
)
def test_a_wrong_judge(line: str, reported: str) -> None:
    (mistake,) = [one for one in refused(SMALL + f"verify: {{judge: {line}}}\n")[1:] if reported in one]
    assert mistake.startswith("  line 4  ")


def test_nothing_is_judged_where_nothing_is_corrupted() -> None:
    judge = "verify: {judge: {kind: detector, folder: x}, least_inside: 0}\n"
    assert refused(SMALL + "corruption: {method: none}\n" + judge) == [
        "mine.yaml: 1 mistake",
        "  line 5  verify.judge: found a section; allowed: nothing, since corruption.method is none",
    ]


@pytest.mark.parametrize("share", ["0", "1.5", "-0.1"])
def test_a_wrong_share_of_the_regions(share: str) -> None:
    assert refused(SMALL.replace("kind: source", f"kind: source, share: {share}"))[1:] == [
        f"  line 3  regions.share: found {share}; allowed: a number above 0 and of at most 1"
    ]
