"""The dataset card: README.md with Hugging Face front matter, from the same figures as the manifest."""

from __future__ import annotations

from factory.identity import Identity
from factory.manifest import Progress
from factory.recipe import Recipe
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

Clean images from `{source}` were inverted for {inversion} of {inference} DDIM steps with `{model}`, corrupted inside
the region by the method `{method}`, and resampled (Menn, Liang and Marculescu, *Synthesizing Artifact Dataset for
Pixel-level Detection*). A sample is accepted when at least {inside:.0%} of its region and at most {outside:.0%} of the
rest changed, against the image's own uncorrupted passage through the model.

| file of a sample | what it is |
|---|---|
| `KEY.image.png` | the image with artifacts |
| `KEY.mask.png` | the region asked for, 1 bit, white is inside |
| `KEY.changed.png` | where the image really changed, 1 bit |
{original}| `KEY.json` | caption, method, seed, attempts, figures of the verifier |

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
        inversion=recipe.corruption.inversion_steps,
        inference=recipe.corruption.inference_steps,
        model=recipe.corruption.model,
        method=recipe.corruption.method,
        inside=recipe.verify.least_inside,
        outside=recipe.verify.most_outside,
        original="| `KEY.original.png` | the clean image |\n" if recipe.output.original else "",
        schema=SCHEMA_VERSION,
        digest=identity.digest[:16],
        models=", ".join(f"{role} `{pin}`" for role, pin in sorted(identity.models.items())),
    )
    storage.replace("README.md", card.encode())


def _size_category(count: int) -> str:
    """The bucket that Hugging Face's card schema names."""
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for bound, name in bounds if count < bound), "1M<n<10M")
