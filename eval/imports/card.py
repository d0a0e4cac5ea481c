"""The dataset card of an imported set: its figures, the files of a sample, and how it was labelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.foreign_text import code, markdown, one_line
from eval.imports.labelled_set import JSON, LabelledSet
from factory.output.identity import Identity
from factory.output.manifest import Progress
from factory.output.schema import SCHEMA_VERSION
from factory.recipe.strict_yaml import dump_yaml

_BODY = """\
# {name}

Images with human labels, imported by Flawforge. {accepted} samples in {done} of {shards} shards; {rejected} of
{planned} planned items were rejected{reasons}{skipped}.

{about}

| file of a sample | what it is |
|---|---|
{files}
| `KEY.json` | caption and the fields of the set |

| count | |
|---|---|
{figures}

Settings: {settings}.

Every planned item has a row in `index/`, the rejected ones with reason and a sentence. Schema version {schema}; digest
`{digest}`.
"""


def card_text(labelled: LabelledSet, identity: Identity, total: Progress, figures: Mapping[str, int]) -> str:
    """The text of `README.md`."""
    body = _BODY.format(
        name=markdown(labelled.name),
        accepted=total.accepted,
        done=total.done,
        shards=total.shards,
        rejected=total.rejected,
        planned=total.planned,
        reasons=counted(" (", total.reasons, ")"),
        skipped=counted("; passed over while listing: ", total.skipped, ""),
        about=labelled.about,
        files="\n".join(f"| `KEY.{extension}` | {words} |" for extension, words in labelled.contents.items()),
        figures="\n".join(f"| {markdown(name)} | {count} |" for name, count in figures.items()),
        settings=", ".join(
            f"{markdown(name)} {code(str(value))}" for name, value in labelled.settings.items()
        ),
        schema=SCHEMA_VERSION,
        digest=identity.digest[:16],
    )
    return f"---\n{dump_yaml(_front_matter(labelled))}---\n\n{body}"


def counted(before: str, counts: Mapping[str, int], behind: str) -> str:
    """Counts by name between two texts; nothing where there are none."""
    shown = ", ".join(f"{markdown(name)} {count}" for name, count in sorted(counts.items()))
    return f"{before}{shown}{behind}" if shown else ""


def _front_matter(labelled: LabelledSet) -> dict[str, Any]:
    assert JSON not in labelled.contents
    return {
        "pretty_name": one_line(labelled.name),
        "license": "unknown",
        "annotations_creators": ["expert-generated"],
        "task_categories": ["image-segmentation"],
        "tags": ["artifact-detection", "human-feedback", "webdataset"],
        "configs": [{"config_name": "default", "data_files": "shards/*.tar"}],
    }
