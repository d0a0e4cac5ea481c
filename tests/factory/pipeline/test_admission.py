"""A worker that would make other bytes than its run promises is refused before its first shard."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file

import actors.hardware as hardware
import factory.output.identity as identity_module
from actors.batch import Sample
from actors.errors import WorkerError
from actors.images import encode_image, encode_mask
from factory.build import Mode, build
from factory.maintain.verify import Problem, verify
from factory.output.identity import Identity, digest_of_code, versions_here
from factory.output.schema import ShardOfSamples, from_table, to_table
from factory.output.shards.records import read_sidecar
from factory.pipeline.admission import check_hardware, check_worker
from factory.pipeline.run_context import RunContext
from factory.pipeline.stages import Corrupt, Load, SelectRegions, Write
from factory.recipe.recipe import Recipe, parse_recipe
from factory.run.status import look
from factory.store.storage import Storage
from flawforge.commands.status import lines
from tests.factory.maintain import outputs
from tests.hub_cache import add_snapshot, use_cache
from tests.upernet import save_upernet
from tinytown.render import render
from tinytown.scene import sample_scene

TINY = Path(__file__).parents[2] / "golden" / "tiny_sd"
OLD, NEW = "a" * 40, "b" * 40
RECIPE = """
name: cheap
source: {kind: tinytown, size: 64, limit: 6, first_seed: 7000}
regions: {kind: source}
corruption: {model: MODEL, method: blur, target: image, batch_size: 2}
verify: {least_inside: 0, most_outside: 1}
output: {samples_per_shard: 2}
"""
SEGMENTED = """
name: segmented
source: {kind: tinytown, size: 64, limit: 2}
regions: {kind: segmenter, checkpoint: org/net, batch_size: 2, largest_area: 1}
"""


def recipe(*changes: str, model: str = "org/tiny") -> Recipe:
    return parse_recipe(RECIPE.replace("MODEL", model), "cheap.yaml", changes)


def other_weights(folder: Path) -> Path:
    """The same network with a brighter image at its end."""
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["decoder.conv_out.bias"] += 0.1
    save_file(weights, path)
    return folder


@pytest.fixture(autouse=True)
def usual_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variables by which a test makes a worker differ, though the tests may be run with them."""
    for name in (*hardware.SETTINGS, *hardware.GPU_SETTINGS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`old` and `new` have `main` of org/tiny at one commit each; `moved` has both, `main` being the new one."""
    root = tmp_path_factory.mktemp("caches")
    changed = other_weights(Path(shutil.copytree(TINY, root / "changed")))
    for name, commits in (("old", [OLD]), ("new", [NEW]), ("moved", [OLD, NEW])):
        for commit in commits:
            add_snapshot(root / name, "org/tiny", commit, TINY if commit == OLD else changed)
    (root / "empty").mkdir()
    return {name: root / name for name in ("old", "new", "moved", "empty")}


def shard_of(count: int) -> pa.Table:
    mask = np.zeros((64, 64), bool)
    mask[16:40, 20:44] = True
    samples = [
        Sample(f"s{n}", "", image=encode_image(render(sample_scene(n)).image), mask=encode_mask(mask))
        for n in range(count)
    ]
    return to_table(ShardOfSamples(0, samples))


def corrupted(out: Path, made_by: Recipe, identity: Identity) -> list[bytes | None]:
    table = Corrupt(made_by, str(out), identity)(shard_of(2))
    return [sample.corrupted for sample in from_table(table).samples]


def test_a_worker_with_another_cached_revision_is_refused(caches, tmp_path, monkeypatch):
    use_cache(monkeypatch, caches["old"])
    identity = Identity.of(recipe())
    assert identity.models["corruption"] == f"org/tiny@{OLD}"
    use_cache(monkeypatch, caches["new"])
    with pytest.raises(WorkerError) as caught:
        corrupted(tmp_path, recipe(), identity)
    reported = str(caught.value)
    assert f"models.corruption: org/tiny@{OLD} -> org/tiny@{NEW}" in reported
    assert f"`hf download org/tiny --revision {OLD}`" in reported


def test_a_worker_without_the_model_is_refused_by_name(caches, tmp_path, monkeypatch):
    use_cache(monkeypatch, caches["old"])
    identity = Identity.of(recipe())
    use_cache(monkeypatch, caches["empty"])
    with pytest.raises(WorkerError, match=f"org/tiny@{OLD} -> .*org/tiny.*not in the model cache"):
        corrupted(tmp_path, recipe(), identity)


def test_a_branch_that_moved_does_not_matter_where_the_commit_is_cached(caches, tmp_path, monkeypatch):
    use_cache(monkeypatch, caches["old"])
    identity = Identity.of(recipe())
    wanted = corrupted(tmp_path, recipe(), identity)
    use_cache(monkeypatch, caches["moved"])
    moved = Identity.of(recipe())
    assert moved.models["corruption"] == f"org/tiny@{NEW}"
    assert corrupted(tmp_path, recipe(), moved) != wanted
    assert corrupted(tmp_path, recipe(), identity) == wanted


def test_a_folder_that_is_another_one_here_is_refused(tmp_path):
    folder = Path(shutil.copytree(TINY, tmp_path / "tiny"))
    made_by = recipe(model=str(folder))
    identity = Identity.of(made_by)
    other_weights(folder)
    with pytest.raises(WorkerError) as caught:
        corrupted(tmp_path, made_by, identity)
    here = Identity.of(made_by).models["corruption"]
    assert f"models.corruption: {identity.models['corruption']} -> {here}" in str(caught.value)
    assert "hf download" not in str(caught.value)


@pytest.mark.parametrize(
    ("role", "text", "model"),
    [
        ("regions", SEGMENTED, "org/net"),
        (
            "detector",
            RECIPE.replace("MODEL", "tinytown")
            + "selection: {largest_artifact_area: 0.5, detector: org/seen}",
            "org/seen",
        ),
    ],
)
def test_segmenters_are_held_to_their_commit_too(role, text, model, tmp_path, monkeypatch):
    add_snapshot(tmp_path / "here", model, OLD, save_upernet(tmp_path / "one", bias=3.0))
    add_snapshot(tmp_path / "there", model, NEW, save_upernet(tmp_path / "two", bias=-3.0))
    made_by = parse_recipe(text, "segmented.yaml")
    use_cache(monkeypatch, tmp_path / "here")
    identity = Identity.of(made_by)
    use_cache(monkeypatch, tmp_path / "there")
    with pytest.raises(WorkerError, match=f"models.{role}: {model}@{OLD} -> {model}@{NEW}"):
        SelectRegions(made_by, str(tmp_path / "out"), identity)(shard_of(2))


def test_a_segmenter_is_loaded_at_its_commit_though_the_branch_moved(tmp_path, monkeypatch):
    add_snapshot(tmp_path / "cache", "org/net", OLD, save_upernet(tmp_path / "one", bias=3.0))
    made_by = parse_recipe(SEGMENTED, "segmented.yaml")
    use_cache(monkeypatch, tmp_path / "cache")
    identity = Identity.of(made_by)
    add_snapshot(tmp_path / "cache", "org/net", NEW, save_upernet(tmp_path / "two", bias=-3.0))
    moved = Identity.of(made_by)
    assert (identity.models["regions"], moved.models["regions"]) == (f"org/net@{OLD}", f"org/net@{NEW}")
    reasons = []
    for one in (identity, moved):
        samples = from_table(shard_of(2)).samples
        for sample in samples:
            sample.mask = None
        table = SelectRegions(made_by, str(tmp_path / "out"), one)(to_table(ShardOfSamples(0, samples)))
        reasons.append([sample.reason for sample in from_table(table).samples])
    assert reasons == [["", ""], ["no_region", "no_region"]]


def planned(out: Path, made_by: Recipe) -> Identity:
    """Begins an output and makes nothing of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("factory.pipeline.cluster.connect", lambda address: None)
        patch.setattr("factory.pipeline.cluster.check_resources", lambda pools, patience: {})

        def stopped(*_: object) -> Iterator[int]:
            raise KeyboardInterrupt
            yield

        patch.setattr("factory.pipeline.pipeline.run_shards", stopped)
        with pytest.raises(KeyboardInterrupt):
            build(made_by, str(out))
    return Identity.of(made_by)


@pytest.mark.parametrize("stage", [Load, SelectRegions, Corrupt, Write])
@pytest.mark.parametrize(
    "name", ["torch", "pillow", "flawforge"]
)  # computes; decodes and encodes; all of our code
def test_every_stage_refuses_other_versions(stage, name, tmp_path):
    made_by = recipe(model="tinytown")
    identity = planned(tmp_path / "out", made_by)
    other = replace(identity, versions={**identity.versions, name: "0.0.1"})
    table = shard_of(2) if stage is not Load else pa.table({"shard": [0]})
    with pytest.raises(WorkerError) as caught:
        stage(made_by, str(tmp_path / "out"), other)(table)
    assert f'versions.{name}: "0.0.1" -> "{identity.versions[name]}"' in str(caught.value)
    assert not list((tmp_path / "out").glob("stats/*"))


def test_changed_code_and_missing_packages_are_noticed(tmp_path, monkeypatch):
    made_by = recipe(model="tinytown")
    identity = Identity.of(made_by)
    package = tmp_path / "elsewhere"
    for name in ("actors", "factory", "tinytown"):
        (package / name).mkdir(parents=True)
    (package / "actors" / "corruption.py").write_text("# another version\n")
    monkeypatch.setattr(identity_module, "_ROOT", package)
    monkeypatch.setattr(identity_module, "PACKAGES", (*identity_module.PACKAGES, "no-such-package"))
    with pytest.raises(WorkerError) as caught:
        corrupted(tmp_path, made_by, identity)
    reported = str(caught.value)
    assert f'versions.flawforge: "{identity.versions["flawforge"]}" -> ' in reported
    assert 'versions.no-such-package: (not set) -> "(not installed)"' in reported


Machine = Callable[[int], None]


@pytest.fixture
def build_on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Builds with a machine of its own for every shard: `machine(number)` sets up the one that makes it."""

    def made(out: Path, machine: Machine, *changes: str, mode: Mode = Mode.RESUME) -> Path:
        def run(
            made_by: Recipe, url: str, identity: Identity, todo: Sequence[int], run: str
        ) -> Iterator[int]:
            for number in todo:
                table = pa.table({"shard": [number]})
                machine(number)
                for stage in (Load, SelectRegions, Corrupt, Write):
                    table = stage(made_by, url, identity, run)(table)
                yield number

        monkeypatch.setattr("factory.pipeline.cluster.connect", lambda address: None)
        monkeypatch.setattr("factory.pipeline.cluster.check_resources", lambda pools, patience: {})
        monkeypatch.setattr("factory.pipeline.pipeline.run_shards", run)
        build(recipe(*changes, model=str(TINY)), str(out), mode=mode)
        return out

    return made


def limited(monkeypatch: pytest.MonkeyPatch, name: str, value: str, numbers: set[int]) -> Machine:
    def machine(number: int) -> None:
        if number in numbers:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)

    return machine


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2"),
        ("MKL_CBWR", "COMPATIBLE"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
    ],
)
def test_a_mix_of_hardware_is_reported(name, value, build_on, tmp_path, monkeypatch):
    out = build_on(tmp_path / "out", limited(monkeypatch, name, value, {1}))
    storage = Storage(str(out))
    classes = [read_sidecar(storage, number).hardware["corrupt"] for number in range(3)]
    assert classes[0] == classes[2] and classes[1] == {**classes[0], name: value}
    usual, other = (hardware.describe(one) for one in classes[:2])
    mix = f"corrupt: 2 of 3 shards on {usual}; 1 of 3 shards on {other}"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["hardware"] == {"corrupt": {usual: 2, other: 1}}
    assert mix in (out / "README.md").read_text()
    assert f"mixed hardware, so bytes depend on the machine: {mix}" in lines(look(storage), str(out))
    verdict = verify(storage)
    assert verdict.sound and verdict.notes == (Problem("stats", f"mixed hardware: {mix}"),)


def test_another_cpu_model_and_hidden_flags_are_other_classes(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    text = "processor\t: 0\nmodel name\t: Some CPU @ 2.1GHz\nflags\t\t: fpu {}\n\nprocessor\t: 1\nmodel name\t: no\n"
    monkeypatch.setattr(hardware, "_CPU_INFO", info)
    found = []
    for words in (
        text.format("avx2 fma"),
        text.format("avx2 fma avx512f"),
        text.replace("Some", "Any").format("fma"),
    ):
        info.write_text(words)
        found.append(hardware.hardware_class("cpu"))
    assert [one["cpu"] for one in found] == ["Some CPU @ 2.1GHz"] * 2 + ["Any CPU @ 2.1GHz"]
    level = found[0]["isa"].split()[0]
    assert [one["isa"] for one in found] == [f"{level} avx2 fma", f"{level} avx2 fma avx512f", f"{level} fma"]
    info.unlink()
    assert hardware.hardware_class("cpu")["cpu"]


def test_the_level_that_torch_uses_counts_not_the_one_that_the_cpu_has():
    """As on a machine whose CPU lacks what this one has; on another process, since torch looks once."""
    program = "from actors.hardware import hardware_class; print(hardware_class('cpu')['isa'])"
    reported = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert reported.stdout.split()[0] == "DEFAULT"


def test_a_gpu_has_a_class_of_its_own(tmp_path, monkeypatch):
    """On any machine: what torch and NVIDIA's driver would answer is given."""
    driver = tmp_path / "version"
    driver.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs)\nGCC version: 12.3\n"
    )
    monkeypatch.setattr(hardware, "_DRIVER", driver)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    found = hardware.hardware_class("cuda")
    assert (found["gpu"], found["compute_capability"], found["driver"]) == ("NVIDIA H200", "9.0", "550.54.15")
    assert found["NVIDIA_TF32_OVERRIDE"] == "0" and {"cuda", "cudnn", "cpu", "isa"} <= found.keys()
    assert "NVIDIA_TF32_OVERRIDE" not in hardware.hardware_class("cpu")
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n")
    assert hardware.hardware_class("cuda")["driver"] == "535.104.05"
    driver.unlink()
    assert hardware.hardware_class("cuda")["driver"] == "unknown"


def test_one_kind_of_hardware_is_no_news(build_on, tmp_path):
    out = build_on(tmp_path / "out", lambda number: None)
    storage = Storage(str(out))
    assert verify(storage).notes == () and "hardware" not in (out / "README.md").read_text()
    assert not any("mixed" in line for line in lines(look(storage), str(out)))
    assert not (out / "hardware").exists()


def test_the_recipe_may_refuse_a_mix(build_on, tmp_path, monkeypatch):
    """Also after the first run has ended, and whichever worker begins the second one."""
    out, same = tmp_path / "out", "execution.hardware=same"
    machine = limited(monkeypatch, "ONEDNN_MAX_CPU_ISA", "AVX2", {1, 2})
    with pytest.raises(WorkerError) as caught:
        build_on(out, machine, same)
    storage = Storage(str(out))
    usual = read_sidecar(storage, 0).hardware["corrupt"]
    limit = {**usual, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    reported = str(caught.value)
    assert hardware.describe(usual) in reported and hardware.describe(limit) in reported
    with pytest.raises(WorkerError, match="other hardware than"):
        build_on(out, machine, same)
    assert [path.name for path in out.glob("stats/*")] == ["000000.json"]
    build_on(out, lambda number: monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False), same)
    assert verify(storage).sound and verify(storage).notes == ()


def test_the_first_published_shard_is_the_measure_where_a_run_allowed_any(build_on, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def machine(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt
        monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")

    with pytest.raises(KeyboardInterrupt):
        build_on(out, machine)
    monkeypatch.delenv("MKL_CBWR")
    with pytest.raises(WorkerError, match=r"other hardware than stats/000000\.json"):
        build_on(out, lambda number: None, "execution.hardware=same")


def test_a_damaged_sidecar_of_the_first_shard_is_passed_over(tmp_path):
    shards = [[outputs.sample(key, f"memory://{key}")] for key in "ab"]
    storage = outputs.by_hand(tmp_path / "out", shards)
    storage.replace("stats/000000.json", b"{")
    check_hardware(storage, "corrupt", {"cpu": "some"})
    measure = json.loads(storage.read("hardware/corrupt.json"))
    assert measure == {"from": "stats/000001.json", "hardware": {"cpu": "some"}}


def test_a_worker_with_other_code_beside_that_of_builds_is_refused():
    here = {**versions_here(), "eval": digest_of_code(("eval/predict",))}
    context = RunContext("nowhere", Identity({}, {}, here, {}), code=("eval/predict",))
    check_worker(context, ())
    there = RunContext("nowhere", Identity({}, {}, {**here, "eval": "0123"}, {}), code=("eval/predict",))
    with pytest.raises(WorkerError, match=r'versions\.eval: "0123" -> '):
        check_worker(there, ())
