"""`verify` proves `accepted + rejected = planned`, and sees every kind of damage. Shards are made by hand, no Ray."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from actors.batch import Sample
from actors.errors import OutputError, Reject
from actors.images import encode_image, encode_mask
from factory.maintain.verify import Verdict, read_index, verify
from factory.output.identity import Identity, check_same, claim
from factory.output.manifest import done_shards
from factory.output.plan import Plan, draw_plan, read_plan
from factory.output.rebuild import rebuild
from factory.output.reference import Reference
from factory.output.schema import ShardOfSamples, from_table, to_table
from factory.output.shards.writer import Provenance, write_shard
from factory.recipe.recipe import content, dump
from factory.store.storage import Storage
from tests.factory.maintain.outputs import measured, recipe

RECIPE = recipe("small", "source.size=16")
IDENTITY = Identity(content(RECIPE), {"corruption": "none@0"}, {"flawforge": "0"}, {"corruption": "cpu"})
HOW = Provenance(IDENTITY.digest, "noise", 50)


def sample(number: int, *, rejected: bool = False) -> Sample:
    rng = np.random.default_rng(number)
    image = encode_image(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    mask = encode_mask(rng.random((16, 16)) < 0.3)
    one = Sample(f"item-{number}", f"file-{number}.png", "a caption", image=image, mask=mask)
    one.corrupted, one.changed, one.seed, one.attempts, one.inversion_steps = (
        image,
        mask,
        number,
        1,
        5 + number,
    )
    one.metrics, one.verified = measured(mask), True
    if rejected:
        one.reject("verify", Reject("unchanged", "nothing changed"))
    return one


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    """Three shards of four: one with a reject, one whole, one in which everything was rejected."""
    storage = Storage(str(tmp_path / "out"))
    references = [Reference(f"item-{n}", f"file-{n}.png", "", "", "") for n in range(12)]
    sha256 = draw_plan(iter(references), 4, {}, tmp_path / "plan.parquet")
    storage.settle("plan.parquet", tmp_path / "plan.parquet")
    storage.replace("recipe.yaml", dump(RECIPE).encode())
    claim(storage, IDENTITY, sha256)
    for number in range(3):
        samples = [sample(n, rejected=number == 2 or n == 1) for n in range(4 * number, 4 * number + 4)]
        write_shard(storage, ShardOfSamples(number, samples, {"load": 0.5}), HOW, original=True)
    rebuild(storage)
    return storage


def check(storage: Storage) -> Verdict:
    return verify(storage)


def problems(storage: Storage) -> str:
    verdict = check(storage)
    assert not verdict.sound
    return "\n".join(map(str, verdict.problems))


def rewrite(storage: Storage, change: Callable[[dict[str, bytes]], None], *, honest: bool = True) -> None:
    """Changes members of the first tar; `honest` also updates the sidecar, as a thorough forger would."""
    path = Path(storage.url) / "shards/000000.tar"
    with tarfile.open(path) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    change(files)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    path.write_bytes(buffer.getvalue())
    if honest:
        sidecar = Path(storage.url) / "stats/000000.json"
        stats = json.loads(sidecar.read_text())
        stats["tar"] = {
            "bytes": len(buffer.getvalue()),
            "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        }
        sidecar.write_text(json.dumps(stats, separators=(",", ":")))


def test_a_sound_output(output: Storage):
    verdict = check(output)
    assert verdict.problems == () and verdict.sound
    assert (verdict.planned, verdict.accepted, verdict.rejected) == (12, 7, 5)


def test_a_shard_of_rejects_has_no_tar(output: Storage):
    assert done_shards(output) == {0, 1, 2}
    assert output.names("shards") == ["000000.tar", "000001.tar"]


def test_writing_again_gives_the_same_bytes(output: Storage, tmp_path: Path):
    other = Storage(str(tmp_path / "other"))
    samples = [sample(n, rejected=n == 1) for n in range(4)]
    write_shard(other, ShardOfSamples(0, samples, {"load": 99.0}), HOW, original=True)
    for path in ("shards/000000.tar", "index/000000.parquet"):
        assert other.read(path) == output.read(path)


def test_one_flipped_byte(output: Storage):
    path = Path(output.url) / "shards/000001.tar"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "shards/000001.tar: its sha256 is not that of the sidecar" in problems(output)


def test_one_flipped_byte_in_an_index(output: Storage):
    path = Path(output.url) / "index/000001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "000001" in problems(output)


def test_a_missing_member_even_with_a_forged_sidecar(output: Storage):
    rewrite(output, lambda files: files.pop("item-2.mask.png"))
    assert problems(output) == "shards/000000.tar item-2: missing mask.png"


def test_a_missing_sample(output: Storage):
    def drop(files: dict[str, bytes]) -> None:
        for name in [name for name in files if name.startswith("item-3.")]:
            del files[name]

    rewrite(output, drop)
    assert problems(output) == "shards/000000.tar item-3: not in the tar"


def test_a_mask_of_another_size(output: Storage):
    small = encode_mask(np.ones((8, 16), bool))
    rewrite(output, lambda files: files.update({"item-0.mask.png": small}))
    assert "shards/000000.tar item-0: mask.png is 16 x 8 pixels, the recipe's are 16 x 16" in problems(output)


def test_another_image_under_the_same_name(output: Storage):
    other = encode_image(np.zeros((16, 16, 3), np.uint8))
    rewrite(output, lambda files: files.update({"item-0.image.png": other}))
    assert "item-0: image.png is not that of the index: 76 bytes, the index says 852" in problems(output)


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("seed", "json has the seed 77, the index 3"),
        ("inversion_steps", "json has the inversion_steps 77, the index 8"),
    ],
)
def test_figures_that_differ_from_the_index(output: Storage, name: str, reported: str):
    def change(files: dict[str, bytes]) -> None:
        files["item-3.json"] = json.dumps({**json.loads(files["item-3.json"]), name: 77}).encode()

    rewrite(output, change)
    assert f"shards/000000.tar item-3: {reported}" in problems(output)


def test_a_member_that_nobody_planned(output: Storage):
    rewrite(output, lambda files: files.update({"stranger.image.png": b"?"}))
    assert "stranger: in the tar, but not accepted in the index" in problems(output)


def test_a_sidecar_without_its_tar(output: Storage):
    (Path(output.url) / "shards/000001.tar").unlink()
    assert problems(output) == "shards/000001.tar: missing: the sidecar stands without its tar"


def test_a_tar_without_its_sidecar(output: Storage):
    (Path(output.url) / "stats/000001.json").unlink()
    found = problems(output)
    assert "shards/000001.tar: stands without its sidecar" in found
    assert "000001: not made yet" in found


def test_files_that_are_not_in_the_plan(output: Storage):
    (Path(output.url) / "shards/000009.tar").write_bytes(b"")
    assert "shards/000009.tar: not in the plan" in problems(output)


def test_a_damaged_sidecar(output: Storage):
    (Path(output.url) / "stats/000001.json").write_text("{")
    assert "stats/000001.json is damaged" in problems(output)


@pytest.mark.parametrize("path", ["plan.parquet", "identity.json", "manifest.json", "stats/000000.json"])
def test_damage_beside_the_shards_is_reported_and_never_a_traceback(output: Storage, path: str):
    """Truncated, and with one bit flipped in 40 places: sound only where a digit of a duration changed."""
    file = Path(output.url) / path
    whole = file.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            sound = check(output).sound
        except OutputError:
            continue
        changed = file.read_text() if path.startswith("stats") else ""
        assert not sound or (path.startswith("stats") and '"load":0.5' not in changed), place
    file.write_bytes(whole[: len(whole) // 2])
    with contextlib.suppress(OutputError):
        assert not check(output).sound


def test_a_committed_shard_is_never_replaced(output: Storage):
    before = {path: output.read(path) for path in ("shards/000000.tar", "index/000000.parquet")}
    late = [sample(n + 100) for n in range(4)]
    write_shard(output, ShardOfSamples(0, late, {}), HOW, original=True)
    assert {path: output.read(path) for path in before} == before


def test_other_weights_and_other_versions_are_distinguished(output: Storage):
    check_same(output, IDENTITY, IDENTITY)
    weights = Identity(IDENTITY.content, {"corruption": "none@1"}, IDENTITY.versions, IDENTITY.devices)
    with pytest.raises(OutputError, match=r'another recipe(.|\n)*models\.corruption: "none@0" -> "none@1"'):
        check_same(output, IDENTITY, weights)
    newer = Identity(IDENTITY.content, IDENTITY.models, {"flawforge": "1"}, IDENTITY.devices)
    with pytest.raises(OutputError, match=r"other versions of the code(.|\n)*install the versions"):
        check_same(output, IDENTITY, newer)


def test_rejects_keep_their_reason_and_a_preview(output: Storage):
    rows = read_index(output, 0)
    assert [row["status"] for row in rows] == ["accepted", "rejected", "accepted", "accepted"]
    assert (rows[1]["stage"], rows[1]["reason"], rows[1]["detail"]) == (
        "verify",
        "unchanged",
        "nothing changed",
    )
    assert rows[1]["preview_before"] and rows[1]["preview_mask"]
    assert rows[0]["preview_before"] is None


def test_publishing_never_replaces(output: Storage):
    before = output.read("stats/000000.json")
    assert output.publish("stats/000000.json", b"late") is False
    assert output.read("stats/000000.json") == before
    assert output.names("stats") == ["000000.json", "000001.json", "000002.json"]


def test_a_row_travels_unchanged():
    shard = ShardOfSamples(7, [sample(0), sample(1, rejected=True)], {"load": 1.5})
    back = from_table(to_table(shard))
    assert back == shard


def test_a_split_or_merged_shard_is_noticed():
    table = to_table(ShardOfSamples(7, [sample(0)]))
    with pytest.raises(AssertionError, match="expected one shard, found 0 rows"):
        from_table(table.slice(1))


def test_a_plan_reads_back_by_shard(output: Storage):
    plan: Plan = read_plan(output)
    assert (plan.shards, plan.size(2), plan.items) == (3, 4, 12)
    assert [item.key for item in plan.shard(2)] == ["item-8", "item-9", "item-10", "item-11"]


def test_a_folder_without_a_plan(tmp_path: Path):
    with pytest.raises(OutputError, match=r"plan\.parquet is missing"):
        read_plan(Storage(str(tmp_path)))
