"""What a recipe states of image files and masks: extensions that can be decoded, and how masks are meant."""

from __future__ import annotations

import pytest
from PIL import Image

from actors.errors import RecipeError
from actors.image_file import FORMATS, JPEG
from actors.masks import MaskReading
from factory.pipeline.stages import image_selector
from factory.recipe.recipe import content, digest, dump, parse_recipe
from factory.recipe.source import IMAGE_EXTENSIONS

TEXT = """\
name: mine
source:
  kind: {kind}
  urls: [/data]
  size: 64
{more}
regions: {{kind: segmenter, checkpoint: net}}
"""
SUPPORTED = "png, jpg, jpeg, webp, jpe, jfif, apng, mpo"


def recipe_text(*more: str, kind: str = "images") -> str:
    return TEXT.format(kind=kind, more="\n".join(f"  {line}" for line in more))


def refused(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "mine.yaml", ())
    return str(caught.value).splitlines()


@pytest.mark.parametrize("kind", ["images", "webdataset"])
@pytest.mark.parametrize(
    "extensions", ["[txt]", "[psd]", "[png, tif]", "[GIF]", "[image.heic]", "[png.txt]", "[json]"]
)
def test_extensions_that_nothing_can_decode(kind: str, extensions: str):
    reported = refused(recipe_text(f"fields: {{image: {extensions}}}", kind=kind))
    assert len(reported) == 2 and "line 6  source.fields.image: found [" in reported[1]
    assert reported[1].endswith(
        f"allowed: a list of extensions, each of which ends in one of {SUPPORTED}, "
        "which are the formats that can be decoded"
    )


@pytest.mark.parametrize("mask", ["npy", "mask.tif", "mask.svg", "json"])
def test_extensions_of_masks_that_nothing_can_decode(mask: str):
    reported = refused(recipe_text(f"fields: {{mask: {mask}}}"))
    assert reported[1] == (
        f"  line 6  source.fields.mask: found '{mask}'; allowed: an extension that ends in one of {SUPPORTED}, "
        "which are the formats that can be decoded, or null"
    )


def test_extensions_that_can_be_decoded_and_columns_of_any_name():
    fields = parse_recipe(
        recipe_text("fields: {image: [JPG, image.PNG, webp], mask: Mask.jpe}"), "x"
    ).source.fields
    assert (fields.image, fields.mask) == (["JPG", "image.PNG", "webp"], "Mask.jpe")
    fields = parse_recipe(recipe_text("fields: {image: [txt], mask: psd}", kind="parquet"), "x").source.fields
    assert (fields.image, fields.mask) == (["txt"], "psd")


def test_the_list_is_that_of_the_decoder():
    """Pillow names the format of each; `mpo` and `apng` are kinds of JPEG and PNG."""
    known = Image.registered_extensions()
    decoded = {name[1:] for name, form in known.items() if form in (*FORMATS, *JPEG)}
    assert set(IMAGE_EXTENSIONS) == decoded


def test_settings_of_masks_reach_the_reader_and_the_digest():
    lines = ["fields: {mask: mask.png}", "masks: {ignore_index: 255, alpha: ignore, orientation: stored}"]
    recipe, plain = parse_recipe(recipe_text(*lines), "x"), parse_recipe(recipe_text(lines[0]), "x")
    assert image_selector(recipe).masks == MaskReading(255, "ignore", "stored")
    assert image_selector(plain).masks == MaskReading(None, "refuse", None)
    assert digest(content(recipe)) != digest(content(plain))
    assert parse_recipe(dump(recipe), "dump") == recipe


@pytest.mark.parametrize(
    ("masks", "reported"),
    [
        ("{ignore_index: -1}", "source.masks.ignore_index: found -1; allowed: a whole number from 0 to 65535, or null"),
        ("{ignore_index: '255'}", "source.masks.ignore_index: found '255'"),
        ("{alpha: white}", "source.masks.alpha: found 'white'; allowed: one of refuse, opaque, transparent, ignore"),
        ("{orientation: 6}", "source.masks.orientation: found 6; allowed: one of stored, displayed, or null"),
        ("{ignore: 255}", "source.masks.ignore: unknown key; "),
        ("{ignore_index: 255, alpha: opaque}", "source.masks.alpha: found 'opaque'; allowed: refuse or ignore, since"),
    ],
)  # fmt: skip
def test_wrong_settings_of_masks(masks: str, reported: str):
    found = refused(recipe_text("fields: {mask: mask.png}", f"masks: {masks}"))
    assert len(found) == 2 and reported in found[1], found


def test_settings_of_masks_where_there_are_none():
    found = refused(recipe_text("masks: {ignore_index: 255}"))
    assert (
        "source.masks: found a section; allowed: nothing but the default, unless source.fields.mask"
        in found[1]
    )
    tinytown = (
        "name: a\nsource: {kind: tinytown, size: 64, masks: {alpha: ignore}}\nregions: {kind: source}\n"
    )
    assert (
        "source.masks: found a section; allowed: nothing but the default, unless source.kind"
        in refused(tinytown)[1]
    )
