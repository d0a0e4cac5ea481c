"""Two thousand mutated inputs: no crash, no hang, every item accounted for, no file outside the output touched."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

from factory.maintain.verify import read_index, verify
from factory.output.manifest import done_shards
from factory.output.plan import read_plan
from factory.store.storage import Storage
from tests.mutations import TOTAL, inputs
from tests.mutations.build import FOLDER, TARS, recipe_text
from tests.mutations.folders import CANARY_PICTURE
from tests.mutations.inputs import KNOWN, Input, Item, Oddity, Quarters, Tar
from tests.mutations.masks import agree
from tests.mutations.pictures import mask_png, plain
from tests.mutations.tar_blocks import END, member
from tests.patience import seconds

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 240
"""Seconds for a process that does a quarter of a minute's work: what takes longer hangs."""

PER_PROCESS = 250


@dataclass
class Expected:
    """What a chunk of inputs must come to.

    Attributes:
        items: by source file and stem: the input's kind, and how the item may end.
        skipped: what each of the two listings counts.
        tars: by file name.
    """

    items: dict[tuple[str, str], Item] = field(default_factory=dict)
    skipped: dict[str, Counter[str]] = field(default_factory=lambda: {FOLDER: Counter(), TARS: Counter()})
    tars: dict[str, Tar] = field(default_factory=dict)


def lay_out(chunk: Sequence[Input], place: Path) -> Expected:
    """Writes inputs and canary below `place`; single images go into the folder and into one tar by turns."""
    folder, tars, canary = place / "sources" / FOLDER, place / "sources" / TARS, place / "canary"
    for path in (folder, tars, canary / "deep" / "here", place / "out", place / "tmp"):
        path.mkdir(parents=True)
    (canary / CANARY_PICTURE).write_bytes(plain("JPEG"))
    (canary / "kept.mask.png").write_bytes(mask_png())
    (canary / "kept.txt").write_text("a canary")
    (canary / "link").symlink_to("kept.txt")
    expected, packed = Expected(), io.BytesIO()
    for number, one in enumerate(chunk):
        if isinstance(one, Tar):
            name = f"{number:05d}.tar"
            (tars / name).write_bytes(one.data)
            expected.tars[name] = one
            continue
        if isinstance(one, Oddity):
            name = f"{number:05d}"
            one.make(folder, name, canary)
            expected.skipped[FOLDER].update(one.skipped)
            if one.ends is not None:
                (made,) = (
                    path.name
                    for path in folder.iterdir()
                    if path.name.startswith(name) and path.suffix == ".jpg"
                )
                expected.items[made, ""] = Item(one.kind, {}, one.ends)
            continue
        stem = one.stem or f"{number:05d}"
        image = next(iter(one.files))
        if one.route == "folder" or (not one.route and number % 2):
            for extension, data in one.files.items():
                (folder / f"{stem}.{extension}").write_bytes(data)
            expected.items[f"{stem}.{image}", ""] = one
            expected.skipped[FOLDER].update(
                {"mask.png": "mask", "txt": "caption"}[extension] for extension in list(one.files)[1:]
            )
        else:
            packed.write(
                b"".join(member(f"{stem}.{extension}", data) for extension, data in one.files.items())
            )
            expected.items["packed.tar", stem] = one
    (tars / "packed.tar").write_bytes(packed.getvalue() + END)
    return expected


def state_of(place: Path) -> dict[str, tuple[object, ...]]:
    """Kind and rights, size, time and content of all below a folder but the output and others' temporary files."""
    found: dict[str, tuple[object, ...]] = {}
    for parent, folders, files in os.walk(place):
        if Path(parent) == place:
            folders[:] = [name for name in folders if name not in ("out", "tmp")]
        for path in (Path(parent, name) for name in (*folders, *files) if name != "report.json"):
            about, content = path.lstat(), ""
            if path.is_symlink():
                content = str(path.readlink())
            elif path.is_file() and about.st_size < 50 << 20:
                content = sha256(path.read_bytes()).hexdigest()
            size = 0 if path.is_dir() else about.st_size
            name = os.fsencode(path.relative_to(place)).decode("latin-1")
            found[name] = (about.st_mode, size, about.st_mtime_ns, content)
    return found


def run(place: Path) -> dict[str, dict[str, object]]:
    """Builds in a process of its own, which must end well and in time."""
    environment = {
        **os.environ,
        "TMPDIR": str(place / "tmp"),
        "PYTHONPATH": str(REPOSITORY),
        "MALLOC_ARENA_MAX": "2",
    }
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-W",
        "ignore",
        "-m",
        "tests.mutations.build",
        str(place),
    ]
    process = subprocess.Popen(
        command,
        cwd=place / "canary" / "deep" / "here",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        printed, _ = process.communicate(timeout=seconds(PATIENCE))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # the fault handler then says where it hangs
        printed, _ = process.communicate()
        pytest.fail(f"it hangs:\n{printed[-6000:]}")
    assert process.returncode == 0, printed[-6000:]
    return json.loads((place / "report.json").read_text())


def rows_of(storage: Storage) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Source file, stem in the tar and index row of every planned item."""
    plan = read_plan(storage)
    assert done_shards(storage) == set(range(plan.shards))
    for number in range(plan.shards):
        for reference, row in zip(plan.shard(number), read_index(storage, number), strict=True):
            assert reference.key == row["key"]
            stem = json.loads(reference.member or "{}").get("stem", "")
            yield reference.url.rpartition("/")[2], stem, row


def check_looks(original: bytes, quarters: Quarters | None) -> None:
    """RGB of 8 bits and the right size, without metadata; the colours in the middle of each quarter are as expected."""
    with Image.open(io.BytesIO(original)) as image:
        image.load()
        assert (image.format, image.mode, image.size, image.info) == ("PNG", "RGB", (64, 64), {})
        pixels = np.asarray(image).astype(int)
    if quarters is not None:
        for colour, (row, column) in zip(quarters, ((16, 16), (16, 48), (48, 16), (48, 48)), strict=True):
            middle = pixels[row - 3 : row + 4, column - 3 : column + 4].mean(axis=(0, 1))
            assert np.abs(middle - colour).max() <= 14, (quarters, middle)


def check_output(out: Path, expected: Expected, outcomes: dict[str, Counter[str]]) -> list[str]:
    """Every item of an output is expected, and ended as it may; nothing expected is missing; what is wrong."""
    storage, kind = Storage(str(out)), out.name
    verdict = verify(storage)
    assert verdict.problems == () and verdict.sound
    found, wrong = set[tuple[str, str]](), list[str]()
    files = {}
    for number in done_shards(storage):
        if (out / f"shards/{number:06d}.tar").exists():
            with tarfile.open(out / f"shards/{number:06d}.tar") as tar:
                for entry in tar:
                    if entry.name.endswith((".original.png", ".mask.png")):
                        stream = tar.extractfile(entry)
                        assert stream is not None
                        files[entry.name] = stream.read()
    for name, stem, row in rows_of(storage):
        item = expected.items.get((name, stem))
        if item is None and kind == TARS and name != "packed.tar":
            tar_ = expected.tars[name]
            # A sample of a tar that chance bits have hit may end in any known way.
            item = Item(tar_.kind, {}, tar_.samples[stem] if tar_.ends == "listed" else KNOWN)
        assert item is not None, (name, stem)
        found.add((name, stem))
        end = str(row["status"] if row["status"] == "accepted" else row["reason"])
        outcomes.setdefault(item.kind, Counter())[end] += 1
        if end not in item.ends or end not in KNOWN:
            wrong.append(f"{item.kind}: {name!r} {stem!r}: {end} ({row['detail']}), not {sorted(item.ends)}")
        elif end != "accepted":
            if not 0 < len(str(row["detail"])) < 3_000:
                wrong.append(f"{item.kind}: {end}: no sentence for a person: {str(row['detail'])[:200]}")
        else:
            try:
                check_looks(files[f"{row['key']}.original.png"], item.quarters)
                if item.inside is not None:
                    mask = np.asarray(Image.open(io.BytesIO(files[f"{row['key']}.mask.png"])))
                    assert agree(mask, item.inside, item.soft), "another mask than was meant"
                assert item.caption is None or row["caption"] == item.caption
            except AssertionError as error:
                wrong.append(f"{item.kind}: {name!r} {stem!r}: {error}")
    wanted = {place for place in expected.items if (place[0] == "packed.tar") == (kind == TARS)}
    if kind == TARS:
        wanted |= {(name, stem) for name, one in expected.tars.items() for stem in one.samples}
        by_chance = {name for name, one in expected.tars.items() if one.ends == "either"}
        found = {place for place in found if place[0] not in by_chance}
    return (
        wrong
        + [f"{place}: nothing became of it" for place in wanted - found]
        + [f"{place}: nothing of this kind was made" for place in found - wanted]
    )


def check_tars(
    alone: Mapping[str, Mapping[str, object]], expected: Expected, outcomes: dict[str, Counter[str]]
) -> list[str]:
    """Every tar alone was listed or refused as it should be; what is wrong."""
    wrong = []
    for name, one in expected.tars.items():
        outcome = alone[name]
        refused = outcome.get("refused")
        end = "listed" if refused is None else "refused"
        outcomes.setdefault(one.kind, Counter())[f"({end})"] += 1
        if refused is not None and not (
            name in str(refused) and ("again" in str(refused) or "first" in str(refused))
        ):
            wrong.append(f"{one.kind}: {name}: the refusal does not say where, or what to do: {refused}")
        if one.ends != "either" and one.ends != end:
            wrong.append(f"{one.kind}: {name}: {outcome}, not {one.ends}")
        elif one.ends == "listed" and (outcome["items"], outcome["skipped"]) != (
            len(one.samples),
            one.skipped,
        ):
            wrong.append(f"{one.kind}: {name}: {outcome}, not {len(one.samples)} items and {one.skipped}")
    return wrong


def build_all(chosen: Sequence[Input], root: Path) -> None:
    outcomes: dict[str, Counter[str]] = {}
    made, peak = Counter(one.kind for one in chosen), 0.0
    wrong: list[str] = []
    chunks = -(-len(chosen) // PER_PROCESS)
    for chunk in range(chunks):
        place = root / str(chunk)
        expected = lay_out(chosen[chunk::chunks], place)
        before = state_of(place)
        report = run(place)
        assert state_of(place) == before, "something outside the output was touched"
        wrong += check_tars(report["alone"], expected, outcomes)
        for kind in (FOLDER, TARS):
            wrong += check_output(place / "out" / kind, expected, outcomes)
        skipped = {
            kind: Counter(read_plan(Storage(str(place / "out" / kind))).skipped) for kind in (FOLDER, TARS)
        }
        if skipped[FOLDER] != expected.skipped[FOLDER]:
            wrong.append(f"passed over in the folder: {skipped[FOLDER]}, not {expected.skipped[FOLDER]}")
        listed = [outcome["skipped"] for outcome in report["alone"].values() if "skipped" in outcome]
        assert skipped[TARS] == sum(map(Counter, listed), Counter())
        peak = max(peak, float(str(report["peak_mib"])))
    show(made, outcomes, peak)
    assert not wrong, "\n".join(wrong)


def show(made: Counter[str], outcomes: Mapping[str, Counter[str]], peak: float) -> None:
    table = Table("kind", "inputs", "what became of them and of the samples in them")
    for kind, count in sorted(made.items()):
        ends = ", ".join(f"{number} {end}" for end, number in outcomes.get(kind, Counter()).most_common())
        table.add_row(kind, str(count), ends or "passed over, and counted")
    table.add_row("all", str(made.total()), f"largest process: {peak:.0f} MiB")
    Console(width=150).print(table)


def test_some_of_every_kind(tmp_path: Path):
    chosen = inputs(0.1)
    assert 150 < len(chosen) < 250
    build_all(chosen, tmp_path)


@pytest.mark.slow
def test_all_of_them(tmp_path: Path):
    chosen = inputs()
    assert len(chosen) == TOTAL == 2_000
    build_all(chosen, tmp_path)


@pytest.mark.slow
def test_a_build_on_ray(tmp_path: Path):
    """The command line on a folder and on tars with something of every kind; first a damaged tar stops it."""
    expected = lay_out(inputs(0.04), tmp_path)
    before = state_of(tmp_path / "canary")
    recipes = {kind: tmp_path / f"{kind}.yaml" for kind in (FOLDER, TARS)}
    for kind, path in recipes.items():
        path.write_text(recipe_text(kind, str(tmp_path / "sources" / kind)))
    code, printed = flawforge("build", str(recipes[TARS]), "--out", str(tmp_path / "out" / TARS))
    assert code == 1 and "Traceback" not in printed, printed
    assert ".tar is" in printed
    for name, one in expected.tars.items():
        if one.ends != "listed":
            (tmp_path / "sources" / TARS / name).unlink()
    expected.tars = {name: one for name, one in expected.tars.items() if one.ends == "listed"}
    outcomes: dict[str, Counter[str]] = {}
    for kind, path in recipes.items():
        out = tmp_path / "out" / kind
        code, printed = flawforge("build", str(path), "--out", str(out))
        assert code == 0, printed
        assert check_output(out, expected, outcomes) == []
        code, printed = flawforge("verify", str(out))
        assert code == 0, printed
    assert state_of(tmp_path / "canary") == before


def flawforge(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "flawforge", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(PATIENCE), check=False)
    return done.returncode, done.stdout + done.stderr
