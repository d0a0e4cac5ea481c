"""The command of the README, on fewer scenes, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def flawforge(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flawforge", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_quickstart_then_status_verify_gallery_and_build_again(tmp_path: Path):
    done = flawforge("quickstart", "--items", "12", "--steps", "4", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "= 12 planned; every item and every shard accounted for" in done.stdout
    # Off a terminal: counts before the first shard, and nothing of Ray's or transformers' own.
    assert "0/12 done: 0 accepted (-); no shard yet" in done.stdout and "in progress: load 12" in done.stdout
    assert "training a detector: step 4 of 4, loss" in done.stdout
    assert done.stderr == ""
    out = tmp_path / "out" / "quickstart"
    assert (out / "gallery.html").exists() and (out / "README.md").exists()
    state = json.loads(flawforge("status", str(out), "--json", folder=tmp_path).stdout)
    assert state["complete"] and state["accepted"] + state["rejected"] == state["planned"] == 12

    # The last screen has the detector's score, and its weights are a segmenter that `eval` takes.
    assert state["accepted"] > 0 and "IoU_fg" in done.stdout and "selector: 100 labelled" in done.stdout
    scored = flawforge("eval", "out/quickstart-detector", "--json", folder=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["evaluation"]["images"] == 300

    verified = flawforge("verify", "out/quickstart", folder=tmp_path)
    assert verified.returncode == 0 and "1 of 1 shards; 0 problems" in verified.stdout
    assert flawforge("gallery", str(out), "--tiles", "3", folder=tmp_path).returncode == 0

    # A stricter limit on rejects is not content: the finished data set is taken as it is, and the exit code tells.
    again = flawforge(
        "build",
        "quickstart",
        "--out",
        str(out),
        "--set",
        "source.limit=12",
        "--set",
        "limits.rejects=0",
        "--json",
        folder=tmp_path,
    )
    assert json.loads(again.stdout)["accepted"] == state["accepted"]
    assert again.returncode == (3 if state["rejected"] else 0)

    refused = flawforge("build", "quickstart", "--out", str(out), folder=tmp_path)
    assert refused.returncode == 1 and "source.limit: 12 -> 512" in refused.stderr

    (out / "shards" / "000000.tar").write_bytes(b"x")
    assert flawforge("verify", str(out), folder=tmp_path).returncode == 1


def test_preview_writes_a_page(tmp_path: Path):
    done = flawforge(
        "preview",
        "quickstart",
        "--n",
        "3",
        "--k",
        "2,4",
        "--set",
        "corruption.deeper=[3]",  # a k to try is tried alone
        "--out",
        "new/look.html",
        "--json",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [trial["inversion_steps"] for trial in report["trials"]] == [2, 4]
    assert (tmp_path / "new" / "look.html").read_text().count('class="tile') == 6
    wrong = flawforge("preview", "quickstart", "--k", "60", folder=tmp_path)
    assert wrong.returncode == 2 and "corruption.inversion_steps: found 60" in wrong.stderr
