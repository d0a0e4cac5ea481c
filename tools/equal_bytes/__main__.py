"""Commands: build the outputs, compare two builds.

python -m tools.equal_bytes build before/     # with the old code
python -m tools.equal_bytes build after/      # with the new code
python -m tools.equal_bytes compare before/ after/
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tools.equal_bytes.builds import BuiltOtherwiseError, CommandError, build
from tools.equal_bytes.cases import with_needed
from tools.equal_bytes.inputs import InputsError


def main() -> int:
    """Exit codes: 0 done or equal, 1 failed or different, 2 wrong usage."""
    arguments = _parser().parse_args()
    try:
        names = [name for name in arguments.only.split(",") if name]
        build(arguments.folder, arguments.inputs, with_needed(names), lambda line: print(line, flush=True))
    except (BuiltOtherwiseError, CommandError, InputsError, ValueError) as error:
        print(f"equal_bytes: {error}", file=sys.stderr)
        return 1
    return 0


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
    return parser


if __name__ == "__main__":
    sys.exit(main())
