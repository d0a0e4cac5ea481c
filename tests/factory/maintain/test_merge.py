"""Merging: bytes stay, numbers change, keys stay unique, and every check still holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from actors.batch import Sample
from actors.errors import OutputError
from factory.maintain.inspect import inspect
from factory.maintain.merge import Merged, merge
from factory.maintain.verify import read_index, verify
from factory.output.identity import check_same, read_identity
from factory.output.lock import Lock
from factory.output.manifest import done_shards
from factory.output.plan import read_plan, write_plan
from factory.output.provenance import part_at, parts_of
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_hand, sample


def samples(word: str, count: int, rejects: tuple[int, ...] = ()) -> list[Sample]:
    return [
        sample(f"{word}-{n}", f"memory://{word}/{n}.png", rejected="spilled" if n in rejects else "")
        for n in range(count)
    ]


def shards(all_of_it: list[Sample], size: int) -> list[list[Sample]]:
    return [all_of_it[first : first + size] for first in range(0, len(all_of_it), size)]


@pytest.fixture
def cats(tmp_path: Path) -> Storage:
    """Shards of 3, 3 and 2, with two rejects in the second."""
    return by_hand(tmp_path / "cats", shards(samples("cat", 8, (3, 5)), 3), name="cats", skipped={"md": 2})


@pytest.fixture
def dogs(tmp_path: Path) -> Storage:
    """Shards of 4 and 1; the second holds a reject only, and so has no tar."""
    return by_hand(
        tmp_path / "dogs", shards(samples("dog", 5, (4,)), 4), name="dogs", skipped={"md": 1, "gif": 4}
    )


def merged(tmp_path: Path, *parts: Storage, **keywords: object) -> tuple[Storage, Merged]:
    out = Storage(str(tmp_path / "merged"))
    return out, merge(out.url, [part.url for part in parts], **keywords)


def plan_of(out: Storage) -> str:
    """sha256 of the plan, which every sidecar names."""
    return hashlib.sha256(out.read("plan.parquet")).hexdigest()


def test_the_shards_are_copied_byte_for_byte_under_new_numbers(tmp_path: Path, cats: Storage, dogs: Storage):
    out, report = merged(tmp_path, cats, dogs)
    assert (report.copied, report.rewritten, report.left_out) == (5, 0, 0)
    for new, (part, old) in enumerate([(cats, 0), (cats, 1), (cats, 2), (dogs, 0), (dogs, 1)]):
        for path in ("shards/{:06d}.tar", "index/{:06d}.parquet"):
            if (part, old, path[:6]) == (dogs, 1, "shards"):
                assert not out.exists(path.format(new))
            else:
                assert out.read(path.format(new)) == part.read(path.format(old))
        there, here = (
            json.loads(storage.read(f"stats/{n:06d}.json")) for storage, n in ((part, old), (out, new))
        )
        assert here == {**there, "shard": new, "plan_sha256": plan_of(out)}


def test_the_whole_is_sound_and_its_figures_add_up(tmp_path: Path, cats: Storage, dogs: Storage):
    out, report = merged(tmp_path, cats, dogs)
    verdict = verify(out)
    assert verdict.problems == () and verdict.sound
    assert (verdict.planned, verdict.accepted, verdict.rejected, verdict.shards) == (13, 10, 3, 5)
    manifest = json.loads(out.read("manifest.json"))
    assert manifest["name"] == "merged" and manifest["complete"]
    assert manifest["totals"]["reasons"] == {"spilled": 3}
    assert manifest["skipped_while_listing"] == {"gif": 4, "md": 3}
    assert [one["planned"] for one in manifest["shards"]] == [3, 3, 2, 4, 1]
    plan = read_plan(out)
    assert ([plan.size(n) for n in range(5)], plan.items, plan.shards) == ([3, 3, 2, 4, 1], 13, 5)
    assert [[item.key for item in plan.shard(n)] for n in (2, 3, 4)] == [
        ["cat-6", "cat-7"],
        ["dog-0", "dog-1", "dog-2", "dog-3"],
        ["dog-4"],
    ]
    assert report.total.unet_rows == 13 * 30


def test_where_everything_came_from(tmp_path: Path, cats: Storage, dogs: Storage):
    out, _ = merged(tmp_path, cats, dogs)
    of_cats, of_dogs = (read_identity(part)[0] for part in (cats, dogs))
    document = json.loads(out.read("identity.json"))["content"]["parts"]
    assert [(part["url"], part["name"], part["digest"], part["shards"]) for part in document] == [
        (cats.url, "cats", of_cats.digest, 3),
        (dogs.url, "dogs", of_dogs.digest, 2),
    ]
    assert [part["recipe"].encode() for part in document] == [
        cats.read("recipe.yaml"),
        dogs.read("recipe.yaml"),
    ]
    assert [part.identity for part in parts_of(out, read_plan(out))] == [of_cats, of_dogs]
    parts = parts_of(out, read_plan(out))
    digests = [part_at(parts, number).identity.digest for number in range(5)]
    assert digests == [of_cats.digest] * 3 + [of_dogs.digest] * 2
    item = inspect(out, "dog-2")
    assert item.made_by == {"recipe": "dogs", "digest": of_dogs.digest, "output": dogs.url}
    assert (item.status, item.plan["shard"], item.problems) == ("accepted", 3, ())
    assert item.about is not None and item.about["recipe_digest"] == of_dogs.digest


def test_a_merged_output_is_not_built_upon(tmp_path: Path, cats: Storage, dogs: Storage):
    out, _ = merged(tmp_path, cats, dogs)
    with pytest.raises(OutputError, match=r"another recipe(.|\n)*parts: "):
        check_same(out, read_identity(out)[0], read_identity(cats)[0])


def other_parts(tmp_path: Path) -> tuple[Storage, Storage]:
    """Parts of different recipes."""
    from factory.output.identity import Identity

    made = []
    for word, seed in (("cat", 1), ("dog", 2)):
        identity = Identity({}, {"corruption": f"{word}@0"}, {"flawforge": str(seed)}, {"corruption": "cpu"})
        shards = [samples(word, 3)]
        made.append(by_hand(tmp_path / word, shards, name=word, identity=identity, changes=[f"seed={seed}"]))
    return made[0], made[1]


def test_a_shard_in_the_place_of_another_part_s_is_reported(tmp_path: Path):
    out, _ = merged(tmp_path, *other_parts(tmp_path))
    assert verify(out).sound
    document = json.loads(out.read("identity.json"))
    assert document["models"] == {"corruption": "cat@0, dog@0"}
    assert document["versions"] == {"flawforge": "1, 2"} and document["devices"] == {"corruption": "cpu"}
    root = Path(out.url)
    stats = json.loads((root / "stats/000001.json").read_text())
    stats["digest"] = json.loads((root / "stats/000000.json").read_text())["digest"]
    (root / "stats/000001.json").write_text(json.dumps(stats))
    assert "stats/000001.json: it was made by another recipe" in "\n".join(map(str, verify(out).problems))


def test_duplicates_are_refused_with_the_first_few_named(tmp_path: Path, cats: Storage):
    again = by_hand(tmp_path / "again", [samples("cat", 7), samples("dog", 1)], name="again")
    with pytest.raises(OutputError) as error:
        merged(tmp_path, cats, again)
    assert "7 keys are duplicated: " + f"cat-0 ({cats.url} and {again.url}), cat-1" in str(error.value)
    assert "cat-4" in str(error.value) and "cat-5" not in str(error.value)
    assert not (tmp_path / "merged").exists()


def test_the_first_of_two_stays(tmp_path: Path, cats: Storage):
    """Of the other output the first shard loses one of three, the second all, the third nothing."""
    birds = samples("bird", 6, (1,))
    other = [[birds[0], birds[1], samples("cat", 8)[4]], samples("cat", 3), birds[3:6]]
    again = by_hand(tmp_path / "again", other, name="again")
    out, report = merged(tmp_path, cats, again, first_wins=True)
    assert (report.copied, report.rewritten, report.left_out) == (4, 1, 4)
    assert verify(out).sound
    without = by_hand(tmp_path / "without", [other[0][:2]], name="again")
    for path in ("shards/{:06d}.tar", "index/{:06d}.parquet"):
        assert out.read(path.format(3)) == without.read(path.format(0))
        assert out.read(path.format(4)) == again.read(path.format(2))
    sidecar = json.loads(out.read("stats/000003.json"))
    assert sidecar == {
        **json.loads(without.read("stats/000000.json")),
        "shard": 3,
        "plan_sha256": plan_of(out),
    }
    manifest = json.loads(out.read("manifest.json"))
    assert manifest["totals"]["planned"] == 8 + 2 + 3
    keys = [row["key"] for number in sorted(done_shards(out)) for row in read_index(out, number)]
    assert len(keys) == len(set(keys)) == 13


def test_a_shard_that_loses_all_its_accepted_samples_loses_its_tar(tmp_path: Path, cats: Storage):
    other = [[samples("cat", 1)[0], *samples("bird", 2, (0, 1))]]
    out, _ = merged(tmp_path, cats, by_hand(tmp_path / "again", other, name="again"), first_wins=True)
    assert verify(out).sound and not out.exists("shards/000003.tar")
    sidecar = json.loads(out.read("stats/000003.json"))
    assert (sidecar["accepted"], sidecar["rejected"], sidecar["tar"]) == (0, 2, None)


def test_a_merge_that_was_stopped_goes_on(tmp_path: Path, cats: Storage, dogs: Storage):
    out, _ = merged(tmp_path, cats, dogs)
    root = Path(out.url)
    whole = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for path in (
        "stats/000001.json",
        "stats/000003.json",
        "index/000003.parquet",
        "manifest.json",
        "README.md",
    ):
        (root / path).unlink()
    (root / "shards/000003.tar").write_bytes(b"half a tar")
    merged(tmp_path, cats, dogs)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == whole


def test_what_is_already_there_is_left_alone(tmp_path: Path, cats: Storage, dogs: Storage):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds files already; merge into a new or empty folder"):
        merged(tmp_path, cats, dogs)
    with pytest.raises(OutputError, match="holds another data set"):
        merge(cats.url, [cats.url, dogs.url])
    assert [path.name for path in (tmp_path / "merged").iterdir()] == ["thesis.txt"]


def test_inputs_that_cannot_be_merged(tmp_path: Path, cats: Storage, dogs: Storage):
    with pytest.raises(OutputError, match="at least two outputs, each once"):
        merged(tmp_path, cats, Storage(cats.url + "/"))
    path = Path(dogs.url) / "shards/000000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:700] + b"?" + whole[701:])
    with pytest.raises(OutputError, match=r"dogs: shards/000000\.tar is damaged"):
        merged(tmp_path, cats, dogs)
    (Path(dogs.url) / "stats/000001.json").unlink()
    with pytest.raises(OutputError, match="dogs is not complete: 1 of 2 shards"):
        merged(tmp_path, cats, dogs)
    with pytest.raises(OutputError, match=r"plan\.parquet is missing"):
        merged(tmp_path, cats, Storage(str(tmp_path / "nowhere")))


def test_merged_outputs_are_merged_again(tmp_path: Path, cats: Storage, dogs: Storage):
    out, _ = merged(tmp_path, cats, dogs)
    birds = by_hand(tmp_path / "birds", shards(samples("bird", 3), 2), name="birds")
    all_of_it = Storage(str(tmp_path / "zoo"))
    merge(all_of_it.url, [birds.url, out.url], name="zoo")
    assert verify(all_of_it).sound
    parts = parts_of(all_of_it, read_plan(all_of_it))
    assert [(part.name, part.shards) for part in parts] == [("birds", 2), ("cats", 3), ("dogs", 2)]
    assert inspect(all_of_it, "cat-7").made_by["output"] == cats.url


def test_between_stores(tmp_path: Path, cats: Storage, dogs: Storage):
    import fsspec

    files = fsspec.filesystem("memory")
    files.put(cats.url, "/bucket/cats", recursive=True)
    merge("memory://bucket/merged", ["memory://bucket/cats", dogs.url])
    out = Storage("memory://bucket/merged")
    assert verify(out).sound
    assert out.read("shards/000003.tar") == dogs.read("shards/000000.tar")
    files.rm("/bucket", recursive=True)


def test_a_large_plan_of_uneven_shards_reads_back(tmp_path: Path):
    """9,000 items in shards of 1 to 9 items, so that several row groups hold whole shards."""

    from factory.output.identity import Identity, claim
    from factory.output.provenance import Part, merged_identity
    from factory.output.reference import Reference

    sizes = [1 + n % 9 for n in range(1800)]
    items = iter(Reference(f"item-{n}", f"memory://{n}", "", "", "") for n in range(9000))
    storage = Storage(str(tmp_path / "out"))
    sha256 = write_plan(([next(items) for _ in range(size)] for size in sizes), {"md": 1}, tmp_path / "plan")
    storage.settle("plan.parquet", tmp_path / "plan")
    identity = merged_identity("x", [Part("a", "a", 1800, "name: a", Identity({}, {}, {}, {}))])
    claim(storage, identity, sha256)
    plan = read_plan(storage)
    assert [plan.size(n) for n in range(1800)] == sizes and plan.items == 9000 and plan.skipped == {"md": 1}
    first = 0
    for number, size in enumerate(sizes):
        if number % 97 == 0 or number == 1799:
            assert [item.key for item in plan.shard(number)] == [f"item-{first + n}" for n in range(size)]
        first += size


def test_two_merges_at_once(tmp_path: Path, cats: Storage, dogs: Storage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("factory.output.lock.HEARTBEAT", 0.2)
    out = tmp_path / "merged"
    with Lock(Storage(str(out))), pytest.raises(OutputError, match="another run"):
        merge(str(out), [cats.url, dogs.url])
    merge(str(out), [cats.url, dogs.url])
    assert not (out / "lock.json").exists() and verify(Storage(str(out))).sound


@pytest.mark.parametrize("version", [1, 2, 4])
def test_an_output_of_another_schema_version_is_refused_by_name(
    tmp_path: Path, cats: Storage, dogs: Storage, version: int
):
    from tests.factory.maintain.forger import change_sidecar

    change_sidecar(dogs, lambda document: document.update(schema_version=version))
    words = rf"stats/000000\.json has schema version {version}, this Flawforge reads 3 only; use the version that made"
    with pytest.raises(OutputError, match=words):
        merged(tmp_path, cats, dogs)


@pytest.mark.parametrize("changes", [{"digest": "0" * 64}, {"plan_sha256": "0" * 64}])
def test_an_input_with_a_shard_that_is_not_its_own(
    tmp_path: Path, cats: Storage, dogs: Storage, changes: dict[str, str]
):
    path = Path(dogs.url) / "stats/000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(OutputError, match=r"dogs: shard 000001 .*run flawforge verify"):
        merged(tmp_path, cats, dogs)
    assert not (tmp_path / "merged").exists()
