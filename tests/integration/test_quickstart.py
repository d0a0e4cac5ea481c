"""The command of the README, on fewer scenes, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands import run, run_apart


def test_quickstart_then_status_verify_gallery_and_build_again(tmp_path: Path):
    done = run_apart("quickstart", "--items", "12", "--steps", "4", cwd=tmp_path, within=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "= 12 planned; every item and every shard accounted for" in done.stdout
    # Off a terminal: lines with counts, and nothing of Ray's or transformers' own.
    assert "\n12/12 done: " in done.stdout
    assert "training a detector: step 4 of 4, loss" in done.stdout
    assert done.stderr == ""
    out = tmp_path / "out" / "quickstart"
    assert (out / "gallery.html").exists() and (out / "README.md").exists()
    state = json.loads(run("status", str(out), "--json", cwd=tmp_path).stdout)
    assert state["complete"] and state["accepted"] + state["rejected"] == state["planned"] == 12

    # The last screen has the detector's score, and its weights are a segmenter that `eval` takes.
    assert state["accepted"] > 0 and "IoU_fg" in done.stdout and "selector: 100 labelled" in done.stdout
    assert "blind: all objects" in done.stdout and "upper bound, convnext" in done.stdout
    made = ("--data", "out/quickstart/shards/000000.tar")
    scored = run("eval", "out/quickstart-detector", *made, "--json", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["evaluation"]["images"] == state["accepted"]

    verified = run("verify", "out/quickstart", cwd=tmp_path)
    assert verified.returncode == 0 and "1 of 1 shards; 0 problems" in verified.stdout
    assert run("gallery", str(out), "--tiles", "3", cwd=tmp_path).returncode == 0

    # A stricter limit on rejects is not content: the finished data set is taken as it is, and the exit code tells.
    again = run(
        "build",
        "quickstart",
        "--out",
        str(out),
        "--set",
        "source.limit=12",
        "--set",
        "limits.rejects=0",
        "--json",
        cwd=tmp_path,
    )
    assert json.loads(again.stdout)["accepted"] == state["accepted"]
    assert again.returncode == (3 if state["rejected"] else 0)

    refused = run("build", "quickstart", "--out", str(out), cwd=tmp_path)
    assert refused.returncode == 1 and "source.limit: 12 -> 512" in refused.stderr

    (out / "shards" / "000000.tar").write_bytes(b"x")
    assert run("verify", str(out), cwd=tmp_path).returncode == 1


def test_preview_writes_a_page(tmp_path: Path):
    done = run(
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
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [trial["inversion_steps"] for trial in report["trials"]] == [2, 4]
    assert (tmp_path / "new" / "look.html").read_text().count('class="tile') == 6
    wrong = run("preview", "quickstart", "--k", "60", cwd=tmp_path)
    assert wrong.returncode == 2 and "corruption.inversion_steps: found 60" in wrong.stderr
