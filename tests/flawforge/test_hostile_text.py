"""Text from outside on the terminal: every command shows it, and none sends it."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from actors.errors import SourceError
from actors.foreign_text import one_line
from eval.gallery import write_gallery
from factory.output.identity import Identity
from factory.recipe.recipe import content
from factory.run.monitor import LineMonitor, LiveMonitor
from factory.run.run_state import write_state
from factory.run.tally import Tally
from factory.store.storage import Storage
from flawforge import cli
from flawforge.commands.printing import cell, complain, guard_streams
from flawforge.commands.status import show
from tests.factory.maintain.outputs import VERSIONS, by_hand, recipe, sample
from tests.factory.run.test_status import holder, put, state, total_of
from tests.hostile import HOSTILE, unseen

EVIL = "<img src=x onerror=alert(1)>\x1b]0;t\x07\x1b[31m[/bold][link=https://x]\u202e\u200b\u65e5\nok"
SHOWN = one_line(EVIL)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code, and all that a command prints; the width of a terminal breaks its lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["flawforge", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    out, err = capsys.readouterr()
    assert not unseen((out + err).replace("\n", "")), arguments
    return int(ended.value.code or 0), out + err


def flat(text: str) -> str:
    return "".join(text.split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output in which everything foreign is hostile; one sample is rejected, and one of the tar's is unknown."""
    shard = [sample(name, f"s3://x/{EVIL}", rejected=EVIL if name == "c" else "") for name in "abc"]
    for one in shard:
        one.caption = EVIL
    evil = content(recipe("small"))
    evil["corruption"]["model"] = EVIL
    identity = Identity(evil, {EVIL: EVIL}, {**VERSIONS, EVIL: EVIL}, {})
    storage = by_hand(tmp_path_factory.mktemp("made") / "out", [shard], skipped={EVIL: 3}, identity=identity)
    return Path(storage.url)


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "out")


def test_a_folder_with_hostile_extensions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    names = [text.replace("/", "_")[:40] for text in (EVIL, *HOSTILE) if "\0" not in text and text.isascii()]
    for name in {"a.png", *(f"a.{name}" for name in names)}:
        (data / name).write_bytes(b"")
    text = f"name: x\nsource: {{kind: images, size: 64, urls: [{data}], fields: {{mask: mask.png}}}}\n"
    mine = tmp_path / "mine.yaml"
    mine.write_text(text + "regions: {kind: source}\ncorruption: {method: blur, target: image}\n")
    code, printed = command(capsys, "plan", str(mine))
    assert code == 0 and "1 items in 1 shards" in printed
    assert "onerror=alert(1)" in printed
    mine.write_text(text.replace(f"{data}", f"'{data}/*.svg'") + "regions: {kind: source}\n")
    code, printed = command(capsys, "plan", str(mine))
    assert code == 1 and printed.startswith("flawforge: ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status"], 0),
        (["verify"], 0),
        (["inspect", "c"], 0),
        (["inspect", EVIL], 1),
        (["manifest"], 0),
        (["gallery"], 0),
    ],
)
def test_commands(output: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> None:
    name, *more = arguments
    ended, printed = command(capsys, name, str(output), *more)
    assert ended == code, printed
    if name in ("status", "inspect"):
        assert flat(SHOWN) in flat(printed)
    if name != "gallery" and code == 0:
        ended, printed = command(capsys, name, str(output), *more, "--json")
        assert json.loads(printed) and printed.isascii()


def test_verify_names_foreign_keys(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(output / "shards/000000.tar", "a", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(f"{EVIL.replace('.', '')}.json"), io.BytesIO())
    ended, printed = command(capsys, "verify", str(output))
    assert ended == 1 and "onerror=alert(1)" in printed


@pytest.mark.parametrize("watched", [False, True])
def test_the_state_of_a_foreign_run(output: Path, watched: bool) -> None:
    storage = Storage(str(output))
    about = replace(state(total_of(storage)), why=EVIL, phase="failed")
    (output / "stats/000000.json").unlink()
    write_state(storage, about)
    if watched:
        put(storage, replace(holder(), host=EVIL))
    text = io.StringIO()
    show(Console(file=text, width=300), storage.url)
    assert not unseen(text.getvalue().replace("\n", "")) and SHOWN in text.getvalue()


def test_progress(output: Path) -> None:
    tally = Tally(total_of(Storage(str(output))))
    text = io.StringIO()
    with LineMonitor(Console(file=text, width=300)) as line:
        line.show(tally)
    live = LiveMonitor(console := Console(file=text, width=300))
    live.show(tally)
    console.print(live._view())
    assert text.getvalue().count(SHOWN) == 2 and not unseen(text.getvalue().replace("\n", ""))


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("what", title=cell(EVIL))
    table.add_row(cell(EVIL))
    Console(width=300).print(table)
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 2 and not unseen(out.replace("\n", ""))


def test_errors_and_log_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    complain(str(SourceError(f"{EVIL}: is damaged")))
    printed = capsys.readouterr().err
    assert printed.splitlines() == [f"flawforge: {one_line(EVIL.split(chr(10))[0])}", "  ok: is damaged"]
    formatter = logging.lastResort.formatter if logging.lastResort else None
    try:
        guard_streams()
        record = logging.LogRecord("x", logging.WARNING, "x", 1, "lost: %s", (EVIL,), None)
        assert logging.lastResort is not None
        logging.lastResort.emit(record)
    finally:
        if logging.lastResort is not None:
            logging.lastResort.formatter = formatter
    printed = capsys.readouterr().err
    assert not unseen(printed.replace("\n", "")) and printed.splitlines()[1] == "  ok"


def test_streams_that_cannot_show_everything(output: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    arguments = [sys.executable, "-m", "flawforge", "inspect", str(output), "c"]
    done = subprocess.run(arguments, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"onerror=alert(1)" in done.stdout and b"\\u65e5" in done.stdout


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_the_gallery(output: Path, tmp_path: Path) -> None:
    storage = Storage(str(output))
    write_gallery(storage, f"{EVIL}\ud800")
    page = (output / "gallery.html").read_text()
    assert not unseen(page.replace("\n", "").replace("\t", ""))
    parser = _Tags()
    parser.feed(page)
    assert not parser.handlers and parser.tags.count("script") == 1
    harmless = by_hand(tmp_path / "tame", [[sample(n, "s", rejected="x" if n == "c" else "") for n in "abc"]])
    write_gallery(harmless, "tame")
    tame = _Tags()
    tame.feed((tmp_path / "tame/gallery.html").read_text())
    assert parser.tags == tame.tags, "foreign text makes no element"
