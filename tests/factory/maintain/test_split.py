"""Training and validation lists: the rule worked out by a plain loop, and what must never be on both sides."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from actors.errors import OutputError
from factory.maintain.split import TRAIN, VALIDATION, split
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_hand, sample


def output(folder: Path, count: int, per_shard: int = 4) -> Storage:
    samples = [sample(f"item-{n}", f"memory://{n}.png", side=2) for n in range(count)]
    return by_hand(folder, [samples[first : first + per_shard] for first in range(0, count, per_shard)])


def lines(storage: Storage, path: str) -> list[str]:
    return storage.read(path).decode().splitlines()


def fraction(seed: int, group: str) -> float:
    return int(hashlib.sha256(f"{seed}\0{group}".encode()).hexdigest()[:16], 16) / 2**64


def test_shards_are_dealt_by_the_hash_of_their_first_key(tmp_path: Path):
    storage = output(tmp_path / "out", 48)
    # In the alphabet, item-10 comes before item-8; a shard is named by the least of its keys.
    least = {shard: min(f"item-{n}" for n in range(4 * shard, 4 * shard + 4)) for shard in range(12)}
    expected = [shard for shard in range(12) if fraction(3, least[shard]) < 0.4]
    assert 0 < len(expected) < 12
    dealt = split(storage, share=0.4, seed=3)
    assert lines(storage, VALIDATION) == [f"{storage.url}/shards/{shard:06d}.tar" for shard in expected]
    assert dealt.validation == tuple(lines(storage, VALIDATION))
    assert sorted(dealt.train + dealt.validation) == [
        f"{storage.url}/shards/{shard:06d}.tar" for shard in range(12)
    ]
    assert (dealt.validation_samples, dealt.train_samples) == (4 * len(expected), 48 - 4 * len(expected))


def test_keys_are_dealt_about_as_asked_and_only_accepted_ones(tmp_path: Path):
    samples = [
        sample(f"item-{n}", f"memory://{n}.png", rejected="spilled" if n % 10 == 0 else "", side=2)
        for n in range(600)
    ]
    storage = by_hand(tmp_path / "out", [samples[:300], samples[300:]])
    dealt = split(storage, share=0.2, by_key=True)
    accepted = [f"item-{n}" for n in range(600) if n % 10]
    assert sorted(dealt.train + dealt.validation) == sorted(accepted)
    assert list(dealt.validation) == [key for key in accepted if fraction(0, key) < 0.2]
    assert 0.14 < len(dealt.validation) / 540 < 0.26
    assert lines(storage, TRAIN) == list(dealt.train)


def test_added_samples_move_no_other(tmp_path: Path):
    before = split(output(tmp_path / "small", 100), share=0.3, by_key=True)
    after = split(output(tmp_path / "large", 140), share=0.3, by_key=True)
    assert set(before.train) <= set(after.train)
    assert set(before.validation) <= set(after.validation)


def test_another_seed_deals_otherwise_and_the_same_one_the_same(tmp_path: Path):
    storage = output(tmp_path / "out", 80)
    first, again, other = (split(storage, share=0.5, seed=seed, by_key=True) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("urls", "members"),
    [
        # One file under two keys.
        (lambda n: f"memory://{n // 2}.png", {}),
        # One name in one tar, with masks at other places.
        (
            lambda n: "memory://clean.tar",
            {f"item-{n}": json.dumps({"stem": f"s{n // 2}", "mask": [n, 1]}) for n in range(60)},
        ),
        # Members that are no JSON of ours.
        (lambda n: "memory://clean.zip", {f"item-{n}": f"s{n // 2}" for n in range(60)}),
    ],
)
def test_samples_of_one_source_image_are_on_one_side(tmp_path: Path, urls, members):
    samples = [sample(f"item-{n}", urls(n), side=2) for n in range(60)]
    storage = by_hand(tmp_path / "out", [samples[:30], samples[30:]], members=members)
    dealt = split(storage, share=0.5, by_key=True)
    sides = {key: side for side, keys in enumerate((dealt.train, dealt.validation)) for key in keys}
    assert len(sides) == 60 and set(sides.values()) == {0, 1}
    assert all(sides[f"item-{n}"] == sides[f"item-{n + 1}"] for n in range(0, 60, 2))


def test_variants_of_a_key_are_on_its_side(tmp_path: Path):
    keys = [f"cat-{n:016x}{ending}" for n in range(30) for ending in ("", "-2", "_b-1")]
    samples = [sample(key, f"memory://{key}.png", side=2) for key in keys]
    dealt = split(by_hand(tmp_path / "out", [samples]), share=0.5, by_key=True)
    of = [{key[:20] for key in side} for side in (dealt.train, dealt.validation)]
    assert of[0] and of[1] and not of[0] & of[1]


def test_shards_that_share_an_image_are_on_one_side(tmp_path: Path):
    """Shards 0, 2 and 4 are tied by images, 1 and 3 as well; 5 is alone."""
    tied = {0: "x", 8: "x", 9: "y", 16: "y", 4: "z", 12: "z"}
    samples = [sample(f"item-{n:02d}", f"memory://{tied.get(n, n)}.png", side=2) for n in range(24)]
    storage = by_hand(tmp_path / "out", [samples[first : first + 4] for first in range(0, 24, 4)])
    seen = set()
    for seed in range(12):
        dealt = split(storage, share=0.5, seed=seed)
        seen.add(frozenset(int(url[-10:-4]) for url in dealt.validation))
    ties = [{0, 2, 4}, {1, 3}, {5}]
    assert len(seen) > 2
    assert all(tie <= side or not tie & side for side in seen for tie in ties)


def test_no_side_is_empty(tmp_path: Path):
    storage = output(tmp_path / "out", 12)
    fractions = {n: fraction(0, min(f"item-{m}" for m in range(4 * n, 4 * n + 4))) for n in range(3)}
    least, most = min(fractions, key=fractions.get), max(fractions, key=fractions.get)
    assert [url[-10:-4] for url in split(storage, share=1e-9).validation] == [f"{least:06d}"]
    assert [url[-10:-4] for url in split(storage, share=1 - 1e-9).train] == [f"{most:06d}"]


def test_a_shard_of_rejects_is_on_no_side(tmp_path: Path):
    shards = [[sample(f"item-{n}", f"memory://{n}.png", rejected="x" if n == 1 else "")] for n in range(3)]
    dealt = split(by_hand(tmp_path / "out", shards), share=0.5)
    assert sorted(url[-10:-4] for url in dealt.train + dealt.validation) == ["000000", "000002"]


def test_what_cannot_be_divided_is_reported(tmp_path: Path):
    one = output(tmp_path / "one", 4)
    with pytest.raises(OutputError, match="all its samples are of one shard or one source image"):
        split(one, share=0.1)
    part = output(tmp_path / "part", 8)
    (Path(part.url) / "stats/000001.json").unlink()
    with pytest.raises(OutputError, match="is not complete: 1 of 2 shards"):
        split(part, share=0.1)
    with pytest.raises(ValueError, match="above 0 and below 1"):
        split(one, share=1.0)
    assert not (Path(part.url) / "splits").exists()
