"""A stage without any recipe, as another pipeline would have it: crash marks, seconds, rejects and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.batch import Sample
from actors.errors import Reject, WorkerError
from actors.stage_names import StageName
from factory.output.identity import Identity, versions_here
from factory.output.layout import CRASH_MARKS
from factory.output.schema import ShardOfSamples, from_table, to_table
from factory.pipeline.run_context import RunContext
from factory.pipeline.shard_work import SampleStage, Work
from tests.factory.run.test_metrics import Ledger


class Annotate(SampleStage):
    """Captions every sample, and rejects those without an image."""

    name = StageName.SELECT

    def make(self) -> Work:
        return self.annotated

    def annotated(self, samples: list[Sample]) -> list[Sample]:
        self.marks = sorted(path.name for path in Path(self.folder, CRASH_MARKS).iterdir())
        for sample in samples:
            sample.caption = "a hand"
            if sample.image is None and not sample.rejected:
                sample.reject(self.name, Reject("blank", "no image"))
        return samples

    def __init__(self, folder: Path, versions: dict[str, str]) -> None:
        self.folder = folder
        super().__init__(RunContext(str(folder), Identity({}, {}, versions, {})))


def items() -> list[Sample]:
    before = Sample("c", "")
    before.reject(StageName.LOAD, Reject("too_small", ""))
    return [Sample("a", "", image=b"x"), Sample("b", ""), before]


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    return Ledger(monkeypatch)


def test_a_stage_of_another_pipeline(tmp_path: Path, ledger: Ledger):
    stage = Annotate(tmp_path, versions_here())
    made = from_table(stage(to_table(ShardOfSamples(4, items(), {"load": 1.5}))))
    assert made.number == 4 and list(made.seconds) == ["load", "select"] and made.seconds["select"] >= 0
    assert [(one.caption, one.stage, one.reason) for one in made.samples] == [
        ("a hand", "", ""),
        ("a hand", "select", "blank"),
        ("a hand", "load", "too_small"),
    ]
    (mark,) = stage.marks  # while it worked
    assert mark.startswith("000004.select.0-3.begun.") and not list(tmp_path.glob(f"{CRASH_MARKS}/*"))
    counted = ledger.totals()
    assert counted["flawforge_images_total", "select", "passed"] == 1
    assert counted["flawforge_images_total", "select", "rejected"] == 1


def test_a_worker_with_other_versions_is_refused(tmp_path: Path):
    stage = Annotate(tmp_path, {**versions_here(), "numpy": "0.1"})
    with pytest.raises(WorkerError, match=r"versions\.numpy: \"0\.1\" -> "):
        stage(to_table(ShardOfSamples(4, items())))
