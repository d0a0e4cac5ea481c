"""The folders of an output, and the names of the files that a build writes into them."""

from __future__ import annotations

import re

VERSIONS = "versions"
"""Plans, recipes and identities of what was added to an output after its first plan."""

SCANS = "scans"
"""What `factory.dedup.scan` found: a table for each version of the plan that it wrote."""

RUNS = "runs"
"""Log and state of the latest runs."""

CRASH_MARKS = "attempts"
"""Crash marks, see `factory.pipeline.crash_marks`. The name of the folder is part of the layout."""

HARDWARE = "hardware"
"""By stage, the hardware class that `execution.hardware: same` holds its workers to."""

CRASH_MARK = re.compile(r"(\d{6,})\.([a-z]+)\.(\d+)-(\d+)\.(begun|tried|survived)\.[0-9a-f]{32}")
"""Shard, stage, part, and what happened: `tried` is work on one item alone, after another part has survived."""
