"""The report page: what it states, what it loads, and how it looks to a real browser, also a narrow one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser

from actors.masks import MaskReading
from eval.curves import curves_of
from eval.image_rows import RowSpool
from eval.labelled import LabelledSample
from eval.metrics import Interval
from eval.part import Job, Part
from eval.reference_rows import ReferenceRow, gains
from eval.report import Report
from eval.report_files import write_report
from eval.report_page import report_page
from eval.scoring import Scores
from eval.showcase import SECTIONS
from tests.browser import chromium, visit
from tests.labelled_tars import random_sample, write_tar

THRESHOLD = 0.4
HOSTILE = "\"'></title></style><script>window.hacked=1</script><img src=x onerror=window.hacked=2>{{ 7*7 }}"
UPPER = ReferenceRow(
    iou_fg=[0.6, 0.5, 0.7],
    average_precision=0.7,
    object_auroc_within=0.9,
    object_auroc_clean=None,
    clean_area=0.01,
)


class Brightness:
    """A source whose scores are the green channel, so that they are known everywhere."""

    name, batch_size, any_image = HOSTILE, 3, True

    def fingerprint(self) -> str:
        return "brightness@1"

    def portable(self) -> Brightness:
        return self

    def open(self) -> Brightness:
        return self

    def __call__(self, batch: Sequence[LabelledSample]) -> list[Scores | None]:
        return [one.image[..., 1].astype(np.float32) / 255 for one in batch]

    def notes(self) -> list[str]:
        return []


def reported(tar: str, out: Path, *, show: bool = True) -> Report:
    """A report of a tar, written to a folder."""
    job = Job(Brightness(), (tar,), (0.2, THRESHOLD), MaskReading(), rows=True)
    part = Part(job.thresholds)
    part.add_tar(0, job, job.source.open())
    streamed, rows = part.streamed, {"upper bound, convnext": UPPER}
    found, free, blind = streamed.evaluation(THRESHOLD), streamed.threshold_free(), streamed.blind()
    own = {"iou_fg": found.iou_fg.value, "average_precision": free.average_precision.value}
    report = Report(
        checkpoint=HOSTILE,
        model="brightness@1",
        data=f"validation {HOSTILE}",
        threshold_from="given",
        evaluation=found,
        threshold_free=free,
        at_random=streamed.random_iou(THRESHOLD),
        notes=(f"a note {HOSTILE}",),
        data_digest=part.digest,
        objects=streamed.objects(THRESHOLD),
        human=streamed.human_scores(),
        blind=blind,
        reference=rows,
        gain=gains(own, blind, rows),
    )
    with RowSpool() as spool:
        spool.add(part.rows)
        write_report(str(out), report, job, streamed, spool, 1, versions={"flawforge": "0"}, show=show)
    return report


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve images, a third of them clean; one is larger than what the page shows, one has a hostile caption."""
    rng = np.random.default_rng(0)
    samples = {f"k{number:02d}": random_sample(rng, clean=number % 3 == 0) for number in range(11)}
    samples["k01"]["json"] = json.dumps({"caption": HOSTILE, "artifact_score": 0.1}).encode()
    samples["large"] = random_sample(rng, side=500)
    return write_tar(tmp_path_factory.mktemp("tar") / "a.tar", samples)


@pytest.fixture(scope="module")
def out(tar: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    reported(tar, folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def test_the_files_agree(tar: str, out: Path, tmp_path: Path):
    report = reported(tar, tmp_path)
    document = json.loads((out / "figures.json").read_bytes())
    assert document == json.loads((tmp_path / "figures.json").read_bytes())
    assert document["schema_version"] == 1 and document["versions"] == {"flawforge": "0"}
    assert document["evaluation"]["iou_fg"] == vars(report.evaluation.iou_fg)
    assert document["gain"]["iou_fg"]["upper"] == "upper bound, convnext"
    rows = pq.read_table(out / "images.parquet").to_pylist()
    assert len(rows) == document["evaluation"]["images"] == 12
    hits, extra, missed = (
        sum(row[name] for row in rows) for name in ("true_positives", "false_positives", "false_negatives")
    )
    assert document["evaluation"]["iou_fg"]["value"] == pytest.approx(hits / (hits + extra + missed))
    curves = document["curves"]
    at = int(np.argmin(np.abs(np.array(curves["thresholds"]) - THRESHOLD)))
    assert curves["recall"][at] == pytest.approx(hits / (hits + missed), abs=0.01)


def test_nothing_is_loaded_and_no_text_is_markup(out: Path):
    page = (out / "index.html").read_text()
    assert "http://" not in page and "https://" not in page and "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", page)[0]
    assert page.count("<img src=x") == 0


@pytest.mark.parametrize("width", [375, 1280])
def test_in_a_browser(browser: Browser, out: Path, width: int):
    with visit(browser, out / "index.html", width=width, height=800) as seen:
        page = seen.page
        assert seen.complaints == [] and len(seen.requests) == 1
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
        assert page.evaluate("window.hacked === undefined")
        titles = page.locator("h3").all_inner_texts()
        assert [title for title in titles if title in {section.title for section, _ in SECTIONS}] == [
            section.title for section, _ in SECTIONS
        ]
        assert page.locator("#clean + p + .tiles .tile").count() == 4
        assert page.locator("svg.chart").count() == 7
        assert "this detector" in page.locator("tr.detector").inner_text()
        assert page.locator(".outline").first.is_visible()
        page.get_by_label("show outlines").uncheck()
        assert not page.locator(".outline").first.is_visible()
        # Text of a chart is at least 9 CSS pixels high on a phone.
        heights = page.evaluate(
            "[...document.querySelectorAll('svg.chart text')].map(t => t.getBoundingClientRect().height)"
        )
        assert min(heights) >= 9


def test_the_prediction_lies_over_the_truth(browser: Browser, out: Path):
    """The outlines of a tile cover its image exactly, whatever their own resolution."""
    with visit(browser, out / "index.html", width=1280, height=800) as seen:
        boxes = seen.page.evaluate(
            """[...document.querySelectorAll('.frame')].map(frame => [...frame.children].map(one => {
                 const box = one.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; }))"""
        )
    assert boxes and all(box == pytest.approx(frame[0], abs=0.01) for frame in boxes for box in frame)


def test_sealed_images_are_not_shown(tar: str, tmp_path: Path):
    reported(tar, tmp_path, show=False)
    page = (tmp_path / "index.html").read_text()
    assert "<img" not in page and "Highest IoU" not in page and "Where it fails" in page


def test_undefined_figures(tar: str, tmp_path: Path):
    """Without artifacts, objects and human scores: the page says undefined, and has no nan."""
    rng = np.random.default_rng(0)
    files = {name: random_sample(rng, clean=True)[name] for name in ("image.png", "mask.png")}
    undefined = write_tar(tmp_path / "a.tar", {"k": files})
    report = reported(undefined, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert report.objects is None and report.human is None and math.isnan(report.evaluation.average_precision)
    assert "undefined" in page and not re.search(r"\bnan\b", page)
    json.loads((tmp_path / "out" / "figures.json").read_bytes(), parse_constant=pytest.fail)


def test_a_detector_below_the_blind_baseline_is_called_so(tar: str, tmp_path: Path):
    report = reported(tar, tmp_path)
    low = replace(report.evaluation, iou_fg=Interval(0.01, 0.0, 0.02))
    curves = curves_of(np.ones((2, 1024), np.int64))
    page = report_page(replace(report, evaluation=low), curves, [], [])
    assert "Its IoU_fg is not above that of" in page
    high = replace(report.evaluation, iou_fg=Interval(0.9, 0.8, 0.95))
    assert "Its IoU_fg is not above" not in report_page(replace(report, evaluation=high), curves, [], [])
