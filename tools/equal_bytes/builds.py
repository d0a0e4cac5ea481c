"""Runs the commands of the cases, in processes of their own, with the Flawforge of this environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tools.equal_bytes.cases import Case, Command
from tools.equal_bytes.inputs import write_inputs

RECORD = "equal-bytes.json"
"""File of a folder of outputs: where it was built, from which inputs, and which cases are finished."""

LOGS = "logs"

_RECIPES = Path(__file__).parent / "recipes"
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "COLUMNS": "160",
}


class CommandError(Exception):
    """A command of a case failed."""


class BuiltOtherwiseError(Exception):
    """The folder holds something else, or was built from other inputs."""


def build(
    folder: Path, inputs: Path, cases: Sequence[Case], tell: Callable[[str], None], *, jobs: int = 1
) -> None:
    """Build the cases that are not finished yet.

    Args:
        folder: gets a folder for each case, and one of logs.
        inputs: gets the source images. Both builds of a comparison must use the same path.
        cases: with all that they need.
        tell: called with a line after every case.
        jobs: cases that are built at the same time.

    Raises:
        CommandError: a command failed; the same call continues from there.
        BuiltOtherwiseError: the folder holds something else.
        tools.equal_bytes.inputs.InputsError: `inputs` holds other files.
    """
    folder, inputs = folder.resolve(), inputs.resolve()
    write_inputs(inputs)
    finished = _begin(folder, inputs)
    while missing := {case.name: case for case in cases if case.name not in finished}:
        ready = [case for case in missing.values() if not missing.keys() & set(case.before)]
        with ThreadPoolExecutor(jobs) as pool:
            making = {pool.submit(_make, case, folder, inputs): case for case in ready}
            try:
                for one in as_completed(making):
                    name, seconds = making[one].name, one.result()
                    finished[name] = seconds
                    _write_record(folder, inputs, finished)
                    tell(f"{name}: {seconds:.0f} seconds")
            except CommandError:
                pool.shutdown(cancel_futures=True)
                raise


def read_record(folder: Path) -> dict[str, dict[str, float] | str]:
    """`root` and `inputs`, paths of the build, and `finished`: seconds by case.

    Raises:
        BuiltOtherwiseError: it is missing or damaged.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
        root, inputs, finished = str(record["root"]), str(record["inputs"]), dict(record["finished"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuiltOtherwiseError(f"{folder} is not a folder that `build` made: {path}: {error!r}") from error
    return {"root": root, "inputs": inputs, "finished": finished}


def _begin(folder: Path, inputs: Path) -> dict[str, float]:
    """The cases that are finished."""
    if not (folder / RECORD).exists():
        if folder.exists() and any(folder.iterdir()):
            raise BuiltOtherwiseError(f"{folder} holds other files; choose a new or empty folder")
        (folder / LOGS).mkdir(parents=True)
        _write_record(folder, inputs, {})
    record = read_record(folder)
    if (record["root"], record["inputs"]) != (str(folder), str(inputs)):
        raise BuiltOtherwiseError(
            f"{folder} was begun at {record['root']} with the inputs {record['inputs']}; choose a new folder"
        )
    finished = record["finished"]
    assert isinstance(finished, dict)
    return finished


def _write_record(folder: Path, inputs: Path, finished: dict[str, float]) -> None:
    record = {"root": str(folder), "inputs": str(inputs), "finished": finished}
    (folder / RECORD).write_text(json.dumps(record, indent=1))


def _make(case: Case, folder: Path, inputs: Path) -> float:
    """Run the commands of a case; how many seconds they took."""
    began = time.monotonic()
    out = folder / case.name
    if out.exists():
        shutil.rmtree(out)  # of a call that was stopped
    if case.copy_of:
        shutil.copytree(folder / case.copy_of, out)
    places = {"recipes": _RECIPES, "inputs": inputs, "root": folder, "out": out}
    with (folder / LOGS / f"{case.name}.log").open("w") as log:
        for command in case.commands:
            _run(case, _filled(command, places), log.name)
    return round(time.monotonic() - began, 1)


def _filled(command: Command, places: dict[str, Path]) -> list[str]:
    filled = list(command)
    for name, place in places.items():
        filled = [argument.replace(f"{{{name}}}", str(place)) for argument in filled]
    return filled


def _run(case: Case, arguments: list[str], log: str) -> None:
    command = [sys.executable, "-m", "flawforge", *arguments]
    with Path(log).open("a") as stream:
        stream.write(f"$ flawforge {' '.join(arguments)}\n")
        stream.flush()
        done = subprocess.run(
            command, env={**os.environ, **_ENVIRONMENT}, stdout=stream, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        last = "".join(Path(log).read_text().splitlines(keepends=True)[-20:])
        raise CommandError(
            f"{case.name}: flawforge {arguments[0]} ended with exit code {done.returncode}; {log} ends with:\n{last}"
        )
