"""Commands: build the outputs, compare two builds.

python -m tools.equal_bytes build before/     # with the old code
python -m tools.equal_bytes build after/      # with the new code
python -m tools.equal_bytes compare before/ after/
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from tools.equal_bytes.builds import BuiltOtherwiseError, CommandError, build
from tools.equal_bytes.cases import with_needed
from tools.equal_bytes.comparison import Result, compare
from tools.equal_bytes.inputs import InputsError

MOST_SHOWN = 3
"""Differences of a file that are printed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or equal, 1 failed or different, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    names = [name for name in arguments.only.split(",") if name]
    try:
        if arguments.command == "compare":
            return _show(compare(arguments.before, arguments.after, names))
        cases = with_needed(names)
        build(arguments.folder, arguments.inputs, cases, partial(print, flush=True), jobs=arguments.jobs)
    except (BuiltOtherwiseError, CommandError, InputsError, ValueError) as error:
        print(f"equal_bytes: {error}", file=sys.stderr)
        return 1
    return 0


def _show(results: Sequence[Result]) -> int:
    """Print the table and the first differences; the exit code."""
    width = max(len(result.case) for result in results)
    print(f"{'case':{width}}  files  equal")
    for result in results:
        print(f"{result.case:{width}}  {result.files:5}  {result.equal:5}")
    different = [result for result in results if result.differences]
    for result in different:
        for file, group in groupby(result.differences, attrgetter("file")):
            found = list(group)
            for one in found[:MOST_SHOWN]:
                place = ": ".join(part for part in (result.case, file, one.where) if part)
                print(f"{place}: {one.what}")
            if len(found) > MOST_SHOWN:
                print(f"{result.case}: {file}: {len(found) - MOST_SHOWN} more")
    files, equal = sum(one.files for one in results), sum(one.equal for one in results)
    print(f"{len(results) - len(different)} of {len(results)} cases and {equal} of {files} files are equal")
    return 1 if different else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.equal_bytes", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="build all cases with the Flawforge of this environment")
    builder.add_argument("folder", type=Path, help="a new folder, or one of a build that was stopped")
    builder.add_argument(
        "--inputs",
        type=Path,
        default=Path(tempfile.gettempdir()) / "flawforge-equal-bytes",
        help="folder of the source images; the same for both builds (default: %(default)s)",
    )
    builder.add_argument(
        "--only", default="", metavar="NAME,...", help="these cases, and those that they need"
    )
    builder.add_argument("--jobs", type=int, default=1, help="cases at a time (default: 1)")
    comparer = commands.add_parser("compare", help="compare two builds; exit code 1 when anything differs")
    comparer.add_argument("before", type=Path, help="a folder that `build` made")
    comparer.add_argument("after", type=Path, help="another one")
    comparer.add_argument("--only", default="", metavar="NAME,...", help="these cases")
    return parser


if __name__ == "__main__":
    sys.exit(main())
