"""Two builds, case by case and file by file.

Every file must exist in both and be equal byte for byte, once what `tools.equal_bytes.masks` names is masked. What is
about a run and not about the data (`runs/`, `lock.json`) is compared in structure only: number of files, keys of the
states, events of the logs with their keys. Seconds in sidecars may differ, and their keys may not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.equal_bytes.builds import BuiltOtherwiseError, read_record
from tools.equal_bytes.masks import Masks
from tools.equal_bytes.tables import table_differences
from tools.equal_bytes.tars import tar_differences
from tools.equal_bytes.texts import json_differences, text_differences

RUNS, LOCK = "runs", "lock.json"
ACCIDENTAL = ("pass ended",)
"""Events of a log that report a lost worker or the like."""


@dataclass(frozen=True)
class Difference:
    """A difference.

    Attributes:
        file: path in the output.
        where: member, field, row or line; empty for the file.
        what: that differs.
    """

    file: str
    where: str
    what: str


@dataclass(frozen=True)
class Result:
    """The comparison of a case.

    Attributes:
        case: its name.
        files: number of files in either build.
        differences: empty where the outputs are equal.
    """

    case: str
    files: int
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> int:
        """Number of files without a difference."""
        return self.files - len({difference.file for difference in self.differences})


def compare(before: Path, after: Path, names: Sequence[str] = ()) -> list[Result]:
    """Compare two builds.

    Args:
        before, after: folders that `build` made.
        names: of cases; all where empty.

    Raises:
        BuiltOtherwiseError: a folder is not one of a build, the two have different inputs, or there is no case.
    """
    old, new = read_record(before), read_record(after)
    if old["inputs"] != new["inputs"]:
        raise BuiltOtherwiseError(
            f"{before} was built from {old['inputs']} and {after} from {new['inputs']}, and keys follow from paths; "
            "build one of them again with the same --inputs"
        )
    cases = list(names) or list(dict.fromkeys([*old["finished"], *new["finished"]]))
    if not cases:
        raise BuiltOtherwiseError(f"{before} and {after} have no finished case")
    results = []
    for case in cases:
        missing = [folder for folder, one in ((before, old), (after, new)) if case not in one["finished"]]
        if missing:
            what = f"not finished in {' and '.join(map(str, missing))}"
            results.append(Result(case, 0, (Difference("", "", what),)))
        else:
            roots = str(old["root"]), str(new["root"])
            results.append(_compare_outputs(case, before / case, after / case, roots))
    return results


def _compare_outputs(case: str, before: Path, after: Path, roots: tuple[str, str]) -> Result:
    masks = Masks.of(before, roots[0]), Masks.of(after, roots[1])
    files = _files(before), _files(after)
    names = sorted(files[0] | files[1])
    differences = list(_differences_of_runs(before, after))
    for name in names:
        if name not in files[0] or name not in files[1]:
            differences.append(Difference(name, "", f"only {'before' if name in files[0] else 'after'}"))
            continue
        data = (before / name).read_bytes(), (after / name).read_bytes()
        found = _differences(name, data, masks)
        differences += [Difference(name, where, what) for where, what in found]
    # The structure of all runs counts as one file.
    return Result(case, len(names) + 1, tuple(differences))


def _files(output: Path) -> set[str]:
    """Paths of all files, apart from those of a run."""
    found = {path.relative_to(output).as_posix() for path in output.rglob("*") if not path.is_dir()}
    return {name for name in found if name != LOCK and not name.startswith(f"{RUNS}/")}


def _differences(
    name: str, data: tuple[bytes, bytes], masks: tuple[Masks, Masks]
) -> Iterator[tuple[str, str]]:
    if name.endswith(".tar"):
        yield from tar_differences(*data, masks[0].sample_json, masks[1].sample_json)
    elif name.endswith(".parquet"):
        yield from table_differences(*data, masks[0].samples, masks[1].samples)
    else:
        yield from text_differences(masks[0].document(name, data[0]), masks[1].document(name, data[1]))


def _differences_of_runs(before: Path, after: Path) -> Iterator[Difference]:
    for where, what in json_differences(_structure(before), _structure(after)):
        yield Difference(f"{RUNS}/", where, what)


def _structure(output: Path) -> dict[str, Any]:
    """Of lock, states and logs."""
    states = [json.loads(path.read_bytes()) for path in sorted(output.glob(f"{RUNS}/*.json"))]
    logs = [path.read_text().splitlines() for path in sorted(output.glob(f"{RUNS}/*.jsonl"))]
    events = [json.loads(line) for lines in logs for line in lines]
    return {
        "lock": (output / LOCK).exists(),
        "states": len(states),
        "logs": len(logs),
        "keys": [
            {key: sorted(value) if key == "figures" else "" for key, value in one.items()} for one in states
        ],
        "events": {event["event"]: sorted(event) for event in events if event["event"] not in ACCIDENTAL},
    }
