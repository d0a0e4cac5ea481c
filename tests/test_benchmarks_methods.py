"""The table and the images of all corruptions: draws as the corruptor makes them, sums by hand, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.batch import Sample
from actors.corruption.config import CorruptionConfig
from actors.corruption.corruptor import Corruptor
from actors.corruption.methods import METHODS
from actors.corruption.round_trip import RoundTrip
from actors.corruption.verifier import Verifier
from actors.corruption.verifier_config import VerifierConfig
from actors.diffusion.model import DiffusionModel
from actors.images import encode_image, encode_mask, read_image
from benchmarks.methods.__main__ import BEGIN, END, between, main
from benchmarks.methods.draws import (
    Case,
    Outcome,
    Setting,
    cases,
    measure,
    read_cases,
    read_outcomes,
    save_cases,
    save_outcomes,
    settings,
)
from benchmarks.methods.grid import ACCEPTED, BAR, GAP, HEAD, REFUSED, SCALE, grid, varied
from benchmarks.methods.marks import Marks, chosen, mark_all, marks_of
from benchmarks.methods.results import Bill, Results, at
from benchmarks.methods.tables import Broken, by_change, by_depth, costs, fixed, ladders, proportion
from factory.recipe.recipe import Recipe
from tinytown.annotator import Annotation
from tinytown.fitting import Placed
from tinytown.render import render
from tinytown.scene import KINDS, Scene, Thing, caption, sample_scene

PLACED = Placed("car", (20.0, 20.0), 14.0, (("paint", "red"), ("facing", "left")))
STEPS = (2, 4)
STRICT = VerifierConfig(changed_threshold=0.25, least_inside=0.828, most_outside=1.0, margin=1)
"""Of the noises on the random net it accepts some at the first draw, some later and some never."""

LENIENT = VerifierConfig(changed_threshold=0.3, least_inside=0.359, most_outside=1.0, margin=1)
"""Of the other methods it accepts some at the first k, some at the second and some never."""


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return DiffusionModel(str(Path(__file__).parent / "golden" / "tiny_sd"))


def case(seed: int, top: int = 16) -> Case:
    scene = sample_scene(seed)
    mask = np.zeros((64, 64), bool)
    mask[top : top + 24, 20:44] = True
    return Case(f"s{seed}", caption(scene), render(scene).image, mask)


CASES = [case(seed) for seed in range(4)]


def outcome(
    key: str,
    method: str,
    k: int,
    *reasons: str,
    inside: float = 0.5,
    level: int = 0,
    alone: str | None = None,
) -> list[Outcome]:
    """A scene's draws with a setting, one for each reason; `alone` is the autoencoder's where it differs."""
    setting = Setting(method, k, level or k)
    return [
        Outcome(
            key, setting, attempt, inside, 0.0, 0.2, 0.01, reason, reason if alone is None else alone, b""
        )
        for attempt, reason in enumerate(reasons)
    ]


def corrupted(model: DiffusionModel, method: str, verify: VerifierConfig, **changes: object) -> list[Sample]:
    """What the factory makes of the same scenes."""
    base = {"inversion_steps": STEPS[0], "batch_size": len(CASES)}
    verified = {key: changes.pop(key) for key in list(changes) if key in VerifierConfig.model_fields}
    config = CorruptionConfig(**{"method": method, **base, **changes})
    verifier = verify.model_copy(update={"on_failure": "keep", **verified})
    samples = [
        Sample(one.key, "", image=encode_image(one.image), mask=encode_mask(one.mask)) for one in CASES
    ]
    return Corruptor(model, config, verifier, seed=7)(samples)


@pytest.fixture(scope="module")
def by_chance(model: DiffusionModel) -> Results:
    return Results(
        measure(RoundTrip(model), CASES, Verifier(STRICT, vae_scale_factor=model.vae_scale_factor), STEPS, 7)
    )


@pytest.fixture(scope="module")
def surely(model: DiffusionModel) -> Results:
    return Results(
        measure(RoundTrip(model), CASES, Verifier(LENIENT, vae_scale_factor=model.vae_scale_factor), STEPS, 7)
    )


def test_every_method_stands_at_every_depth_and_on_the_image_latent():
    wanted = settings((5, 10))
    assert len(wanted) == len(set(wanted)) == 7 + 2 * 6
    assert Setting("noise", 0, 10) in wanted and Setting("noise", 0, 20) in wanted
    assert {one.method for one in wanted if one.steps == 5} == set(METHODS)


@pytest.mark.parametrize("method", ["noise", "gaussian"])
def test_draws_and_bills_are_those_of_the_corruptor(model: DiffusionModel, by_chance: Results, method: str):
    for k in STEPS:
        setting = at(method, k)
        assert by_chance.bill(setting).accepted < by_chance.bill(setting, draws=3).accepted < len(CASES)
        for attempts in (1, 3):
            made = corrupted(model, method, STRICT, inversion_steps=k, attempts=attempts)
            bill = by_chance.bill(setting, draws=attempts)
            assert bill == Bill(4, sum(one.verified for one in made), sum(one.unet_rows for one in made))
            for sample in made:
                last = by_chance.draws(sample.key, setting)[:attempts][-1]
                assert sample.attempts == last.attempt + 1 and sample.verified == (not last.reason)
                for name in ("change_inside", "change_outside", "difference_inside", "difference_outside"):
                    assert getattr(last, name) == pytest.approx(sample.metrics[name], abs=2e-3)
                assert np.abs(read_image(last.picture).astype(int) - read_image(sample.corrupted)).max() <= 1
        alone = corrupted(model, method, STRICT, inversion_steps=k, baseline="autoencoder")
        assert by_chance.bill(setting, alone=True) == Bill(
            4, sum(one.verified for one in alone), sum(one.unet_rows for one in alone)
        )


@pytest.mark.parametrize("method", ["blur", "rotate", "downscale"])
def test_ladders_without_chance_are_those_of_the_corruptor(
    model: DiffusionModel, surely: Results, method: str
):
    assert {climb.last.setting.steps for climb in surely.climbs(method)} == set(STEPS)
    for alone, baseline in ((False, "passage"), (True, "autoencoder")):
        made = corrupted(model, method, LENIENT, deeper=list(STEPS[1:]), baseline=baseline)
        climbs = surely.climbs(method, alone=alone)
        assert [climb.accepted for climb in climbs] == [one.verified for one in made]
        assert [climb.last.setting.steps for climb in climbs] == [one.inversion_steps for one in made]
        assert surely.ladder_bill(method, alone=alone) == Bill(
            4, sum(one.verified for one in made), sum(one.unet_rows for one in made)
        )


@pytest.mark.parametrize("method", ["noise", "blur"])
def test_the_image_latent_is_corrupted_as_by_the_corruptor(
    model: DiffusionModel, surely: Results, method: str
):
    made = corrupted(model, method, LENIENT, inversion_steps=10, target="image")
    setting = Setting(method, 0, 10)
    assert surely.bill(setting) == Bill(4, sum(one.verified for one in made), 0)
    for sample, one in zip(made, surely.first(setting), strict=True):
        assert sample.unet_rows == 0
        assert one.change_inside == pytest.approx(sample.metrics["change_inside"], abs=2e-3)


def test_the_method_none_is_the_round_trip_itself(model: DiffusionModel, surely: Results):
    images = np.stack([one.image for one in CASES])
    back = model.decode(model.encode(images))
    for image, one in zip(back, surely.first(Setting("none", 0, 10)), strict=True):
        assert np.array_equal(read_image(one.picture), image) and one.change_inside == 0.0
    assert all(one.difference_inside == 0.0 for one in surely.first(at("none", 4)))


def test_draws_survive_the_file(tmp_path: Path, by_chance: Results):
    made = [
        one for setting in settings(STEPS) for key in by_chance.keys for one in by_chance.draws(key, setting)
    ]
    save_outcomes(made, tmp_path / "draws.parquet")
    assert read_outcomes(tmp_path / "draws.parquet") == made
    assert [path.name for path in tmp_path.iterdir()] == ["draws.parquet"]


@pytest.fixture
def by_hand() -> Results:
    """Three scenes at k = 5, 10 and 20.

    `a` is accepted at once. `b` is at 10, and spills at 20. `c` spills at 10 and at 20, but against the autoencoder it
    is unchanged at 10 and accepted at 20. Of `noise`, `b` fails three times at 5, and `c` is accepted the third time.
    """
    made = []
    for method in METHODS:
        more = method == "noise"
        made += outcome("a", method, 5, "", inside=0.4)
        made += outcome("b", method, 5, "unchanged", *["unchanged", "unchanged"] * more)
        made += outcome("c", method, 5, "unchanged", *["unchanged", ""] * more)
        made += outcome("a", method, 10, "") + outcome("b", method, 10, "")
        made += outcome("c", method, 10, "spilled", alone="unchanged")
        made += outcome("a", method, 20, "", inside=0.05) + outcome("b", method, 20, "spilled", inside=0.8)
        made += outcome("c", method, 20, "spilled", alone="")
        for key in "abc":
            made += outcome(key, method, 0, "", level=10)
    return Results(made)


def test_bills_by_hand(by_hand: Results):
    # Inversion costs 10 at k = 5 (1, 5, 2, 1, 1), 15 at 10 and 25 at 20.
    assert by_hand.bill(at("noise", 5)) == Bill(3, 1, 3 * (10 + 5 + 5))
    assert by_hand.bill(at("noise", 5), draws=3) == Bill(3, 2, 3 * (10 + 5) + (1 + 3 + 3) * 5)
    assert by_hand.bill(at("noise", 10), alone=True) == Bill(3, 2, 3 * (15 + 10))
    assert by_hand.bill(at("noise", 10), alone=True).each == 37.5
    assert by_hand.bill(Setting("noise", 0, 10)) == Bill(3, 3, 0)


def test_ladders_by_hand(by_hand: Results):
    climbs = by_hand.climbs("blur")
    assert [climb.steps for climb in climbs] == [(5,), (5, 10), (5, 10)]
    assert [climb.accepted for climb in climbs] == [True, True, False]
    assert by_hand.ladder_bill("blur") == Bill(3, 2, 3 * 25 + 2 * (5 + 15 + 15))
    assert by_hand.climbs("blur", alone=True)[2].steps == (5, 10, 20)
    assert by_hand.ladder_bill("blur", alone=True) == Bill(3, 3, 3 * 25 + (5 + 15 + 35))


def test_tables_by_hand(by_hand: Results):
    # Wilson by hand for 1 of 3: centre (1/3 + z2 / 6) / (1 + z2 / 3), z2 = 1.95996 ** 2 = 3.84146.
    centre = (1 / 3 + 3.84146 / 6) / (1 + 3.84146 / 3)
    half = 1.95996 * (1 / 3 * 2 / 3 / 3 + 3.84146 / 36) ** 0.5 / (1 + 3.84146 / 3)
    share = f"33.3 % [{100 * (centre - half):.1f}, {100 * (centre + half):.1f}]"
    assert proportion(Bill(3, 1, 0)) == share
    two_of_three = proportion(Bill(3, 2, 0))
    assert (
        f"| noise | 5 | {share} | {two_of_three} | 66.7 % | 0.0 % | 50.0 % | 0.00 % | 20.00 % | 1.00 % |"
        in fixed(by_hand).splitlines()
    )
    assert f"| noise | 5 | 10 | 60 | 40 | {share} | 45 |" in costs(by_hand).splitlines()
    wanted = (
        f"| blur | {two_of_three} | 33.3 % | 33.3 % | 0.0 % | 7.5 | 72 | {proportion(Bill(3, 3, 0))} | 43 |"
    )
    assert wanted in ladders(by_hand).splitlines()


def test_marks_are_counted_by_their_place():
    region, marked = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    region[8:12, 8:12] = True
    marked[9, :] = True  # 20 pixels: 8 within 2 of the region (6 to 13), 12 within 4 (4 to 15)
    image = np.zeros((20, 20, 3), np.uint8)
    annotation = Annotation(
        image, np.zeros((20, 20), np.float32), marked, (None, PLACED, None), image[..., 0]
    )
    assert marks_of(annotation, region) == Marks(20, 8, 8, 2)
    assert not Marks(20, 11, 0, 0).broken and Marks(20, 12, 0, 0).broken
    found = Broken.of([Marks(20, 8, 8, 2), Marks(10, 12, 0, 0), Marks(0, 0, 0, 1)])
    assert found == Broken(3, 1, 2, 8.0, pytest.approx((8 / 20 + 0) / 2))
    assert Broken.of([]) == Broken(0, 0, 0, None, None)


def test_what_the_annotator_looks_at(by_hand: Results):
    groups = chosen(by_hand, 1)
    assert [one.key for one in groups["fixed", "noise", "10"]] == ["a"]
    assert [one.key for one in chosen(by_hand, 9)["fixed", "noise", "10"]] == ["a", "b"]
    assert [one.name for one in chosen(by_hand, 9)["ladder", "rotate"]] == [
        ("a", at("rotate", 5), 0), ("b", at("rotate", 10), 0)
    ]  # fmt: skip
    # At the largest k, b and c spilled, which leaves the one of 5 %.
    assert [len(groups["bin", low, high]) for low, high in (("0.0", "0.1"), ("0.8", "1.0"))] == [1, 0]
    assert [one.setting.steps for one in groups["control", "round trip"]] == [20]

    marks = {("a", at("noise", 5), 0): Marks(30, 20, 3, 0), ("a", at("noise", 20), 0): Marks(5, 0, 5, 1)}
    assert "| 5 | 1 | 100.0 % [20.7, 100.0] | 20 | 0.0 % | 10.0 % |" in by_depth(by_hand, marks).splitlines()
    assert (
        "| 0 to 10 % | 1 | 0.0 % [0.0, 79.3] | 0 | 100.0 % | 100.0 % |"
        in by_change(groups, marks).splitlines()
    )


def test_images_are_annotated_once(tmp_path: Path):
    scene = sample_scene(1)
    clean = render(scene).image
    scribbled = clean.copy()
    scribbled[20:36, 24:40] = np.indices((16, 16)).sum(0)[..., None] % 2 * 255
    known, groups = {"s1": case(1)}, {}
    for method, image in (("none", clean), ("noise", scribbled)):
        groups[method,] = [replace(*outcome("s1", method, 5, ""), picture=encode_image(image))]
    reported: list[tuple[int, int]] = []
    marks = mark_all(groups, known, tmp_path / "annotations.parquet", lambda *done: reported.append(done))
    assert not marks["s1", at("none", 5), 0].broken and marks["s1", at("noise", 5), 0].broken
    assert reported == [(2, 2)]
    groups["once more",] = groups["noise",]
    assert (
        mark_all(groups, known, tmp_path / "annotations.parquet", lambda *done: reported.append(done))
        == marks
    )
    assert reported == [(2, 2)]


def scene_of(kind: str, number: int) -> Case:
    """A scene with one large object, and a region in its middle."""
    found = sample_scene(number)
    thing = next(thing for seed in range(500) for thing in sample_scene(seed).things if thing.kind == kind)
    scene = Scene(found.background, (Thing(kind, "large", 8, 8, thing.attributes),))
    mask = np.zeros((64, 64), bool)
    mask[22:42, 22:42] = True
    return Case(f"{kind}-{number}", caption(scene), render(scene).image, mask)


def test_the_grid_shows_every_kind_before_any_once_more():
    face, tree = ([scene_of(kind, number) for number in range(3)] for kind in ("face", "tree"))
    huge = replace(scene_of("car", 9), mask=np.ones((64, 64), bool))
    chosen_keys = [one.key for one in varied([face[0], huge, face[1], face[2], tree[0], tree[1]], 3)]
    assert chosen_keys == ["face-0", "face-1", "tree-0"]
    every = [scene_of("sign", 0), *(scene_of(kind, 1) for kind in KINDS)]
    assert [one.key for one in varied(every, 7)] == ["sign-0", *(f"{k}-1" for k in KINDS if k != "sign")]


def test_the_grid_puts_images_and_verdicts_in_their_places():
    made, grey = [], {}
    for method in METHODS:
        for k in (0, 5, 20):
            refused = method != "none" and k == 20 and method != "blur"
            grey[method, k] = 10 + 20 * list(METHODS).index(method) + k
            image = encode_image(np.full((64, 64, 3), grey[method, k], np.uint8))
            for one in CASES[:2]:
                drawn = outcome(one.key, method, k, "unchanged" if refused else "", level=k or 10)
                made += [replace(each, picture=image) for each in drawn]
    pixels = np.asarray(grid(CASES[:2], Results(made)))
    side = 64 * SCALE
    assert pixels.shape == (HEAD + 2 * (side + BAR + 2 * GAP) - GAP, 10 * (side + GAP) - GAP, 3)
    second = HEAD + side + BAR + 2 * GAP
    # The region begins at row 16 and column 20, whose outline is one pixel wide.
    assert pixels[second + 16 * SCALE, 20 * SCALE].tolist() == [0, 255, 0]
    inner = (second + 17 * SCALE, 21 * SCALE)
    assert pixels[inner].tolist() == CASES[1].image[17, 21].tolist()
    columns = [("none", 20), ("rotate", 20), ("blur", 20), ("downscale", 20), ("gaussian", 20), ("noise", 5)]
    # The ladder stops at 5.
    columns += [("noise", 20), ("noise", 5), ("gaussian", 0)]
    for number, name in enumerate(columns, start=1):
        left = number * (side + GAP)
        middle = pixels[second + side // 2, left + side // 2]
        assert middle.tolist() == [grey[name]] * 3, name
        bar = pixels[second + side + 3, left + 5].tolist()
        if name[0] == "none":
            assert bar == [255, 255, 255]
        else:
            assert bar == list(REFUSED if name[1] == 20 and name[0] != "blur" else ACCEPTED), name


def test_only_what_stands_between_the_markers_is_replaced():
    page = f"# A\n\nby hand\n\n{BEGIN}\nold\n{END}\n\nby hand too\n"
    assert between(page, "new") == f"# A\n\nby hand\n\n{BEGIN}\n\nnew\n\n{END}\n\nby hand too\n"
    assert between(between(page, "other"), "new") == between(page, "new")
    for broken in ("# A\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"):
        with pytest.raises(ValueError, match="lacks"):
            between(broken, "new")


def test_a_run_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    work, out = tmp_path / "work", tmp_path / "docs"
    options = [
        "--steps",
        "1",
        "2",
        "--batch",
        "1",
        "--annotated",
        "1",
        "--work",
        str(work),
        "--out",
        str(out),
    ]
    main(["--samples", "2", *options])
    page, grid_png = (out / "methods.md").read_text(), (out / "methods.png").read_bytes()
    assert "2 scenes." in page and page.count("| rotate | 1 |") == 2
    assert "draws-0000.parquet: 1 scenes left" in capsys.readouterr().err
    with Image.open(out / "methods.png") as image:
        assert image.width == 10 * (64 * SCALE + GAP) - GAP

    first, second = work / "draws-0000.parquet", work / "draws-0001.parquet"
    kept = first.stat().st_mtime_ns
    second.unlink()
    (out / "methods.md").write_text(page.replace("# Corruptions", "# By hand"))
    main(["--samples", "2", *options])
    assert first.stat().st_mtime_ns == kept and second.exists()
    assert (out / "methods.md").read_text() == page.replace("# Corruptions", "# By hand")
    assert (out / "methods.png").read_bytes() == grid_png

    second.unlink()
    main(["--only-report", *options])
    assert "1 scenes." in (out / "methods.md").read_text()
    with pytest.raises(SystemExit, match="a run with other settings"):
        main(["--samples", "3", *options])
    with pytest.raises(SystemExit, match="holds no draws"):
        main(["--only-report", "--work", str(tmp_path / "nowhere"), "--out", str(out)])


def test_scenes_without_a_region_are_passed_over(tmp_path: Path):
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "source": {
                "kind": "tinytown",
                "limit": 4,
                "first_seed": 3_000_000,
                "parts": ["face"],
                "size": 64,
            },
            "regions": {"kind": "source", "smallest_area": 0.05, "largest_area": 0.3},
        }
    )
    found = cases(recipe, 9)
    assert 0 < len(found) <= 4 and all(0.05 <= one.mask.mean() <= 0.3 for one in found)
    assert found[0].key >= "tinytown-003000000"
    save_cases(found, tmp_path / "scenes.parquet")
    for one, other in zip(read_cases(tmp_path / "scenes.parquet"), found, strict=True):
        assert (one.key, one.caption) == (other.key, other.caption)
        assert np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)
