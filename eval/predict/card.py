"""The dataset card of a prediction: what marked which images, and the files of a sample."""

from __future__ import annotations

from typing import Any

from actors.foreign_text import code, markdown, one_line
from eval.imports.card import counted
from eval.imports.labelled_set import IMAGE, MASK
from eval.predict.identity import DETECTOR
from eval.predict.recipe import PredictRecipe, published
from eval.predict.samples import MAP
from factory.output.identity import Identity
from factory.output.manifest import Progress
from factory.output.schema import SCHEMA_VERSION
from factory.recipe.strict_yaml import dump_yaml

_BODY = """\
# {name}

Artifacts that a detector has marked, by Flawforge: no person has checked them. {accepted} images in {done} of {shards}
shards; {rejected} of {planned} planned images were rejected{reasons}{skipped}.

Images from {source}; detector {detector}; threshold {threshold:g}. {mixed}

| file of a sample | what it is |
|---|---|
{files}
| `KEY.json` | name in the source, caption, mean and largest score, marked area, regions, threshold, detector |

Every planned image has a row in `index/` with the same figures, the rejected ones with reason and a sentence. Schema
version {schema}; digest `{digest}`. Licences: those of the images and of the detector apply.
"""
_FILES = {
    IMAGE: "the image",
    MAP: "score map, 16-bit grey: level / 65535 is the probability of an artifact",
    MASK: "where the score is at least the threshold, 1 bit, white is inside",
}


def card_text(recipe: PredictRecipe, identity: Identity, total: Progress) -> str:
    """The text of `README.md`; the recipe has a threshold."""
    files = {name: words for name, words in _FILES.items() if name != IMAGE or recipe.output.image == "keep"}
    mixed = "".join(f"Made on several classes of hardware, {markdown(line)}. " for line in total.mixtures)
    body = _BODY.format(
        name=markdown(recipe.name),
        accepted=total.accepted,
        done=total.done,
        shards=total.shards,
        rejected=total.rejected,
        planned=total.planned,
        reasons=counted(" (", total.reasons, ")"),
        skipped=counted("; passed over while listing: ", total.skipped, ""),
        source=", ".join(map(code, published(recipe).source.urls)) or code(recipe.source.kind),
        detector=code(identity.models[DETECTOR]),
        threshold=recipe.detector.threshold,
        mixed=mixed,
        files="\n".join(f"| `KEY.{name}` | {words} |" for name, words in files.items()),
        schema=SCHEMA_VERSION,
        digest=identity.digest[:16],
    )
    return f"---\n{dump_yaml(_front_matter(recipe))}---\n\n{body}"


def _front_matter(recipe: PredictRecipe) -> dict[str, Any]:
    return {
        "pretty_name": one_line(recipe.name),
        "license": "unknown",
        "annotations_creators": ["machine-generated"],
        "task_categories": ["image-segmentation"],
        "tags": ["artifact-detection", "webdataset"],
        "configs": [{"config_name": "default", "data_files": "shards/*.tar"}],
    }
