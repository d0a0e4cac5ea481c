"""`flawforge eval` on a tiny segmenter whose scores are known everywhere."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from actors.errors import ArgumentError, EvaluationError, ModelError, OutputError, SourceError
from actors.images import encode_image, encode_mask
from actors.segmentation.predictor import Predictor
from actors.segmentation.segmenter import Segmenter
from eval import splits
from eval.evaluate import evaluate, random_iou
from eval.sealed_log import openings
from eval.streaming import StreamedEvaluation
from flawforge import api
from flawforge.cli import app
from flawforge.evaluation import evaluate_checkpoint
from tests.labelled_tars import grey_png, random_sample, write_tar
from tests.patience import seconds
from tests.upernet import save_upernet
from tinytown import ASSETS_VERSION
from train.trained import Trained

AREAS = (0.25, 0.5)
"""Of the two true masks in every set: a segmenter that predicts everything has IoU_fg 0.375."""


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint that gives every pixel the score 1 / (1 + exp(-2)) = 0.88."""
    return str(save_upernet(tmp_path_factory.mktemp("everywhere"), bias=2.0))


def pack(path: Path, samples: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """A tar of images and masks."""
    with tarfile.open(path, "w") as tar:
        for number, (image, mask) in enumerate(samples):
            for part, data in (("image.png", encode_image(image)), ("mask.png", encode_mask(mask))):
                info = tarfile.TarInfo(f"{number:04d}.{part}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(path)


def write_set(folder: Path, name: str) -> str:
    folder.mkdir(parents=True)
    (folder / "VERSION.txt").write_text(f"{ASSETS_VERSION}\n")
    with tarfile.open(folder / "000000.tar", "w") as tar:
        for number, area in enumerate(AREAS):
            mask = np.zeros((64, 64), np.bool_)
            mask[: int(64 * area)] = True
            grey = np.full((64, 64, 3), 128, np.uint8)
            for part, data in (("image.png", encode_image(grey)), ("mask.png", encode_mask(mask))):
                info = tarfile.TarInfo(f"{name}-{number}.{part}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(folder / "000000.tar")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "splits"
    for name in splits.NAMES:
        write_set(root / name, name)
    (root / "manifest.json").write_text("{}")
    monkeypatch.setattr(splits, "ROOT", root)
    return root


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["eval", *arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_other_data_has_the_default_threshold(everywhere: str, tmp_path: Path):
    report = evaluate_checkpoint(everywhere, urls=[write_set(tmp_path / "mine", "mine")])
    assert report.threshold_from == "default"
    found = report.evaluation
    assert (found.threshold, found.images, found.without_region) == (0.5, 2, 0.0)
    assert found.iou_fg.value == 0.375 and found.recall.value == 1
    assert found.iou_per_image.value == 0.375
    assert report.at_random.value == 0.375  # everything stays everything wherever it is moved
    assert report.model.startswith(f"{Path(everywhere).name}")


def test_ignored_pixels_of_ones_own_data(everywhere: str, tmp_path: Path):
    """One mask of 0 and 1: a quarter is true, a half ignored. Everything is predicted: IoU_fg is a half."""
    levels = np.zeros((64, 64), np.uint8)
    levels[:16], levels[32:] = 1, 255
    mask, path = io.BytesIO(), tmp_path / "mine.tar"
    Image.fromarray(levels).save(mask, "PNG")
    with tarfile.open(path, "w") as tar:
        image = encode_image(np.full((64, 64, 3), 128, np.uint8))
        for part, data in (("image.png", image), ("mask.png", mask.getvalue())):
            info = tarfile.TarInfo(f"a.{part}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    result = CliRunner().invoke(
        app, ["eval", everywhere, "--data", str(path), "--ignore-index", "255", "--json"]
    )
    assert result.exit_code == 0, (result.output, result.exception)
    document = json.loads(result.stdout)
    assert document["evaluation"]["iou_fg"]["value"] == 0.5
    assert document["evaluation"]["miou_2class"]["value"] == 0.25
    assert document["at_random"]["value"] == 0.5
    assert "50.0% of the pixels are ignored" in result.stderr
    with pytest.raises(EvaluationError, match="255"):
        evaluate_checkpoint(everywhere, urls=[str(path)])


def test_a_threshold_above_all_scores_predicts_nothing(everywhere: str, tmp_path: Path):
    report = evaluate_checkpoint(everywhere, urls=[write_set(tmp_path / "mine", "mine")], threshold=0.9)
    assert report.threshold_from == "given"
    assert report.evaluation.iou_fg.value == 0 and report.evaluation.without_region == 1


def test_the_threshold_comes_from_validation(everywhere: str, shipped: Path):
    report = evaluate_checkpoint(everywhere, split="labelled")
    assert report.threshold_from == "validation" and report.evaluation.threshold == 0.02
    assert report.data.startswith(f"labelled of tinytown/splits-v{ASSETS_VERSION}@")
    assert "flatter" not in " ".join(report.notes)
    assert "flatter" in " ".join(evaluate_checkpoint(everywhere, split="validation").notes)


def test_the_sealed_split_says_so_and_is_logged(
    everywhere: str, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = tmp_path / "flawforge" / "sealed-openings.jsonl"
    assert "sealed" not in invoke(everywhere, "--split", "validation") and not log.exists()
    assert "sealed: for final figures only; this is opening 1 of them" in invoke(
        everywhere, "--split", "sealed"
    )
    opened, figures = openings(log)
    assert opened["event"] == "opened" and opened["data"].startswith(
        f"sealed of tinytown/splits-v{ASSETS_VERSION}@"
    )
    assert opened["checkpoint"].startswith(Path(everywhere).name) and opened["assets"] == ASSETS_VERSION
    assert figures["opening"] == opened["opening"] and figures["iou_fg"] == [0.375, 0.25, 0.5]
    own = tmp_path / "own.jsonl"
    data = shipped / "sealed" / "000000.tar"
    assert "opening 1 of them" in invoke(everywhere, "--data", str(data), "--log", str(own))
    assert len(openings(own)) == len(openings(log)) == 2


def test_without_a_log_the_sealed_split_stays_closed(everywhere: str, shipped: Path, tmp_path: Path):
    """The tar is damaged, which would be reported if it were read."""
    (shipped / "sealed" / "000000.tar").write_bytes(b"damaged")
    result = CliRunner().invoke(app, ["eval", everywhere, "--split", "sealed", "--log", str(tmp_path)])
    assert isinstance(result.exception, OutputError) and "stay closed" in str(result.exception)


def test_an_opening_that_fails_is_in_the_log(everywhere: str, shipped: Path, tmp_path: Path):
    (shipped / "sealed" / "000000.tar").write_bytes(b"damaged")
    log = tmp_path / "log.jsonl"
    with pytest.raises(SourceError):
        evaluate_checkpoint(everywhere, split="sealed", log=log)
    assert [line["event"] for line in openings(log)] == ["opened"]


def test_reference_rows_of_a_split(everywhere: str, shipped: Path):
    """Everything is marked, which is the best of the blind baselines: no gain."""
    row = {
        "average_precision": 0.25,
        "object_auroc_within": None,
        "object_auroc_clean": 0.75,
        "clean_area": 0.5,
    }
    rows = {
        "blind: class prior": {"iou_fg": [0.25, 0.2, 0.3], **row},
        "upper bound, swin": {"iou_fg": [1, 1, 1], **row},
    }
    (shipped / "reference.json").write_text(json.dumps({"validation": rows}))
    screen = invoke(everywhere)
    assert "blind: class prior" in screen and "upper bound, swin" in screen and "75.0" in screen
    document = evaluate_checkpoint(everywhere).document()
    assert document["reference"]["upper bound, swin"]["iou_fg"] == [1, 1, 1]
    assert (
        document["gain"]["iou_fg"]["blind"] == "blind: everything"
        and document["gain"]["iou_fg"]["share"] == 0
    )
    assert (
        "IoU_fg: 0% of the room between 'blind: everything' (37.5) and 'upper bound, swin' (100.0)" in screen
    )
    assert evaluate_checkpoint(everywhere, split="labelled").reference == {}


def test_the_threshold_of_the_training(tmp_path: Path):
    """Other data have the threshold in `metrics.json`; one of another program counts as none."""
    folder, data = save_upernet(tmp_path / "trained", bias=2.0), write_set(tmp_path / "mine", "mine")
    (folder / "metrics.json").write_text('{"accuracy": 1}')
    assert evaluate_checkpoint(str(folder), urls=[data]).threshold_from == "default"
    trained = Trained(
        step=1, steps=1, threshold=0.9, validation={"iou_fg": 0.5}, loss=0.1, seconds=1.0, waited=0.0, skipped={},
        new_weights=[], digest="",
    )  # fmt: skip
    (folder / "metrics.json").write_text(trained.model_dump_json())
    report = evaluate_checkpoint(str(folder), urls=[data])
    assert (report.threshold_from, report.evaluation.threshold) == ("model", 0.9)
    assert "threshold 0.9: chosen in the training of this model" in " ".join(report.notes)


def test_objects_and_scores_of_annotators(everywhere: str, tmp_path: Path):
    """Everything is marked: broken and intact objects are tied, and so are all images."""
    rng = np.random.default_rng(0)
    tar = write_tar(tmp_path / "a.tar", {f"k{n}": random_sample(rng, clean=n % 2 == 0) for n in range(6)})
    report = api.evaluate(everywhere, data=tar)
    objects = report.objects
    assert (objects.broken, objects.intact, objects.clean) == (3, 3, 6)
    assert objects.within.value == objects.against_clean.value == 0.5
    assert report.human.images == 6 and math.isnan(report.human.spearman.value)
    assert set(report.blind) == {"blind: everything", "blind: all objects"}
    assert "rank correlation (Spearman) of 6 image scores" in " ".join(
        invoke(everywhere, "--data", tar).split()
    )


def test_the_report_of_a_split(everywhere: str, shipped: Path, tmp_path: Path):
    """The threshold is chosen among all candidates after the images are counted."""
    out = tmp_path / "report"
    assert f"report: {out}/index.html" in invoke(everywhere, "--out", f"{out}/").replace("\n", "")
    rows = pq.read_table(out / "images.parquet").to_pylist()
    assert [row["iou"] for row in rows] == [0.25, 0.5] and [row["marked_area"] for row in rows] == [1, 1]
    document = json.loads((out / "figures.json").read_bytes())
    assert document["evaluation"]["threshold"] == 0.02 and len(document["data_digest"]) == 16
    invoke(everywhere, "--out", str(out), "--threshold", "0.9")  # over the first one
    assert pq.read_table(out / "images.parquet")["marked_area"].to_pylist() == [0, 0]


def test_a_folder_with_other_files_is_refused_before_anything_is_opened(
    everywhere: str, shipped: Path, tmp_path: Path
):
    log = tmp_path / "log.jsonl"
    for name in ("mine.txt", "index.html"):
        (tmp_path / name / "out").mkdir(parents=True)
        (tmp_path / name / "out" / name).write_text("mine")
        with pytest.raises(OutputError, match="it holds other files than"):
            evaluate_checkpoint(everywhere, split="sealed", out=str(tmp_path / name / "out"), log=log)
        assert (tmp_path / name / "out" / name).read_text() == "mine"
    assert not log.exists()


def test_text_that_parquet_cannot_store(everywhere: str, tmp_path: Path):
    """A key that is no UTF-8, a caption with a lone surrogate, and equal scores of annotators."""
    files = random_sample(np.random.default_rng(0))
    files["json"] = b'{"caption": "a \\ud800 b", "artifact_score": 1000000000}'
    out = tmp_path / "out"
    api.evaluate(everywhere, data=write_tar(tmp_path / "a.tar", {"k\udcff": files, "l": files}), out=out)
    rows = pq.read_table(out / "images.parquet").to_pylist()
    assert [row["key"] for row in rows] == ["k\\udcff", "l"] and rows[0]["caption"] == "a \\ud800 b"
    assert "a \\ud800 b" in (out / "index.html").read_text()


def test_all_pixels_ignored(everywhere: str, tmp_path: Path):
    ignored = {
        **random_sample(np.random.default_rng(0)),
        "mask.png": grey_png(np.full((64, 64), 255, np.uint8)),
    }
    tar = write_tar(tmp_path / "a.tar", {"k": ignored})
    api.evaluate(everywhere, data=tar, ignore_index=255, out=tmp_path / "out")
    assert "nan" not in re.sub(r"data:[^\"]*", "", (tmp_path / "out" / "index.html").read_text())


def test_the_digest_of_the_data(everywhere: str, tmp_path: Path):
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tar = write_tar(tmp_path / f"{name}.tar", {"k": random_sample(np.random.default_rng(seed))})
        digests.append(api.evaluate(everywhere, data=tar).data_digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_table(everywhere: str, shipped: Path):
    screen = invoke(everywhere)
    assert "IoU_fg (pooled)" in screen and "37.50" in screen and "25.00 to 50.00" in screen
    assert "threshold 0.02: the largest pooled IoU_fg on the validation split" in screen
    assert "AUROC (pixels)" in screen and "recall (mean of images)" in screen


def test_json(everywhere: str, shipped: Path):
    result = CliRunner().invoke(app, ["eval", everywhere, "--threshold", "0.4", "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["evaluation"]["iou_fg"] == {"value": 0.375, "low": 0.25, "high": 0.5}
    assert document["threshold_from"] == "given" and document["evaluation"]["threshold"] == 0.4
    assert "threshold 0.4: as given" in result.stderr


def test_json_has_no_nan(everywhere: str, tmp_path: Path):
    report = evaluate_checkpoint(everywhere, urls=[write_set(tmp_path / "mine", "mine")])
    assert report.document()["evaluation"]["average_precision"] == pytest.approx(0.375)
    undefined = report.evaluation.__class__(**{**vars(report.evaluation), "average_precision": math.nan})
    silent = report.__class__(**{**vars(report), "evaluation": undefined})
    assert silent.document()["evaluation"]["average_precision"] is None


def test_missing_splits_are_told(everywhere: str, tmp_path: Path):
    with pytest.raises(EvaluationError, match="of tinytown is missing"):
        evaluate_checkpoint(everywhere, root=tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--device", "tpu"],
        ["--batch-size", "0"],
        ["--data", "x.tar", "--tile", "0"],
        ["--split", "wild"],
        ["--split", "validation", "--data", "x.tar"],
        ["--threshold", "1.5"],
        ["--ignore-index", "255"],
        ["--data", "x.tar", "--alpha", "white"],
        ["--data", "x.tar", "--ignore-index", "-1"],
        ["--workers", "0"],
        ["--workers", "all"],
    ],
)
def test_wrong_use(arguments: list[str]):
    assert CliRunner().invoke(app, ["eval", "nowhere", *arguments]).exit_code == 2


def test_data_are_looked_at_before_torch_is_loaded(tmp_path: Path):
    code = (
        "import sys\n"
        "from actors.errors import SourceError\n"
        "from flawforge.evaluation import evaluate_checkpoint\n"
        "try:\n    evaluate_checkpoint('x', urls=[sys.argv[1]])\n"
        "except SourceError as error:\n    print(error)\n"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "missing.tar")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(120))
    assert done.returncode == 0 and "no such file" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def ordinary(tmp_path: Path) -> str:
    """A checkpoint of random weights, whose scores differ from pixel to pixel."""
    return str(save_upernet(tmp_path / "ordinary"))


def noise(count: int, height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(height)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return list(zip(images, rng.random((count, height, width)) < 0.3, strict=True))


@pytest.mark.parametrize("default", [True, False])
def test_the_stream_has_the_figures_of_the_arrays(ordinary: str, tmp_path: Path, default: bool):
    samples = noise(11, 40, 50)
    images, truth = (np.stack(part) for part in zip(*samples, strict=True))
    scores = Segmenter(ordinary)(images)
    at = 0.5 if default else float(np.median(scores))
    threshold = None if default else at
    report = evaluate_checkpoint(ordinary, urls=[pack(tmp_path / "a.tar", samples)], threshold=threshold)
    wanted = {**asdict(evaluate(truth, scores, at)), "at_random": asdict(random_iou(truth, scores >= at))}
    for name, value in {**asdict(report.evaluation), "at_random": asdict(report.at_random)}.items():
        assert value == pytest.approx(wanted[name], abs=1e-12), name
    assert 0 < report.evaluation.recall.value < 1


def test_images_of_several_sizes_are_scored_as_each_alone(ordinary: str, tmp_path: Path):
    """Sizes that the network does not divide, and one that is smaller than it takes."""
    samples = [*noise(3, 40, 50), *noise(1, 20, 64), *noise(2, 64, 33)]
    samples = [samples[number] for number in (0, 3, 4, 1, 5, 2)]
    score = Predictor(Segmenter(ordinary), smallest=32)
    scores = [score(image[None])[0] for image, _ in samples]
    threshold = float(np.median(scores[0]))
    path = pack(tmp_path / "a.tar", samples)
    report = evaluate_checkpoint(ordinary, urls=[path], threshold=threshold)
    hits = union = 0
    for one, (_, mask) in zip(scores, samples, strict=True):
        found = one >= threshold
        hits, union = hits + int((found & mask).sum()), union + int((found | mask).sum())
    assert report.evaluation.iou_fg.value == pytest.approx(hits / union)
    assert report.evaluation.images == 6 and 0 < report.evaluation.recall.value < 1


def test_a_large_set_keeps_a_sample_for_the_baseline(
    everywhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    defaults = StreamedEvaluation.__init__.__kwdefaults__ | {"baseline_pixels": 4 * 2000}
    monkeypatch.setattr(StreamedEvaluation.__init__, "__kwdefaults__", defaults)
    report = evaluate_checkpoint(everywhere, urls=[pack(tmp_path / "a.tar", noise(9, 40, 50))])
    assert report.evaluation.images == 9
    assert "regions at random: from a random sample of 4 of the 9 images" in report.notes
    assert report.at_random.value == pytest.approx(0.3, abs=0.05)  # everything is predicted wherever it moves


def test_tiles(ordinary: str, everywhere: str, tmp_path: Path):
    path = pack(tmp_path / "a.tar", noise(2, 150, 70))
    report = api.evaluate(everywhere, data=path, tile=64, batch_size=3)
    whole = api.evaluate(everywhere, data=path)
    assert report.evaluation.iou_fg == whole.evaluation.iou_fg
    fits = pack(tmp_path / "b.tar", noise(3, 60, 64))
    assert (
        api.evaluate(ordinary, data=fits, tile=64).evaluation == api.evaluate(ordinary, data=fits).evaluation
    )
    with pytest.raises(ArgumentError, match="tile: found 16; allowed: at least 32"):
        api.evaluate(ordinary, data=path, tile=16)


def test_a_gpu_by_name(ordinary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The path of a GPU on the CPU: nothing but the device's name is replaced."""
    path = pack(tmp_path / "a.tar", noise(3, 40, 50))
    arguments = ["eval", ordinary, "--data", path, "--batch-size", "2", "--json"]
    wanted = CliRunner().invoke(app, arguments)
    assert wanted.exit_code == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(app, ["eval", ordinary, "--data", path, "--device", "cuda"])
    assert isinstance(result.exception, ModelError)
    assert "a GPU is required and torch finds none here" in str(result.exception)
    assert "device cpu" in str(result.exception)
    asked = []

    def cpu(name: str, **_: str) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr("actors.device.device_for", cpu)
    monkeypatch.setattr("actors.segmentation.segmenter.device_for", cpu)
    found = CliRunner().invoke(app, [*arguments, "--device", "cuda"])
    assert json.loads(found.stdout) == json.loads(wanted.stdout)
    assert set(asked) == {"cuda"}
