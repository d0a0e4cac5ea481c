"""The files of a report: `figures.json`, `images.parquet` and the page `index.html`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from actors.errors import OutputError
from eval.curves import curves_of
from eval.image_rows import RowSpool, rows_file
from eval.part import Job
from eval.report import Report
from eval.report_page import report_page
from eval.report_tiles import tiles_of
from eval.showcase import SECTIONS, Showcase
from eval.streaming import StreamedEvaluation
from factory.store.storage import Storage

FIGURES, IMAGES, PAGE = "figures.json", "images.parquet", "index.html"


def check_place(out: str) -> None:
    """Refuses a folder that holds anything but an earlier report, before anything is computed.

    Raises:
        OutputError: it does, or it cannot be listed.
    """
    storage = Storage(out)
    ours = (FIGURES, IMAGES, PAGE)
    if not storage.empty(besides=ours) or (not storage.empty() and not storage.exists(FIGURES)):
        raise OutputError(
            f"{storage.url}: it holds other files than {', '.join(ours)} of an earlier report; name a new folder with "
            "--out"
        )


def write_report(
    out: str,
    report: Report,
    job: Job,
    streamed: StreamedEvaluation,
    spool: RowSpool,
    place: int,
    *,
    versions: Mapping[str, object],
    show: bool = True,
) -> None:
    """Write the three files over those of an earlier report: the figures, by which `check_place` knows a report, first.

    Args:
        out: a folder or an fsspec URL.
        report: the figures.
        job: what was evaluated; the images that the page shows are read and scored once more.
        streamed: its counts.
        spool: the rows of its images.
        place: of the threshold among the job's.
        versions: of the programs and assets.
        show: whether the page shows images. Those of a sealed split are for figures only: who looks at them will
            choose by them.

    Raises:
        OutputError: a file cannot be written.
    """
    storage = Storage(out)
    curves, showcase = curves_of(streamed.score_table), Showcase()
    document = {**report.document(), "versions": dict(versions), "curves": curves.document()}
    storage.replace(FIGURES, json.dumps(document, indent=1, allow_nan=False).encode() + b"\n")
    with tempfile.TemporaryDirectory(prefix="flawforge-eval-") as folder:
        path = Path(folder) / IMAGES
        rows_file(map(showcase.add, spool.finished(place)), path)
        storage.settle(IMAGES, path)
    sections = []
    if show:
        rows = {row["number"]: row for section, _ in SECTIONS for row in showcase.rows(section.name)}
        tiles = tiles_of(list(rows.values()), job, report.evaluation.threshold)
        sections = [
            (section, [tiles[row["number"]] for row in showcase.rows(section.name)])
            for section, _ in SECTIONS
        ]
    page = report_page(
        report, curves, showcase.sizes, sections, pairs=streamed.score_pairs, versions=versions
    )
    storage.replace(PAGE, page.encode())
