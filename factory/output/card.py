"""The dataset card: README.md with Hugging Face front matter, from the same figures as the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from actors.batch import METRICS
from actors.corruption.config import CorruptionConfig
from actors.corruption.judge_config import JudgeConfig
from actors.foreign_text import code, markdown, one_line
from actors.models import TINYTOWN
from factory.output.identity import Identity
from factory.output.manifest import Progress
from factory.output.provenance import Part
from factory.output.schema import SCHEMA_VERSION
from factory.output.shards.further import JUDGED, Further
from factory.output.shards.records import MEMBERS
from factory.recipe.recipe import Recipe, content
from factory.recipe.strict_yaml import dump_yaml

PATH = "README.md"

_BODY = """\
# {name}

{what}, made by Flawforge. {accepted} samples in {done} of {shards} shards;
{rejected} of {planned} planned items were rejected{reasons}{skipped}.

{made}

| file of a sample | what it is |
|---|---|
| `KEY.image.png` | {image} |
| `KEY.mask.png` | {mask} |
| `KEY.changed.png` | where the image really changed, 1 bit |
{judged}{original}| `KEY.json` | caption, method, inversion steps, seed, attempts, figures of the verifier |

```python
import glob

import webdataset

samples = webdataset.WebDataset(sorted(glob.glob("shards/*.tar")), shardshuffle=False).decode("pil")
```

Every planned item has a row in `index/`, the rejected ones with stage, reason and a sentence. Schema version
{schema}; {digest}; weights: {models}. {hardware}{licence}
"""
_ONE = """\
Clean images from {source} were {how} (Menn, Liang and Marculescu, *Synthesizing Artifact Dataset for
Pixel-level Detection*). A sample is accepted when at least {inside:.0%} of its region and at most {outside:.0%} of the
rest changed, against {baseline}.{judge}"""
_ONE_CLEAN = """\
Clean negatives: images from {source} were {how}, as corrupted images are, but nothing in them was replaced. A sample is
accepted when at most {outside_exact} of it changed, against {baseline}."""
_JUDGE = """ Also, a judge ({model}) must find an artifact in {regions} of it that was
not there before."""
_JUDGED = "| `KEY.judged.png` | what changed and is an artifact to the judge, 1 bit{some} |\n"
_BASELINES = {
    "passage": "the image's own uncorrupted passage through the model",
    "autoencoder": "the image's own uncorrupted passage through the autoencoder",
    "original": "the clean image",
}
_SEVERAL = """\
Merged from these data sets; every sample's `recipe_digest` says which one it is from, and `identity.json` holds their
recipes (the method is that of Menn, Liang and Marculescu, *Synthesizing Artifact Dataset for Pixel-level Detection*):

| data set | shards | corruption | clean images | recipe digest |
|---|---|---|---|---|
{rows}"""
_OURS = "Licence: Apache-2.0, as the embedded world that they show and the weights that made them."
_THEIRS = (
    "Licences: those of the source images and of the models apply. Flawforge cannot know them: whoever publishes this "
    "sets `license` above."
)
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
_MOST_REASONS = 20
_TYPES = {
    **dict.fromkeys(("schema_version", "inference_steps", "inversion_steps", "seed", "attempts"), "int64"),
    **dict.fromkeys(("key", "source", "caption", "label", "method", "recipe_digest"), "string"),
    **dict.fromkeys(METRICS, "float64"),
    "verified": "bool",
}
"""Of the fields of every sample's JSON."""


def card_text(recipe: Recipe, identity: Identity, total: Progress) -> str:
    """The text of `README.md`."""
    baseline, clean = recipe.verify.baseline, _is_clean(content(recipe))
    if baseline == "passage" and recipe.corruption.target == "image":
        baseline = "autoencoder"
    made = (_ONE_CLEAN if clean else _ONE).format(
        source=", ".join(map(code, recipe.source.redacted().urls)) or code(recipe.source.kind),
        how=_how(recipe.corruption, clean=clean),
        baseline=_BASELINES[baseline],
        inside=recipe.verify.least_inside,
        outside=recipe.verify.most_outside,
        outside_exact=f"{100 * recipe.verify.most_outside:.3g}%",
        judge=_judge(recipe.verify.judge),
    )
    return _card(
        recipe.name,
        identity,
        total,
        made=made,
        digest=f"recipe digest `{identity.digest[:16]}`",
        original=recipe.output.original,
        ours=_is_ours(content(recipe)),
        clean=[clean],
        further=[Further.of(content(recipe))],
    )


def merged_card_text(identity: Identity, total: Progress, parts: Sequence[Part]) -> str:
    """The text of `README.md` of a merged output."""
    contents = [part.identity.content for part in parts]
    rows = [
        f"| {markdown(part.name)} | {part.shards} | {code(str(made_of['corruption']['method']))} with "
        f"{code(str(made_of['corruption']['model']))} | {_source(made_of)} | `{part.identity.digest[:16]}` |"
        for part, made_of in zip(parts, contents, strict=True)
    ]
    return _card(
        str(identity.content["name"]),
        identity,
        total,
        made=_SEVERAL.format(rows="\n".join(rows)),
        digest=f"digest of the whole `{identity.digest[:16]}`",
        original=any(made_of["output"]["original"] for made_of in contents),
        ours=all(map(_is_ours, contents)),
        clean=list(map(_is_clean, contents)),
        further=list(map(Further.of, contents)),
    )


def _card(
    name: str,
    identity: Identity,
    total: Progress,
    *,
    made: str,
    digest: str,
    original: bool,
    ours: bool,
    clean: Sequence[bool],
    further: Sequence[Further],
) -> str:
    judged = [one.judge for one in further]
    reasons = ", ".join(f"{markdown(reason)} {count}" for reason, count in total.reasons.items())
    skipped = _skipped(total.skipped)
    body = _BODY.format(
        name=markdown(name),
        **_words(clean),
        accepted=total.accepted,
        rejected=total.rejected,
        planned=total.planned,
        done=total.done,
        shards=total.shards,
        reasons=f" ({reasons})" if reasons else "",
        skipped=f"; passed over while listing the source: {skipped}" if skipped else "",
        made=made,
        judged=_JUDGED.format(some="" if all(judged) else "; of some of the data sets")
        if any(judged)
        else "",
        original="| `KEY.original.png` | the clean image |\n" if original else "",
        schema=SCHEMA_VERSION,
        digest=digest,
        models=", ".join(f"{markdown(role)} {code(pin)}" for role, pin in sorted(identity.models.items())),
        hardware="".join(
            f"Made on several classes of hardware, {markdown(line)}. " for line in total.mixtures
        ),
        licence=_OURS if ours else _THEIRS,
    )
    front = dump_yaml(_front_matter(name, total.accepted, original=original, ours=ours, further=further))
    return f"---\n{front}---\n\n{body}"


def _words(clean: Sequence[bool]) -> dict[str, str]:
    """What the images and masks are; `clean` states of each recipe whether it makes clean negatives."""
    if all(clean):
        return {
            "what": "Clean images that went through a diffusion model, with empty masks",
            "image": "the image that went through the model",
            "mask": "empty: no region was chosen",
        }
    also = any(clean)
    return {
        "what": "Images with injected artifacts and their masks" + (", and clean negatives" if also else ""),
        "image": "the image with artifacts" + (", or a clean negative" if also else ""),
        "mask": "the region asked for, 1 bit, white is inside"
        + ("; of a clean negative empty" if also else ""),
    }


def _front_matter(
    name: str, samples: int, *, original: bool, ours: bool, further: Sequence[Further]
) -> dict[str, Any]:
    """What the Hub's card schema knows, in its words.

    The features are declared because readers would else infer them from the first five samples.
    """
    without = {
        *(() if original else ("original.png",)),
        *(() if any(one.judge for one in further) else (JUDGED,)),
    }
    images = [member for member in MEMBERS if member not in (*without, "json")]
    types = {
        **_TYPES,
        **{name: "int64" for one in further for name in one.counts},
        **{name: "float64" for one in further for name in one.figures},
    }
    fields = [{"name": field, "dtype": dtype} for field, dtype in sorted(types.items())]
    return {
        "pretty_name": one_line(name),
        "license": "apache-2.0" if ours else "unknown",
        "annotations_creators": ["machine-generated"],
        "task_categories": ["image-segmentation"],
        "task_ids": ["semantic-segmentation"],
        "tags": ["artifact-detection", "synthetic", "webdataset"],
        "size_categories": [_size_category(samples)],
        "configs": [{"config_name": "default", "data_files": "shards/*.tar"}],
        "dataset_info": {
            "config_name": "default",
            "features": [
                *({"name": name, "dtype": "image"} for name in images),
                {"name": "json", "struct": fields},
                {"name": "__key__", "dtype": "string"},
                {"name": "__url__", "dtype": "string"},
            ],
            "splits": [{"name": "train", "num_examples": samples}],
        },
    }


def _skipped(counts: Mapping[str, int]) -> str:
    """Reasons by name; the most frequent ones only, since every extension of the source's files may be one."""
    most = dict(Counter(counts).most_common(_MOST_REASONS))
    shown = [f"{count} {markdown(reason)}" for reason, count in sorted(most.items())]
    rest = sum(counts.values()) - sum(most.values())
    return ", ".join([*shown, *([f"{rest} for {len(counts) - len(most)} other reasons"] if rest else [])])


def _is_ours(made_of: Mapping[str, Any]) -> bool:
    """Whether nothing of others is in the images."""
    return bool(made_of["source"]["kind"] == made_of["corruption"]["model"] == TINYTOWN)


def _is_clean(made_of: Mapping[str, Any]) -> bool:
    """Whether no region was chosen."""
    return bool(made_of["regions"]["kind"] == "none")


def _source(made_of: Mapping[str, Any]) -> str:
    return ", ".join(map(code, made_of["source"]["urls"])) or code(made_of["source"]["kind"])


def _how(corruption: CorruptionConfig, *, clean: bool) -> str:
    """What was done to the images of the source; nothing is corrupted for clean negatives."""
    model = f"with {code(corruption.model)}"
    corrupted = "" if clean else f", corrupted inside the region by the method {code(corruption.method)},"
    if corruption.target == "image":
        return f"encoded {model}{corrupted} and decoded"
    *first, last = map(str, corruption.steps)
    ladder = f"{', '.join(first)} or {last}" if first else last
    steps = f"{ladder} of {corruption.inference_steps} DDIM steps"
    return f"inverted for {steps} {model}{corrupted} and resampled"


def _judge(judge: JudgeConfig | None) -> str:
    if judge is None:
        return ""
    regions = "every connected part" if judge.every_region else "a connected part"
    return _JUDGE.format(model=code(judge.folder), regions=regions)


def _size_category(count: int) -> str:
    """The bucket that the Hub's card schema names."""
    bounds = (1_000 * 10**power for power in range(len(_SIZES)))
    return next((name for bound, name in zip(bounds, _SIZES, strict=True) if count < bound), "10B<n<100B")
