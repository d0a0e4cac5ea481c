"""The dataset card: README.md with Hugging Face front matter, from the same figures as the manifest."""

from __future__ import annotations

from factory.identity import Identity
from factory.manifest import Progress
from factory.recipe import Corruption, Recipe
from factory.schema import SCHEMA_VERSION
from factory.storage import Storage

_CARD = """\
---
pretty_name: {name}
task_categories:
- image-segmentation
tags:
- artifact-detection
- synthetic
- webdataset
size_categories:
- {size}
configs:
- config_name: default
  data_files: shards/*.tar
---

# {name}

Images with injected artifacts and their masks, made by Flawforge. {accepted} samples in {done} of {shards} shards;
{rejected} of {planned} planned items were rejected{reasons}{skipped}.

Clean images from `{source}` were {how} (Menn, Liang and Marculescu, *Synthesizing Artifact Dataset for
Pixel-level Detection*). A sample is accepted when at least {inside:.0%} of its region and at most {outside:.0%} of the
rest changed, against the image's own uncorrupted passage through the {baseline}.

| file of a sample | what it is |
|---|---|
| `KEY.image.png` | the image with artifacts |
| `KEY.mask.png` | the region asked for, 1 bit, white is inside |
| `KEY.changed.png` | where the image really changed, 1 bit |
{original}| `KEY.json` | caption, method, inversion steps, seed, attempts, figures of the verifier |

```python
import glob

import webdataset

samples = webdataset.WebDataset(sorted(glob.glob("shards/*.tar")), shardshuffle=False).decode("pil")
```

Every planned item has a row in `index/`, the rejected ones with stage, reason and a sentence. Schema version
{schema}; recipe digest `{digest}`; weights: {models}. Licences: those of the source images and of the models apply.
"""


def write_card(storage: Storage, recipe: Recipe, identity: Identity, total: Progress) -> None:
    """Writes `README.md` anew."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in total.reasons.items())
    skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(total.skipped.items()))
    alone = recipe.verify.baseline == "autoencoder" or recipe.corruption.target == "image"
    card = _CARD.format(
        name=recipe.name,
        size=_size_category(total.accepted),
        accepted=total.accepted,
        rejected=total.rejected,
        planned=total.planned,
        done=total.done,
        shards=total.shards,
        reasons=f" ({reasons})" if reasons else "",
        skipped=f"; passed over while listing the source: {skipped}" if skipped else "",
        source=", ".join(recipe.source.urls) or recipe.source.kind,
        how=_how(recipe.corruption),
        baseline="autoencoder" if alone else "model",
        inside=recipe.verify.least_inside,
        outside=recipe.verify.most_outside,
        original="| `KEY.original.png` | the clean image |\n" if recipe.output.original else "",
        schema=SCHEMA_VERSION,
        digest=identity.digest[:16],
        models=", ".join(f"{role} `{pin}`" for role, pin in sorted(identity.models.items())),
    )
    storage.replace("README.md", card.encode())


def _how(corruption: Corruption) -> str:
    """What was done to the clean images."""
    model, method = f"with `{corruption.model}`", f"inside the region by the method `{corruption.method}`"
    if corruption.target == "image":
        return f"encoded {model}, corrupted {method}, and decoded"
    *first, last = map(str, corruption.steps)
    ladder = f"{', '.join(first)} or {last}" if first else last
    steps = f"{ladder} of {corruption.inference_steps} DDIM steps"
    return f"inverted for {steps} {model}, corrupted {method}, and resampled"


def _size_category(count: int) -> str:
    """The bucket that Hugging Face's card schema names."""
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for bound, name in bounds if count < bound), "1M<n<10M")
