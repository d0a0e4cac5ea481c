"""The stages of a prediction as Ray Data calls them: load images, mark artifacts, write shards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pyarrow as pa

from actors.batch import Sample
from actors.errors import Reject
from actors.images import decode, encode_image
from actors.stage_names import StageName
from eval.imports.shards import index_schema, write_imported
from eval.predict.identity import DETECTOR, context_of, open_images
from eval.predict.recipe import PredictRecipe
from eval.predict.samples import COLUMNS, members, predicted
from factory.output.identity import Identity, read_identity
from factory.output.plan import read_plan
from factory.output.schema import from_table
from factory.output.shards.images import LARGEST_SIDE
from factory.pipeline.admission import Admission, commit_of
from factory.pipeline.pipeline import Stages, run_stages
from factory.pipeline.shard_work import SampleStage, Work
from factory.pipeline.stages import LoadItems
from factory.run.metrics import Meter
from factory.store.storage import Storage


def run_prediction(
    recipe: PredictRecipe, url: str, identity: Identity, todo: Sequence[int], run: str = ""
) -> Iterator[int]:
    """Makes shards of predictions; see `factory.pipeline.pipeline.run_stages`.

    Args:
        recipe: with a threshold.
        url: the output.
        identity: of the prediction.
        todo: numbers of the shards.
        run: holds the lock of the output; see `factory.store.fence`.
    """
    stages: Stages = {
        StageName.LOAD: LoadImages,
        StageName.PREDICT: Predict,
        StageName.WRITE: WritePredictions,
    }
    return run_stages(stages, recipe.execution.pools, (recipe, url, identity, run), todo)


class LoadImages(LoadItems):
    """The images of a source at their own sizes."""

    def __init__(self, recipe: PredictRecipe, url: str, identity: Identity, run: str = "") -> None:
        super().__init__(context_of(recipe, url, identity, run), open_images(recipe), read_upright)


def read_upright(sample: Sample, image: bytes, mask: bytes | None) -> None:
    """Fills `sample.image` with the upright image as PNG, or rejects the sample."""
    try:
        found = decode(image).image
        if max(found.size) > LARGEST_SIDE:
            raise Reject(
                "too_large",
                f"{found.width} x {found.height} pixels; at most {LARGEST_SIDE} x {LARGEST_SIDE} are written: make it "
                "smaller",
            )
        sample.image = encode_image(found)
    except Reject as why:
        sample.reject(StageName.SELECT_IMAGE, why)


class Predict(SampleStage):
    """Marks the artifacts."""

    name = StageName.PREDICT
    roles = (DETECTOR,)

    def __init__(self, recipe: PredictRecipe, url: str, identity: Identity, run: str = "") -> None:
        self.context = context_of(recipe, url, identity, run)
        super().__init__(self.context)
        self.config = recipe.detector

    def make(self) -> Work:
        from actors.arithmetic import fix_arithmetic  # torch, which the other stages do without
        from actors.segmentation.marker import Marker
        from actors.segmentation.predictor import Predictor
        from actors.segmentation.segmenter import Segmenter, smallest_side

        config = self.config
        assert config.threshold is not None
        fix_arithmetic(config.threads)
        folder, revision = self.context.weights[DETECTOR]
        segmenter = Segmenter(
            folder,
            revision=commit_of(folder, self.context.identity.models[DETECTOR]) or revision,
            batch_size=config.batch_size,
            device=self.context.devices[DETECTOR],
            dtype=config.dtype,
        )
        scores = Predictor(
            segmenter,
            tile=config.tile,
            batch_size=config.batch_size,
            smallest=smallest_side(segmenter.net.config),
        )
        return Marker(scores, threshold=config.threshold, batch_size=config.batch_size)

    def work(self, samples: list[Sample]) -> list[Sample]:
        marked = super().work(samples)
        self.shard_work.items.add(self.name, len(marked))
        return marked


class WritePredictions:
    """Publishes a shard and returns its number."""

    name = StageName.WRITE

    def __init__(self, recipe: PredictRecipe, url: str, identity: Identity, run: str = "") -> None:
        self.storage = Storage(url, run=run)
        self.admit = Admission(context_of(recipe, url, identity, run), self.storage, self.name)
        self.plan = read_plan(self.storage)
        self.plan_sha256 = read_identity(self.storage)[1]
        self.recipe, self.identity = recipe, identity
        self.meter = Meter(self.name)

    def __call__(self, table: pa.Table) -> pa.Table:
        self.admit()
        began = time.monotonic()
        shard = from_table(table)
        references = self.plan.shard(shard.number)
        assert len(shard.samples) == len(references), f"shard {shard.number}: {len(shard.samples)} items"
        image, threshold = self.recipe.output.image == "keep", self.recipe.detector.threshold
        assert threshold is not None
        detector = self.identity.models[DETECTOR]
        sidecar = write_imported(
            self.storage,
            shard.number,
            [
                predicted(sample, reference, image=image, threshold=threshold, detector=detector)
                for sample, reference in zip(shard.samples, references, strict=True)
            ],
            schema=index_schema(members(image=image), COLUMNS),
            digest=self.identity.digest,
            plan_sha256=self.plan_sha256,
            seconds=shard.seconds,
            hardware=shard.hardware,
        )
        self.meter.worked(
            {"accepted": sidecar.accepted, "rejected": sidecar.rejected}, time.monotonic() - began
        )
        self.meter.wrote(sidecar)
        return pa.table({"shard": [shard.number]})
