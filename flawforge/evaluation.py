"""The evaluation of a segmenter's checkpoint on images whose artifacts are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from actors.errors import EvaluationError, OutputError
from actors.masks import MaskReading
from actors.redaction import redact
from eval import sealed_log, splits
from eval.evaluate import CANDIDATES
from eval.image_rows import RowSpool
from eval.labelled import IMAGE, stream_tar, tars_of
from eval.part import Job, Part
from eval.predictions.predictions import Missing, Resize
from eval.predictions.source import MapScores
from eval.reference_rows import ReferenceRow, gains, reference_rows
from eval.report import Report, notes_on_images
from eval.report_files import check_place, write_report
from eval.scoring import BATCH_SIZE, CheckpointScores, Scorer, ScoreSource, Scoring
from tinytown import ASSETS_VERSION

__all__ = ["BATCH_SIZE", "DEFAULT_THRESHOLD", "Report", "Running", "Scoring", "evaluate_checkpoint"]

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Running:
    """Where an evaluation runs.

    Attributes:
        workers: scorers on a Ray cluster; 0 takes as many as it has room for, and none for a single tar. None scores
            in this process, without Ray.
        address: of the cluster, or `local` to start one here.
    """

    workers: int | None = None
    address: str = "local"


@dataclass(frozen=True)
class _Images:
    """What is evaluated.

    Attributes:
        name: the split with its version, or the URLs.
        split: empty for URLs.
        tars: their URLs.
        reading: how the masks are read.
        sealed: whether they are for final figures only.
        reference: rows to compare with.
    """

    name: str
    split: str
    tars: tuple[str, ...]
    reading: MaskReading
    sealed: bool
    reference: Mapping[str, ReferenceRow]


def evaluate_checkpoint(
    checkpoint: str,
    *,
    split: str = "validation",
    urls: Sequence[str] = (),
    threshold: float | None = None,
    root: Path | None = None,
    reading: MaskReading | None = None,
    scoring: Scoring | None = None,
    running: Running | None = None,
    out: str | None = None,
    log: Path | None = None,
) -> Report:
    """Score the images of a split, or of tars, in batches, and compare the scores with the true masks.

    The images of tars are streamed: they may be of several sizes, and their number is limited by nothing but their
    counts. If `threshold` is None, splits use the threshold with the largest pooled IoU_fg on the validation split.
    That threshold does not carry over to other data, so `urls` use the one that was chosen in the training of the
    checkpoint, and 0.5 where none was.

    Args:
        checkpoint: a folder, a hub id in the local cache, or a name such as `tinytown/regions-convnext`.
        split: `labelled`, `validation` or `sealed`; ignored if `urls` are given.
        urls: tars with `image.png` and `mask.png`.
        threshold: score from which a pixel is predicted.
        root: folder of the splits; None takes the shipped ones.
        reading: how to read the masks of `urls`.
        scoring: device, batch size and tiles; None takes the defaults.
        running: in this process or on a Ray cluster; None takes this process.
        out: a folder or URL for `figures.json`, `images.parquet` and the page `index.html`; None writes nothing.
        log: of openings of sealed images; None takes the one of this user, see `eval.sealed_log`.

    Raises:
        ArgumentError: tiles that are too small for the network.
        EvaluationError: data that cannot be evaluated.
        ModelError: a checkpoint that cannot be loaded, no GPU, or a batch that does not fit into memory.
        OutputError: `out` or the log cannot be written.
        BuildError: the cluster is missing or too small.
    """
    return evaluate_source(
        CheckpointScores(checkpoint, scoring or Scoring()),
        split=split,
        urls=urls,
        threshold=threshold,
        of_model=_threshold_of(checkpoint),
        root=root,
        reading=reading,
        running=running,
        gpu=scoring is not None and scoring.device == "cuda",
        out=out,
        log=log,
    )


def evaluate_maps(
    predictions: Sequence[str],
    *,
    missing: Missing = "error",
    resize: Resize | None = None,
    split: str = "validation",
    urls: Sequence[str] = (),
    threshold: float | None = None,
    reading: MaskReading | None = None,
    out: str | None = None,
    log: Path | None = None,
) -> Report:
    """`evaluate_checkpoint` for score maps that any detector has made.

    The threshold is that of the predictions, if they are outputs of `flawforge predict`, or else 0.5.

    Args:
        predictions, missing, resize: see `eval.predictions.predictions.Predictions`.
        split, urls, threshold, reading, out, log: see `evaluate_checkpoint`.
    """
    source = MapScores(predictions, missing=missing, resize=resize)
    return evaluate_source(
        source,
        split=split,
        urls=urls,
        threshold=threshold,
        of_model=source.threshold,
        reading=reading,
        out=out,
        log=log,
    )


def evaluate_source(
    source: ScoreSource,
    *,
    split: str = "validation",
    urls: Sequence[str] = (),
    threshold: float | None = None,
    of_model: float | None = None,
    root: Path | None = None,
    reading: MaskReading | None = None,
    running: Running | None = None,
    gpu: bool = False,
    out: str | None = None,
    log: Path | None = None,
) -> Report:
    """`evaluate_checkpoint` for scores from any source.

    Args:
        source: of the scores. One that does not score any image has no threshold from the validation split,
            and stays in this process, since only there all of its images pass by.
        of_model: the threshold that belongs to the source; None without one.
        gpu: each worker of a cluster has a GPU.
        split, urls, threshold, root, reading, running, out, log: see `evaluate_checkpoint`.
    """
    if out is not None:
        check_place(out)
    images = _images(split, urls, reading, root)
    model = source.fingerprint() if images.sealed else ""
    opening = _opened(images, model, log) if images.sealed else None
    _check_first(images)
    model = model or source.fingerprint()
    if running is None or not source.any_image:
        running = Running()
    chosen, origin = threshold, "given"
    if chosen is None and (images.split == "" or not source.any_image):
        chosen, origin = DEFAULT_THRESHOLD, "default"
        if of_model is not None:
            chosen, origin = of_model, "model" if source.any_image else "predictions"
    elif chosen is None:
        origin = "validation"
        if images.split != "validation":
            validation = Job(source, _images("validation", (), None, root).tars, CANDIDATES, MaskReading())
            chosen = _evaluated(validation, None, Running(), gpu).streamed.best_threshold()
    thresholds = CANDIDATES if chosen is None else (chosen,)
    job = Job(source, images.tars, thresholds, images.reading, rows=out is not None)
    with RowSpool() as spool:
        part = _evaluated(job, spool, running, gpu)
        if chosen is None:
            chosen = part.streamed.best_threshold()
        report = _report(source, model, images, part, chosen, origin, opening)
        if opening is not None:
            _log_figures(opening, report)
        if out is not None:
            versions = {"flawforge": our_version(), "assets": ASSETS_VERSION}
            place = job.thresholds.index(chosen)
            write_report(
                out, report, job, part.streamed, spool, place, versions=versions, show=not images.sealed
            )
    return report


def our_version() -> str:
    """The version of the installed package."""
    try:
        return version("flawforge")
    except PackageNotFoundError:
        return "(not installed)"


def _images(split: str, urls: Sequence[str], reading: MaskReading | None, root: Path | None) -> _Images:
    if urls:
        tars = tuple(tars_of(urls))
        name = " ".join(map(redact, urls))
        return _Images(name, "", tars, reading or MaskReading(), sealed_log.is_sealed(tars), {})
    folder = splits.split_folder(split, sealed_allowed=split == "sealed", root=root)
    return _Images(
        name=f"{split} of {splits.splits_version(root)}",
        split=split,
        tars=tuple(tars_of([folder])),
        reading=MaskReading(),
        sealed=split == "sealed",
        reference=reference_rows(split, root or splits.ROOT),
    )


def _opened(images: _Images, model: str, log: Path | None) -> sealed_log.Opening:
    about = {
        "command": "flawforge eval",
        "checkpoint": model,
        "flawforge": our_version(),
        "assets": ASSETS_VERSION,
    }
    return sealed_log.open_sealed(log or sealed_log.default_log(), data=images.name, about=about)


def _log_figures(opening: sealed_log.Opening, report: Report) -> None:
    found = report.evaluation
    figures = {
        "iou_fg": [found.iou_fg.value, found.iou_fg.low, found.iou_fg.high],
        "threshold": found.threshold,
        "images": found.images,
        "data_digest": report.data_digest,
    }
    opening.add_figures(figures)


def _check_first(images: _Images) -> None:
    """Reads one sample: data that cannot be read are reported before torch is loaded."""
    for tar in images.tars:
        if next(stream_tar(tar, reading=images.reading), None) is not None:
            return
    raise EvaluationError(f"{images.name}: no sample with {IMAGE} was found")


def _threshold_of(checkpoint: str) -> float | None:
    """What `flawforge train` chose for its checkpoint; a foreign folder may have another `metrics.json`."""
    from factory.store.storage import Storage
    from train.trained import PATH, read_trained

    if not (Path(checkpoint) / PATH).is_file():
        return None
    try:
        return read_trained(Storage(checkpoint)).threshold
    except OutputError:
        return None


def _evaluated(job: Job, spool: RowSpool | None, running: Running, gpu: bool) -> Part:
    """The whole job; its rows go to the spool."""
    alone = running.workers is None or (running.workers == 0 and len(job.tars) == 1)
    scorer = job.source.open() if alone else None
    if scorer is not None:
        parts: Iterable[Part] = (_part(tar, job, scorer) for tar in range(len(job.tars)))
    else:
        from eval.on_ray import parts_on_ray

        sent = replace(job, source=job.source.portable())
        parts = parts_on_ray(sent, workers=running.workers or None, gpu=gpu, address=running.address)
    total = Part(job.thresholds)
    for part in parts:
        if spool is not None:
            spool.add(part.rows)
        part.rows = []
        total.merge(part)
    if scorer is not None:
        total.notes = scorer.notes()
    return total


def _part(tar: int, job: Job, scorer: Scorer) -> Part:
    part = Part(job.thresholds)
    part.add_tar(tar, job, scorer)
    return part


def _report(
    source: ScoreSource,
    model: str,
    images: _Images,
    part: Part,
    threshold: float,
    origin: str,
    opening: sealed_log.Opening | None,
) -> Report:
    streamed = part.streamed
    found, free, blind = streamed.evaluation(threshold), streamed.threshold_free(), streamed.blind()
    own = {"iou_fg": found.iou_fg.value, "average_precision": free.average_precision.value}
    return Report(
        checkpoint=source.name,
        model=model,
        data=images.name,
        threshold_from=origin,
        evaluation=found,
        threshold_free=free,
        at_random=streamed.random_iou(threshold),
        notes=(*_notes(images, threshold, origin, opening), *part.notes, *notes_on_images(streamed)),
        data_digest=part.digest,
        objects=streamed.objects(threshold),
        human=streamed.human_scores(),
        blind=blind,
        reference=images.reference,
        gain=gains(own, blind, images.reference),
    )


def _notes(images: _Images, threshold: float, origin: str, opening: sealed_log.Opening | None) -> list[str]:
    notes = []
    if opening is not None:
        notes.append(
            f"sealed: for final figures only; this is opening {opening.number} of them in {opening.log}"
        )
    if origin == "validation":
        own = "; these are the same images, so the figures flatter" if images.split == "validation" else ""
        notes.append(f"threshold {threshold:g}: the largest pooled IoU_fg on the validation split{own}")
    elif origin == "default":
        notes.append(f"threshold {threshold:g}: the default for other data; --threshold sets another")
    elif origin == "predictions":
        notes.append(f"threshold {threshold:g}: that of the predictions; --threshold sets another")
    elif origin == "model":
        notes.append(
            f"threshold {threshold:g}: chosen in the training of this model; --threshold sets another"
        )
    else:
        notes.append(f"threshold {threshold:g}: as given")
    return notes
