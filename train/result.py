"""The result of a training: a folder that opens in transformers, with its figures and a model card."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import ModelCard, ModelCardData
from transformers import UperNetForSemanticSegmentation

from actors.errors import OutputError
from actors.foreign_text import code, markdown
from actors.segmentation.normalisation import Normalisation
from factory.store.storage import Storage
from train import checkpoint
from train.checkpoint import State
from train.identity import TrainingIdentity
from train.recipe import TrainingRecipe
from train.segmenter import starting_point
from train.trained import PATH, Trained

LOG = "log.jsonl"
SAMPLES = "samples.jsonl"
CARD = "README.md"

_CARD = """\
# {name}

{what}, trained by Flawforge: {steps} steps of {batch} images from {data}. Class 1 is the artifact.{scores}

| data set | samples | label | weight | digest |
|---|---|---|---|---|
{rows}

It began with the weights {checkpoint}. `training.json` has all settings and digests, `recipe.yaml` the recipe,
`log.jsonl` the loss of every step.

```python
from transformers import AutoImageProcessor, UperNetForSemanticSegmentation

processor = AutoImageProcessor.from_pretrained(FOLDER)
net = UperNetForSemanticSegmentation.from_pretrained(FOLDER)
scores = net(**processor(images, return_tensors="pt")).logits.softmax(1)[:, 1]
```
"""


def write_result(storage: Storage, recipe: TrainingRecipe, identity: TrainingIdentity) -> None:
    """Write the model of the best checkpoint (of the last one without a validation), and everything about it.

    Raises:
        OutputError: a checkpoint is damaged, or the output cannot be written.
    """
    last = checkpoint.read_state(storage, checkpoint.steps_of(storage)[-1])
    chosen = checkpoint.read_state(storage, last.best.step) if last.best else last
    net, normalisation, new = starting_point(recipe.model, seed=recipe.seed)
    try:
        net.load_state_dict(_weights(storage, chosen, averaged=recipe.ema is not None))
    except RuntimeError as error:
        raise OutputError(
            f"{storage.url}: the checkpoint of step {chosen.step:,} does not fit the network of the recipe: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    lines = checkpoint.read_lines(storage, last.log)
    storage.settle(LOG, lines)
    log = [json.loads(line) for line in lines.splitlines()]
    if last.samples:
        storage.settle(SAMPLES, checkpoint.read_lines(storage, last.samples))
    trained = Trained(
        step=chosen.step,
        steps=last.step,
        threshold=last.best.threshold if last.best else None,
        validation=last.best.figures if last.best else None,
        loss=float(np.mean([line["loss"] for line in log[-max(1, len(log) // 10) :]])),
        seconds=sum(line["seconds"] for line in log),
        waited=sum(line["waited"] for line in log),
        skipped=last.skipped,
        new_weights=new,
        digest=identity.digest,
    )
    with tempfile.TemporaryDirectory() as folder:
        save(net, normalisation, Path(folder))
        for file in sorted(Path(folder).iterdir()):
            storage.settle(file.name, file)
    storage.settle(CARD, card(recipe, identity, trained).encode())
    storage.settle(PATH, trained.model_dump_json(indent=1).encode())


def save(net: UperNetForSemanticSegmentation, normalisation: Normalisation, folder: Path) -> None:
    """Write a folder as transformers does: safetensors in float32, and how pixels are normalised."""
    net.float().save_pretrained(folder)
    preprocessor = {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": False,
        "do_rescale": True,
        "rescale_factor": 1 / normalisation.divisor,
        "do_normalize": True,
        "image_mean": list(normalisation.mean),
        "image_std": list(normalisation.std),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")


def card(recipe: TrainingRecipe, identity: TrainingIdentity, trained: Trained) -> str:
    """The model card, with the front matter of the Hugging Face hub."""
    data = ModelCardData(
        language=None,
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=["flawforge", "image-artifacts", recipe.kind],
        model_name=recipe.name,
    )
    what = {"regions": "A region selector", "detector": "An artifact detector"}[recipe.kind]
    scores = ""
    if trained.validation is not None:
        scores = (
            f" On the validation images its pooled IoU_fg is {trained.validation['iou_fg']:.1%} at the threshold "
            f"{trained.threshold:.2f}, which was chosen there."
        )
    weights = {one.name: one.weight for one in recipe.data}
    rows = "\n".join(
        f"| {markdown(one.name)} | {one.samples:,} | {one.label} | {weights[one.name]:g} | {code(one.digest[:16])} |"
        for one in identity.data
    )
    body = _CARD.format(
        name=markdown(recipe.name),
        what=what,
        steps=f"{trained.step:,}",
        batch=recipe.batch,
        data=" and ".join(markdown(one.url) for one in identity.data),
        scores=scores,
        rows=rows,
        checkpoint=code(identity.checkpoint),
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _weights(storage: Storage, state: State, *, averaged: bool) -> dict[str, Any]:
    """The UperNet's own tensors of a checkpoint."""
    tensors = checkpoint.read_tensors(storage, state, "ema" if averaged else "model")
    prefix = "module.net." if averaged else "net."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
