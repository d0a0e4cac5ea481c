"""The outputs that are built and compared, each as the commands that make it.

A command is the arguments of `python -m flawforge`. In them `{recipes}` stands for the folder of the recipes here,
`{inputs}` for that of the source images, `{root}` for the folder of all outputs, `{out}` for the output of the case,
and `{address}` for that of the Ray cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

METHODS = ("noise", "gaussian", "blur", "rotate", "downscale", "none")

Command = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """An output.

    Attributes:
        name: of its folder.
        commands: that make it, in order.
        needs: cases that its commands read.
        copy_of: a case whose output is copied before the commands run.
    """

    name: str
    commands: tuple[Command, ...]
    needs: tuple[str, ...] = ()
    copy_of: str = ""

    @property
    def before(self) -> tuple[str, ...]:
        """Cases that must be built first."""
        return (*self.needs, self.copy_of) if self.copy_of else self.needs


def _build(recipe: str, *settings: str, mode: str = "") -> Command:
    """`flawforge build` of a shipped recipe, or of `{recipes}/RECIPE.yaml`."""
    file = recipe if recipe == "quickstart" else f"{{recipes}}/{recipe}.yaml"
    source = [] if recipe in ("quickstart", "scenes") else [f"source.urls=[{{inputs}}/{recipe}]"]
    options = [part for setting in (*source, *settings) for part in ("--set", setting)]
    mode_option = ("--mode", mode) if mode else ()
    return ("build", file, "--out", "{out}", *options, *mode_option, "--address", "{address}")


def _scenes(name: str, *settings: str) -> Case:
    return Case(name, (_build("scenes", *settings),))


def _merge(name: str, *needs: str, options: Command = ()) -> Case:
    return Case(name, (("merge", "{out}", *(f"{{root}}/{need}" for need in needs), *options),), needs)


CASES = (
    Case("quickstart", (_build("quickstart", "source.limit=96"),)),
    Case("images", (_build("images"),)),
    Case("webdataset", (_build("webdataset"),)),
    Case("parquet", (_build("parquet"),)),
    # Without corruption nothing changes, so refused draws are kept: otherwise there would be no images to compare.
    *(
        _scenes(f"method-{method}", f"corruption.method={method}", "verify.on_failure=keep")
        for method in METHODS
    ),
    _scenes("target-image", "corruption.target=image", "verify.on_failure=keep"),
    _scenes("inversion-fast", "corruption.inversion={mode: fast, extra: 1}"),
    _scenes("inversion-renoise", "corruption.inversion={mode: renoise, iterations: 3}"),
    _scenes("inversion-published", "corruption.inversion={mode: published, iterations: 3}"),
    _scenes(
        "inversion-plain", "corruption.inversion={mode: renoise, averaging: false, regularisation: false}"
    ),
    _scenes("inversion-ddim", "corruption.inversion={mode: renoise, iterations: 0}"),
    _scenes("baseline-autoencoder", "verify.baseline=autoencoder"),
    _scenes("deeper", "verify.least_inside=0.4", "corruption.deeper=[7, 9]", "verify.attempts=2"),
    _scenes("guidance", "corruption.prompt=caption", "corruption.guidance_scale=3.0"),
    _scenes("keep", "verify.on_failure=keep", "verify.least_inside=0.5", "verify.attempts=2"),
    _scenes("half-precision", "corruption.dtype=bfloat16", "corruption.vae_batch_size=2"),
    _scenes(
        "detector",
        "source.parts=[]",
        "source.limit=12",
        "selection.detector=tinytown/regions-convnext",
        "selection.largest_artifact_area=0.125",
        "regions={kind: segmenter, checkpoint: tinytown/regions-swin, threshold: 0.3, batch_size: 4}",
    ),
    Case(
        "extended",
        (
            _build("scenes", "source.limit=4", "output.samples_per_shard=3"),
            _build("scenes", "source.limit=8", "output.samples_per_shard=3", mode="extend"),
        ),
    ),
    Case(
        "again",
        (
            _build("scenes", "source.limit=4"),
            _build("scenes", "source.limit=4", "corruption.method=rotate", "verify.margin=3", mode="again"),
        ),
    ),
    Case(
        "retried",
        (
            _build("scenes", "source.first_seed=710000", "verify.least_inside=0.4"),
            (
                "retry-rejects",
                "{out}",
                "--reason",
                "unchanged",
                "--set",
                "verify.least_inside=0.02",
                "--address",
                "{address}",
            ),
        ),
    ),
    Case(
        "scanned",
        (
            ("scan", *_build("images", "output.samples_per_shard=4")[1:-2]),
            _build("images", "output.samples_per_shard=4"),
        ),
    ),
    _merge("merged", "images", "webdataset"),
    _merge("merged-again", "merged", "retried"),
    _merge("merged-first", "method-noise", "extended", options=("--duplicates", "first", "--name", "first")),
    Case("split-shards", (("split", "{out}", "--val", "0.3"),), copy_of="extended"),
    Case("split-keys", (("split", "{out}", "--val", "0.3", "--by", "key"),), copy_of="extended"),
)
"""In an order in which every case follows those that it needs."""


def with_needed(names: list[str]) -> list[Case]:
    """The named cases and all that they need, in the order of `CASES`; every case where no name is given.

    Raises:
        ValueError: an unknown name.
    """
    by_name = {case.name: case for case in CASES}
    if unknown := [name for name in names if name not in by_name]:
        raise ValueError(f"no case {', '.join(unknown)}; there are {', '.join(by_name)}")
    wanted = set(names or by_name)
    for case in reversed(CASES):
        if case.name in wanted:
            wanted.update(case.before)
    return [case for case in CASES if case.name in wanted]
