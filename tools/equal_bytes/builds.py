"""Runs the commands of the cases, in processes of their own, with the Flawforge of this environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path

from tools.equal_bytes.cases import Case, Command
from tools.equal_bytes.cluster import ENVIRONMENT, ray_cluster
from tools.equal_bytes.inputs import write_inputs

RECORD = "equal-bytes.json"
"""File of a folder of outputs: where it was built, from which inputs, and which cases are finished."""

LOGS = "logs"

CPUS = 3
"""Of Ray's accounting, for each case that is built at a time: a little more than its pools ask for."""

_RECIPES = Path(__file__).parent / "recipes"


class CommandError(Exception):
    """A command of a case failed."""


class BuiltOtherwiseError(Exception):
    """The folder holds something else, or was built from other inputs."""


def build(
    folder: Path, inputs: Path, cases: Sequence[Case], report: Callable[[str], None], *, jobs: int = 1
) -> None:
    """Build the cases that are not finished yet.

    Args:
        folder: gets a folder for each case, and one of logs.
        inputs: gets the source images. Both builds of a comparison must use the same path.
        cases: with all that they need.
        report: called with a line after every case.
        jobs: cases that are built at the same time.

    Raises:
        CommandError: commands failed, and all other cases are finished; the same call continues from there.
        BuiltOtherwiseError: the folder holds something else.
        tools.equal_bytes.inputs.InputsError: `inputs` holds other files.
    """
    folder, inputs = folder.resolve(), inputs.resolve()
    write_inputs(inputs)
    finished = _begin(folder, inputs)
    missing = {case.name: case for case in cases if case.name not in finished}
    failures: list[str] = []
    on_ray = any("{address}" in command for case in missing.values() for command in case.commands)
    with ray_cluster(CPUS * jobs) if on_ray else nullcontext("") as address, ThreadPoolExecutor(jobs) as pool:
        places: dict[str, Path | str] = {
            "recipes": _RECIPES,
            "inputs": inputs,
            "root": folder,
            "address": address,
        }
        while ready := [case for case in missing.values() if finished.keys() >= set(case.before)]:
            making = {pool.submit(_make, missing.pop(case.name), folder, places): case.name for case in ready}
            for one in as_completed(making):
                name = making[one]
                try:
                    finished[name] = one.result()
                except CommandError as error:
                    failures.append(str(error))
                    report(f"{name}: failed")
                    continue
                _write_record(folder, inputs, finished)
                report(f"{name}: {finished[name]:.0f} seconds")
    if failures:
        raise CommandError("\n".join(failures))


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


def _make(case: Case, folder: Path, places: Mapping[str, Path | str]) -> float:
    """Run the commands of a case; how many seconds they took."""
    began = time.monotonic()
    out = folder / case.name
    if out.exists():
        shutil.rmtree(out)  # of a call that was stopped
    if case.copy_of:
        shutil.copytree(folder / case.copy_of, out)
    log = folder / LOGS / f"{case.name}.log"
    log.unlink(missing_ok=True)
    for command in case.commands:
        _run(case, _filled(command, {**places, "out": out}), log)
    return round(time.monotonic() - began, 1)


def _filled(command: Command, places: Mapping[str, Path | str]) -> list[str]:
    filled = list(command)
    for name, place in places.items():
        filled = [argument.replace(f"{{{name}}}", str(place)) for argument in filled]
    return filled


def _run(case: Case, arguments: list[str], log: Path) -> None:
    command = [sys.executable, "-m", "flawforge", *arguments]
    with log.open("a") as stream:
        stream.write(f"$ flawforge {' '.join(arguments)}\n")
        stream.flush()
        environment = {**os.environ, **ENVIRONMENT}
        done = subprocess.run(command, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        last = "".join(log.read_text().splitlines(keepends=True)[-20:])
        raise CommandError(
            f"{case.name}: flawforge {arguments[0]} ended with exit code {done.returncode}; {log} ends with:\n{last}"
        )
