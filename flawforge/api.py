"""The Python API. The commands of the same names call these functions, so that both do the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import product
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from actors.errors import ArgumentError
from factory.recipe.parsing import parse
from factory.recipe.recipe import Recipe, load_recipe, parse_recipe
from factory.recipe.strict_yaml import dump_yaml

if TYPE_CHECKING:
    from factory.maintain.verify import Verdict
    from factory.output.manifest import Progress
    from factory.run.tally import Tally
    from flawforge.evaluation import Report
    from flawforge.trials import Preview
    from train.progress import Progress as TrainingProgress
    from train.recipe import TrainingRecipe
    from train.trained import Trained

RecipeLike = Recipe | str | PathLike[str]
"""What `load_recipe` returns, the path of a YAML file, or the name of a shipped recipe."""

ModeName = Literal["resume", "extend", "again", "overwrite"]

log = logging.getLogger(__name__)


def build(
    recipe: RecipeLike,
    out: str | PathLike[str],
    *,
    overrides: Sequence[str] = (),
    address: str = "local",
    mode: ModeName = "resume",
    take_over: bool = False,
    show: Callable[[Tally], None] = lambda tally: None,
    tell: Callable[[str], None] = log.warning,
) -> Progress:
    """Make a dataset, finish one that was stopped, or extend it, and write its gallery page.

    A Ray cluster that was started for the build (`address="local"`) keeps running in this process, and the next build
    uses it; `ray.shutdown()` stops it.

    Example:
        >>> import flawforge
        >>> total = flawforge.build("quickstart", "out/small", overrides=["source.limit=8"])
        >>> total.accepted + total.rejected == total.planned
        True

    Args:
        recipe: a path, the name of a shipped recipe, or what `load_recipe` returns.
        out: the output, a folder or an fsspec URL such as `s3://bucket/folder`.
        overrides: changes of the recipe, such as `source.limit=16`.
        address: a Ray cluster; `local` starts one on this machine, `auto` joins the one that is running.
        mode: `resume` makes the shards that are missing; `extend` adds the items that the source has beyond the plan;
            `again` adds all items once more, by this recipe; `overwrite` deletes the output first.
        take_over: build even if another run seems to be active on the output.
        show: called with the current counts at the start and after every shard.
        tell: called with a message when the build waits for something or skips something.

    Returns:
        Counts of the whole output. Compare `rejected / planned` with `recipe.limits.rejects` where that matters.

    Raises:
        ArgumentError: an unknown mode.
        RecipeError: the recipe cannot be read or is wrong.
        OutputError: the output belongs to another recipe, or cannot be written.
        BuildError: the run stopped before the plan was done; the same call continues it.
    """
    if mode not in get_args(ModeName):
        raise ArgumentError("mode", f"allowed: {', '.join(get_args(ModeName))}")
    loaded, url = resolve_recipe(recipe, overrides), str(out)
    from eval.gallery import write_gallery
    from factory.build import Mode
    from factory.build import build as run
    from factory.store.storage import Storage

    total = run(loaded, url, mode=Mode(mode), take_over=take_over, address=address, show=show, tell=tell)
    write_gallery(Storage(url), loaded.name)
    return total


def preview(
    recipe: RecipeLike,
    n: int = 16,
    *,
    k: Sequence[int | str] = (),
    thresholds: Sequence[float | str] = (),
    page: str | PathLike[str] = "preview.html",
    overrides: Sequence[str] = (),
) -> Preview:
    """Run a few items through every stage in this process, without Ray, and write a page that shows them.

    Example:
        >>> import flawforge
        >>> tried = flawforge.preview("quickstart", n=4, k=[5, 20], page="out/preview.html")
        >>> [trial.inversion_steps for trial in tried.trials]
        [5, 20]

    Args:
        recipe: a path, the name of a shipped recipe, or what `load_recipe` returns.
        n: items to try, the first of the source.
        k: inversion steps to try, each with `corruption.deeper` empty; empty takes the recipe's.
        thresholds: region thresholds to try; empty takes the recipe's.
        page: the HTML file to write; its folder is created.
        overrides: changes of the recipe, such as `verify.attempts=4`.

    Returns:
        Accepted and rejected items and seconds per item, for every choice of k and threshold.

    Raises:
        ArgumentError: n is less than 1.
        RecipeError: the recipe, or a value of `k` or `thresholds`, is wrong.
        SourceError: the source has no items, or cannot be read.
        ModelError: weights are missing, or the recipe requires a GPU and torch finds none.
    """
    if n < 1:
        raise ArgumentError("n", f"found {n}; allowed: at least 1")
    from flawforge.trials import run_trials

    steps = [f"corruption.inversion_steps={one}" for one in k]
    levels = [f"regions.threshold={one}" for one in thresholds]
    fixed = ["corruption.deeper=[]"] if steps else []
    choices = [[*fixed, *filter(None, pair)] for pair in product(levels or [""], steps or [""])]
    recipes = [resolve_recipe(recipe, [*overrides, *choice]) for choice in choices]
    return run_trials(recipes, n, Path(page))


def verify(url: str | PathLike[str], *, address: str | None = None) -> Verdict:
    """Check every shard of an output against its plan, index and sidecar.

    Example:
        >>> import flawforge
        >>> verdict = flawforge.verify("out/small")
        >>> verdict.sound, verdict.problems
        (True, ())

    Args:
        url: the output, a folder or an fsspec URL.
        address: a Ray cluster whose workers check the shards; None checks them on threads of this process.

    Returns:
        Counts, problems and notes; `sound` is True where everything is right.

    Raises:
        OutputError: plan or identity are missing or damaged.
        BuildError: there is no such cluster, or its workers cannot read the output.
    """
    from factory.maintain.verify import verify as check
    from factory.maintain.verify_on_ray import CheckOnRay
    from factory.output.identity import PATH as IDENTITY
    from factory.output.identity import read_identity
    from factory.output.provenance import is_import
    from factory.store.storage import Storage

    storage = Storage(str(url))
    if storage.exists(IDENTITY) and is_import(read_identity(storage)[0]):
        from eval.imports.verify import check_imported_shard, verify_import

        on_ray = None if address is None else CheckOnRay(address, check_imported_shard)
        return verify_import(storage, check_shards=on_ray)
    return check(storage) if address is None else check(storage, check_shards=CheckOnRay(address))


def evaluate(
    checkpoint: str | PathLike[str] | None = None,
    *,
    predictions: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    missing: Literal["error", "zero", "skip"] = "error",
    resize: Literal["bilinear"] | None = None,
    split: str | None = None,
    data: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    threshold: float | None = None,
    ignore_index: int | None = None,
    alpha: Literal["refuse", "opaque", "transparent", "ignore"] = "refuse",
    mask_orientation: Literal["stored", "displayed"] | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    batch_size: int = 8,
    tile: int | None = None,
    workers: int | str | None = None,
    address: str = "local",
    out: str | PathLike[str] | None = None,
    log: str | PathLike[str] | None = None,
) -> Report:
    """Compare a segmenter's scores, or the score maps of any detector, with true masks; intervals are over images.

    The images of `data` are streamed: their number does not matter to memory, and they may be of several sizes.

    Example:
        >>> import flawforge
        >>> report = flawforge.evaluate("tinytown/regions-convnext", data="out/small/shards/000000.tar")
        >>> 0 <= report.evaluation.iou_fg.low <= report.evaluation.iou_fg.high <= 1
        True

    Args:
        checkpoint: a folder, a hub id in the local cache, or a shipped one such as `tinytown/regions-convnext`.
        predictions: score maps instead of a checkpoint: outputs of `flawforge predict`, tars or folders, see
            docs/predicting.md. They are found by the keys of the images.
        missing: what to do with an image that has no map: an error, score it `zero` everywhere, or `skip` it.
        resize: how to treat maps of another size than their image; None refuses them.
        split: of tinytown: `validation` (the default), `labelled`, or `sealed`, which is for final figures only.
        data: one or more tars with `image.png` (or `image.webp`) and `mask.png`, instead of a split. `objects.png`
            and an `artifact_score` in `json` are used where samples have them.
        threshold: score from which a pixel is predicted, 0 to 1. None takes the best one on the validation split; for
            `data` the one that was chosen when the checkpoint was trained, and for predictions that of their masks, or
            else 0.5.
        ignore_index: level of the masks of `data` that is left out of all measures, such as 255.
        alpha: where masks of `data` with transparency are true: where they are `opaque` or `transparent`; `ignore`
            reads the colours alone; `refuse` raises an error.
        mask_orientation: whether the masks of `data` fit their images as `stored` or as `displayed`, where an image has
            an EXIF orientation.
        device: where the network runs.
        batch_size: images in one step of the network; rows that are missing are filled up, so where most images have
            sizes of their own, 1 is fastest.
        tile: side in pixels of the overlapping tiles in which larger images are scored; None scores them whole.
        workers: scorers on a Ray cluster, each of which takes one tar at a time; `auto` takes as many as it has room
            for, and scores a single tar here. None scores in this process, without Ray. The figures are the same.
        address: of the cluster; `local` starts one on this machine, `auto` joins the one that is running.
        out: a folder or an fsspec URL for `figures.json`, `images.parquet` with a row per image, and the page
            `index.html`; None writes nothing.
        log: file that gets two lines for every opening of sealed images; None takes the one of this user, see
            `eval.sealed_log`.

    Returns:
        The measures with their intervals, the threshold, and notes needed to interpret them.

    Raises:
        ArgumentError: a value that is not allowed, or arguments that exclude each other.
        EvaluationError: data that cannot be evaluated.
        SourceError: data that cannot be read.
        ModelError: a checkpoint that cannot be loaded, no GPU, or a batch that does not fit into memory.
        OutputError: `out`, or the log of sealed openings, cannot be written.
        BuildError: the cluster is missing or too small.
    """
    urls, maps = _each(data), _each(predictions)
    _check_evaluation(split, urls, threshold, device, batch_size)
    if (checkpoint is None) == (not maps):
        raise ArgumentError("checkpoint", "give a checkpoint or predictions, one of the two")
    from actors.masks import MaskReading

    reading = MaskReading(ignore_index, alpha, mask_orientation)
    if reading != MaskReading() and not urls:
        raise ArgumentError("data", "the masks of a split need no settings; give data")
    scorers = _scorers(workers)
    from flawforge.evaluation import Running, Scoring, evaluate_checkpoint, evaluate_maps

    if maps:
        if workers is not None:
            raise ArgumentError("workers", "maps are compared in this process; leave it out")
        return evaluate_maps(
            maps,
            missing=missing,
            resize=resize,
            split=split or "validation",
            urls=urls,
            threshold=threshold,
            reading=reading,
            out=None if out is None else str(out),
            log=None if log is None else Path(log),
        )
    return evaluate_checkpoint(
        str(checkpoint),
        split=split or "validation",
        urls=urls,
        threshold=threshold,
        reading=reading,
        scoring=Scoring(device, batch_size, tile),
        running=Running(scorers, address),
        out=None if out is None else str(out),
        log=None if log is None else Path(log),
    )


def _each(places: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[str]:
    return [str(places)] if isinstance(places, str | PathLike) else [str(one) for one in places]


def _scorers(workers: int | str | None) -> int | None:
    """As `flawforge.evaluation.Running` has it: 0 for `auto`."""
    if workers is None or workers == "auto":
        return None if workers is None else 0
    if not str(workers).isdecimal() or int(workers) < 1:
        raise ArgumentError("workers", f"found {workers}; allowed: auto, or a number from 1 on")
    return int(workers)


def _check_evaluation(
    split: str | None, urls: Sequence[str], threshold: float | None, device: str, batch_size: int
) -> None:
    if split and urls:
        raise ArgumentError("split", "give split or data, not both")
    splits = ("labelled", "validation", "sealed")
    if split is not None and split not in splits:
        raise ArgumentError("split", f"allowed: {', '.join(splits)}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ArgumentError("threshold", f"found {threshold}; allowed: 0 to 1")
    if device not in ("cpu", "cuda"):
        raise ArgumentError("device", f"found {device!r}; allowed: cpu, cuda")
    if batch_size < 1:
        raise ArgumentError("batch_size", f"found {batch_size}; allowed: at least 1")


def train(
    recipe: TrainingRecipe | str | PathLike[str],
    out: str | PathLike[str],
    *,
    data: str | Sequence[str] = (),
    workers: int | str | None = None,
    overrides: Sequence[str] = (),
    address: str = "local",
    mode: Literal["resume", "overwrite"] = "resume",
    take_over: bool = False,
    show: Callable[[TrainingProgress], None] = lambda progress: None,
    tell: Callable[[str], None] = log.warning,
) -> Trained:
    """Train a region selector or a detector on shards with Ray Train, or continue a training that was stopped.

    Example:
        >>> import flawforge
        >>> trained = flawforge.train(
        ...     "train-tinytown-detector", "out/detector", data="out/small", overrides=["iterations=60"]
        ... )
        >>> trained.steps
        60

    Args:
        recipe: a path, the name of a shipped training recipe, or what `load_training` returns.
        out: the output, a folder or an fsspec URL that all workers can reach.
        data: `NAME=URL` of data sets of the recipe, or one URL where the recipe has one data set.
        workers: processes that train, instead of `execution.workers`; `"2,8"` for an elastic training.
        overrides: changes of the recipe, such as `iterations=1000`.
        address: a Ray cluster; `local` starts one on this machine, `auto` joins the one that is running.
        mode: `resume` continues the training; `overwrite` deletes another one in the output first.
        take_over: train even if another run seems to be active on the output.
        show: called with the progress about once a second.
        tell: called with a message when the training waits for something or goes on after a loss.

    Returns:
        The figures of the trained model. Its folder opens in transformers, `evaluate` and `load_reward`.

    Raises:
        ArgumentError: a value of `workers` or `mode` that is not allowed.
        RecipeError: the recipe cannot be read or is wrong, a data set has no URL, or a tracker is not installed.
        SourceError: data that cannot be read.
        TrainingError: data, loss or settings do not allow the training.
        OutputError: the output belongs to another training, or cannot be written.
        BuildError: the cluster is too small, or workers were lost too often; the same call continues.
    """
    from train.recipe import TrainingRecipe, load_training, with_data
    from train.run import train as run

    if mode not in ("resume", "overwrite"):
        raise ArgumentError("mode", "allowed: resume, overwrite")
    changes = list(overrides)
    if workers is not None:
        parts = str(workers).split(",")
        if len(parts) > 2 or not all(part.strip().isdigit() for part in parts):
            raise ArgumentError("workers", f"found {workers}; allowed: a number, or two such as 2,8")
        changes.append(
            f"execution.workers={workers}" if len(parts) == 1 else f"execution.workers=[{workers}]"
        )
    if isinstance(recipe, TrainingRecipe):
        recipe = parse(TrainingRecipe, dump_yaml(recipe.model_dump(mode="json")), recipe.name, changes)
    else:
        recipe = load_training(str(recipe), changes)
    loaded = with_data(recipe, [data] if isinstance(data, str) else list(data))
    return run(
        loaded,
        str(out),
        address=address,
        overwrite=mode == "overwrite",
        take_over=take_over,
        show=show,
        tell=tell,
    )


def resolve_recipe(recipe: RecipeLike, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe for any value that the API accepts, with overrides such as `seed=1`.

    Raises:
        RecipeError: the recipe cannot be read, or is wrong.
    """
    if not isinstance(recipe, Recipe):
        return load_recipe(str(recipe), overrides)
    if not overrides:
        return recipe
    return parse_recipe(dump_yaml(recipe.model_dump(mode="json")), recipe.name, overrides)
