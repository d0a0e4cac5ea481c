"""The gallery page: what it says, what it refuses to load, and how it behaves in a real browser."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from actors.images import encode_image, encode_mask
from eval.gallery_page import Figure, Tile, gallery_page
from tests.browser import chromium, visit
from tinytown.render import render
from tinytown.scene import caption, sample_scene

HOSTILE = (
    "\"'></title></style></script><script>window.hacked=1</script>"
    "<img src=x onerror=window.hacked=2>{{ 7*7 }}"
)


def a_tile(seed: int, reason: str = "", *, side: int = 64) -> Tile:
    """A tinytown image with noise in a disc; with a reason, one rejected by the verifier."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(seed)
    before = np.asarray(Image.fromarray(render(scene).image).resize((side, side)))
    down, right = np.mgrid[:side, :side] - rng.uniform(0.2, 0.8, (2, 1, 1)) * side
    mask = down**2 + right**2 < (side / 5) ** 2
    noise = rng.integers(0, 256, before.shape, dtype=np.uint8)
    return Tile(
        key=f"{seed:06d}-{rng.integers(1 << 32):08x}",
        status="rejected" if reason else "accepted",
        stage="verify" if reason else "",
        reason=reason,
        detail=f"rejected because of {reason}" if reason else "",
        caption=caption(scene),
        source=f"tinytown:{seed}",
        metrics={"mask_area": float(mask.mean()), "change_inside": 0.5, "change_outside": float("nan")},
        before=encode_image(before),
        after=encode_image(np.where(mask[..., None], noise, before)),
        mask=encode_mask(mask),
        changed=encode_mask(mask & (noise[..., 0] > 40)),
    )


def a_lost_tile(seed: int) -> Tile:
    return replace(
        a_tile(seed, "not_an_image"),
        stage="load",
        before=None,
        after=None,
        mask=None,
        changed=None,
        metrics={},
    )


def a_run() -> list[Tile]:
    """12 accepted, 3 without change, 2 leaked, 1 that was not an image, in mixed order."""
    reasons = {2: "no_change", 5: "leaked", 9: "no_change", 10: "leaked", 16: "no_change"}
    tiles = [a_tile(seed, reasons.get(seed, "")) for seed in range(18)]
    tiles[13] = a_lost_tile(13)
    return tiles


def a_page(tiles: list[Tile], **given: int) -> str:
    figures = [Figure("accepted", "912", "of 1,000 planned"), Figure("accept rate", "91.2 %")]
    return gallery_page(title="a run", figures=figures, tiles=tiles, notes=["a fair sample"], **given)


class Reader(HTMLParser):
    """Collects the elements of a document, and the text that a person would read."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.spoken: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.spoken.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.spoken).split())

    def groups(self) -> Counter[str | None]:
        return Counter(
            attrs.get("data-group") for tag, attrs in self.elements if tag == "li" and "data-group" in attrs
        )


def test_the_page_refers_to_nothing_outside() -> None:
    page = a_page(a_run())
    addresses = [
        value
        for _, attrs in Reader(page).elements
        for name, value in attrs.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert len(addresses) > 50
    assert [value for value in addresses if not (value or "").startswith(("data:", "#"))] == []
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_the_policy_admits_only_this_style_and_this_script() -> None:
    page = a_page(a_run())
    policy = next(
        attrs["content"] for tag, attrs in Reader(page).elements if tag == "meta" and "http-equiv" in attrs
    )
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_what_is_given_is_text_and_never_markup() -> None:
    tile = replace(
        a_tile(1, HOSTILE),
        key=HOSTILE,
        caption=HOSTILE,
        source=HOSTILE,
        stage=HOSTILE,
        metrics={HOSTILE: 1.0},
    )
    page = gallery_page(
        title=HOSTILE, figures=[Figure(HOSTILE, HOSTILE, HOSTILE)], tiles=[tile], notes=[HOSTILE]
    )
    reader = Reader(page)
    tags = Counter(tag for tag, _ in reader.elements)
    assert (tags["script"], tags["style"], tags["title"], tags["img"]) == (1, 1, 1, 3)
    assert [name for _, attrs in reader.elements for name in attrs if name.startswith("on")] == []
    assert reader.text.count(HOSTILE.replace("_", " ")) >= 10
    assert "49" not in re.sub(
        r"base64,\S+|<style>.*?</style>|<script>.*?</script>", "", page, flags=re.DOTALL
    )


def test_tiles_are_left_out_fairly_and_the_page_says_so() -> None:
    one = a_tile(3)
    tiles = [replace(one, key=f"a{place:02d}") for place in range(60)]
    tiles += [replace(one, key=f"b{place:02d}", status="rejected", reason="leaked") for place in range(30)]
    tiles += [replace(one, key="c00", status="rejected", reason="no_change")]
    whole = a_page(tiles)
    limit = len(whole.encode()) // 3

    page = a_page(tiles, largest_bytes=limit)

    assert 0.9 * limit < len(page.encode()) <= limit
    groups = Reader(page).groups()
    shown = groups.total()
    assert groups["rejected:no_change"] == 1
    assert abs(groups["accepted"] - 2 * groups["rejected:leaked"]) <= 2
    assert f"{shown} of 91 tiles are in this page" in Reader(page).text
    kept = [int(key) for key in re.findall(r'data-key="a(\d+)"', page)]
    assert kept == sorted(kept)
    assert max(np.diff([-1, *kept, 60])) <= 5
    assert "tiles are in this page" not in whole


def test_a_limit_that_no_tile_fits_gives_a_page_that_says_so() -> None:
    text = Reader(a_page(a_run(), largest_bytes=1000)).text
    assert "0 of 18 tiles are in this page" in text


def test_an_empty_run_gives_a_sentence() -> None:
    reader = Reader(a_page([]))
    assert "There are no samples to show." in reader.text
    assert "912" in reader.text
    assert [tag for tag, _ in reader.elements if tag in ("img", "li")] == []


def test_a_tile_without_images_shows_its_reason_in_their_place() -> None:
    reader = Reader(a_page([a_lost_tile(4)]))
    assert "No picture: not an image" in reader.text
    assert "rejected because of not_an_image" in reader.text
    assert "img" not in [tag for tag, _ in reader.elements]


def test_metrics_are_readable_and_nan_is_not_measured() -> None:
    text = Reader(a_page([a_tile(4)])).text
    assert "change inside 0.5" in text
    assert "change outside not measured" in text


def test_a_jpeg_keeps_its_kind() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    assert "data:image/jpeg;base64," in a_page([replace(a_tile(1), before=buffer.getvalue())])


@pytest.mark.parametrize("name", ["before", "after", "mask", "changed"])
@pytest.mark.parametrize("data", [b"", b"<html>"])
def test_bytes_that_are_not_an_image_are_refused_with_the_key(name: str, data: bytes) -> None:
    fields: dict[str, bytes] = {name: data}
    tile = replace(a_tile(1), **fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{tile.key}.*{name}"):
        a_page([tile])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gallery") / "gallery.html"
    file.write_text(a_page(a_run()), encoding="utf-8")
    return file


@pytest.fixture
def page(browser: Browser, run_file: Path) -> Iterator[Page]:
    """The run in a desktop window; the test fails if the browser complained."""
    with visit(browser, run_file, width=1280, height=800) as seen:
        yield seen.page
        assert seen.complaints == []


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
IMAGES = "[...document.images].map(image => [image.complete, image.naturalWidth])"


def keys_shown(page: Page) -> list[str]:
    return page.eval_on_selector_all(".tile:not([hidden])", "tiles => tiles.map(tile => tile.dataset.key)")  # type: ignore[no-any-return]


def focused_key(page: Page) -> str | None:
    return page.evaluate("document.activeElement.closest('.tile')?.dataset.key ?? null")  # type: ignore[no-any-return]


def seen_in_view(page: Page) -> str:
    page.wait_for_selector(".stage .seen")
    name = page.inner_text(".seeing strong")
    assert page.locator(f".stage .panel.{name.lower()}.seen").count() == 1
    assert page.locator(".stage .seen").count() == 1
    return name.lower()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "scale"), [(1280, 1), (360, 2), (320, 3)])
def test_it_loads_whole_and_fits_the_window(
    browser: Browser, run_file: Path, width: int, scale: int, dark: bool
) -> None:
    with visit(browser, run_file, width=width, height=780, dark=dark, scale=scale) as seen:
        page = seen.page
        images = page.evaluate(IMAGES)
        assert len(images) == 17 * 4  # before, after, changed, and the pale copy under the map
        assert all(complete and natural == 64 for complete, natural in images)
        assert page.evaluate(OVERFLOW) == 0
        widths = page.eval_on_selector_all(
            ".tile .pixelated", "found => found.map(one => one.getBoundingClientRect().width)"
        )
        times = {round(shown * scale / 64, 3) for shown in widths}
        assert all(time == int(time) >= 1 for time in times), f"not whole multiples: {times}"

        lefts = set(page.eval_on_selector_all(".tile", "found => found.map(one => one.offsetLeft)"))
        assert len(lefts) == (1 if width < 700 else 2)

        page.locator(".open").first.click()
        assert page.evaluate(OVERFLOW) == 0
        assert (
            page.evaluate("(view => view.scrollWidth - view.clientWidth)(document.querySelector('.view'))")
            == 0
        )
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == dark
        assert seen.complaints == []
        assert seen.requests == [run_file.as_uri()]


def test_every_filter_shows_as_many_as_it_says(page: Page) -> None:
    chips = page.locator(".chips button")
    spoken = [text.split() for text in chips.all_text_contents()]
    assert [(" ".join(words), int(count)) for *words, count in spoken] == [
        ("all", 18),
        ("accepted", 12),
        ("no change", 3),
        ("leaked", 2),
        ("not an image", 1),
    ]
    for place, (*words, count) in enumerate(spoken):
        chips.nth(place).click()
        shown = page.locator(".tile:visible")
        assert shown.count() == int(count)
        assert chips.nth(place).get_attribute("aria-pressed") == "true"
        assert page.locator(".chips [aria-pressed=true]").count() == 1
        if words != ["all"]:
            assert set(page.locator(".tile:visible .badge").all_text_contents()) == {" ".join(words)}
            assert f"Showing {count} of 18" in page.inner_text(".count")


def test_the_text_filter_looks_at_key_and_caption(page: Page) -> None:
    tiles = a_run()
    word = tiles[0].caption.split()[1]
    page.fill("[type=search]", word.upper())
    assert keys_shown(page) == [tile.key for tile in tiles if word in tile.caption]
    page.fill("[type=search]", tiles[7].key)
    assert keys_shown(page) == [tiles[7].key]
    page.fill("[type=search]", "no such thing")
    assert keys_shown(page) == []
    assert page.is_visible("text=No tile matches this filter.")


def test_a_keyboard_is_enough(page: Page) -> None:
    tiles = a_run()
    page.keyboard.press("ArrowRight")
    assert focused_key(page) == tiles[0].key
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert focused_key(page) == tiles[3].key
    page.keyboard.press("ArrowLeft")
    assert focused_key(page) == tiles[2].key
    page.keyboard.press("ArrowUp")
    assert focused_key(page) == tiles[0].key
    page.keyboard.press("End")
    assert focused_key(page) == tiles[-1].key
    page.keyboard.press("Home")
    assert focused_key(page) == tiles[0].key
    assert page.locator(".open[tabindex='0']").count() == 1

    page.keyboard.press("Enter")
    assert page.is_visible("dialog.view")
    assert page.inner_text("#view-title") == tiles[0].key
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#view-title") == tiles[1].key
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog.view")
    page.wait_for_function(
        "key => document.activeElement.closest('.tile')?.dataset.key === key", arg=tiles[1].key
    )

    page.keyboard.press("a")
    assert keys_shown(page) == [tile.key for tile in tiles if tile.status == "accepted"]
    page.keyboard.press("a")
    assert len(keys_shown(page)) == 18

    page.keyboard.press("?")
    assert page.is_visible("dialog.help")
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog.help")

    page.keyboard.press("/")
    page.keyboard.type(tiles[4].key)
    assert keys_shown(page) == [tiles[4].key], "letters typed into the filter are not taken for commands"
    page.keyboard.press("Enter")
    assert focused_key(page) == tiles[4].key
    assert not page.is_visible("dialog.view")


def test_space_held_and_f_flip_between_before_and_after(page: Page) -> None:
    page.locator(".open").first.click()
    assert seen_in_view(page) == "after"
    page.keyboard.down(" ")
    assert seen_in_view(page) == "before"
    page.keyboard.up(" ")
    assert seen_in_view(page) == "after"
    page.keyboard.press("f")
    assert seen_in_view(page) == "before"
    page.locator(".thumbs button.changed").click()
    assert seen_in_view(page) == "changed"
    page.keyboard.down(" ")
    assert seen_in_view(page) == "before", "Space still flips after a button was clicked"
    page.keyboard.up(" ")
    assert seen_in_view(page) == "changed"
    page.locator(".stage .seen").hover()
    page.mouse.down()
    assert seen_in_view(page) == "before"
    page.mouse.up()
    assert seen_in_view(page) == "changed"


def test_the_view_tells_all_of_a_rejected_sample(page: Page) -> None:
    tile = a_run()[2]
    page.locator(".open").nth(2).click()
    assert page.locator("dialog.view .badge").text_content() == "no change"
    assert page.locator(".right .detail").text_content() == tile.detail
    assert page.locator(".right .caption").text_content() == tile.caption
    terms = page.locator(".right dt").all_text_contents()
    values = page.locator(".right dd").all_text_contents()
    assert dict(zip(terms, values, strict=True)) == {
        "rejected by": "verify",
        "source": "tinytown:2",
        "mask area": f"{tile.metrics['mask_area']:.4g}",
        "change inside": "0.5",
        "change outside": "not measured",
    }
    page.click("dialog.view .copy")
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == tile.key


def test_a_sample_without_images_opens_too(page: Page) -> None:
    page.locator(".open").nth(13).click()
    assert page.inner_text("dialog.view .stage") == "No picture: not an image"
    assert page.locator(".thumbs button").count() == 0
    page.keyboard.press("ArrowRight")
    assert seen_in_view(page) == "after"


def test_the_outline_can_be_switched_off(page: Page) -> None:
    outline = page.locator(".tile .after .outline").first
    box, image = outline.bounding_box(), page.locator(".tile .after img").first.bounding_box()
    assert box == image
    assert page.locator("[id=mask-0]").get_attribute("d")
    page.keyboard.press("m")
    assert not outline.is_visible()
    assert not page.is_checked(".outline-switch")
    page.check(".outline-switch")
    assert outline.is_visible()


def test_the_outline_is_drawn_where_the_mask_is(browser: Browser, tmp_path: Path) -> None:
    """Two screen pixels of line on either side of the edge of a 32 x 32 square, at any scale."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:48, 16:48] = True
    grey = encode_image(np.full((64, 64, 3), 128, dtype=np.uint8))
    file = tmp_path / "gallery.html"
    file.write_text(a_page([replace(a_tile(1), before=grey, after=grey, mask=encode_mask(mask))]))
    with visit(browser, file, width=1280, height=800) as seen:
        box = seen.page.locator(".tile .after .picture").bounding_box()
        shot = seen.page.screenshot()
    assert box is not None
    left, top, side = round(box["x"]), round(box["y"]), round(box["width"])
    window = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    pixels, times = window[top : top + side, left : left + side], side // 64
    touched = np.abs(pixels - 128).max(axis=2) > 8
    down, right = np.mgrid[: 64 * times, : 64 * times] + 0.5
    nearest = np.maximum(np.abs(down - 32 * times), np.abs(right - 32 * times)) - 16 * times
    assert np.array_equal(touched[np.abs(nearest) < 1.9], np.ones((np.abs(nearest) < 1.9).sum(), dtype=bool))
    assert not touched[np.abs(nearest) > 3].any()


def test_a_hostile_run_stays_text(browser: Browser, tmp_path: Path) -> None:
    long = "x" * 300
    tiles = [
        replace(a_tile(1, HOSTILE), key=HOSTILE, caption=HOSTILE, source=HOSTILE, metrics={HOSTILE: 1.0}),
        replace(a_tile(2, long), key=long, caption=long, source=long, detail=long, metrics={long: 1e300}),
    ]
    file = tmp_path / "gallery.html"
    file.write_text(
        gallery_page(title=long, figures=[Figure(long, long, long)], tiles=tiles, notes=[long, HOSTILE])
    )
    with visit(browser, file, width=360, height=780, scale=2) as seen:
        page = seen.page
        for place, key in enumerate((HOSTILE, long)):
            page.locator(".open").nth(place).click()
            assert page.locator("#view-title").text_content() == key
            assert (
                page.evaluate(
                    "(view => view.scrollWidth - view.clientWidth)(document.querySelector('.view'))"
                )
                == 0
            )
            page.keyboard.press("Escape")
        assert page.evaluate("window.hacked ?? null") is None
        assert page.evaluate(OVERFLOW) == 0
        assert seen.complaints == []
        assert seen.requests == [file.as_uri()]


def test_the_policy_stops_what_slips_in(browser: Browser, run_file: Path) -> None:
    """Even markup that some fault let into the page could neither run nor fetch."""
    slipped = "<img src=x onerror='window.hacked=1'><b style='position:fixed' onclick='window.hacked=2'>b</b>"
    with visit(browser, run_file, width=1280, height=800) as seen:
        seen.page.evaluate("markup => document.body.insertAdjacentHTML('afterbegin', markup)", slipped)
        seen.page.locator("b").first.click()
        assert seen.page.evaluate("window.hacked ?? null") is None
        assert seen.page.evaluate("getComputedStyle(document.querySelector('b')).position") == "static"
        assert len(seen.complaints) >= 3
        assert all("Content Security Policy" in complaint for complaint in seen.complaints)
