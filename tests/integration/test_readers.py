"""The blocks of docs/reading-shards.md, as they stand, in processes that cannot import any code of ours."""

from __future__ import annotations

import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.integration.reading_page import PAGE, block, found, make_output, run
from tests.object_store import reached_at

REPORT = """
import json as _json, sys as _sys
import numpy as np
def _report(image, mask, about, key):
    image, mask = np.asarray(image), np.asarray(mask)
    kinds = [list(image.shape), str(image.dtype), list(mask.shape), str(mask.dtype)]
    return [key, about["key"], *kinds, float(mask.mean())]
def _tell(found):
    ours = {"flawforge", "train", "eval", "factory", "actors", "tinytown"} & set(_sys.modules)
    assert not ours, ours
    print("FOUND " + _json.dumps(found))
"""
BY_NAME = '_tell([_report(s["image.png"], s["mask.png"], s["json"], s["__key__"]) for s in samples])'
BY_WEBDATASET = BY_NAME.replace('s["mask.png"]', 's["mask.png"][..., 0] > 0')
BY_RAY = (
    '_tell([_report(s["image.png"], s["mask.png"], s["json"], s["__key__"]) for s in samples.take_all()])'
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_output(tmp_path_factory.mktemp("made") / "out")


@pytest.fixture(scope="module")
def areas(made) -> dict[str, float]:
    """What the index says of every accepted sample: its mask's share of the image, by key."""
    rows = [row for path in sorted(made.glob("index/*")) for row in pq.read_table(path).to_pylist()]
    assert len(rows) == 20
    return {row["key"]: row["mask_area"] for row in rows if row["status"] == "accepted"}


def check(samples: list[list], areas: dict[str, float]) -> None:
    """Every accepted sample once, with booleans of the share that the index gives."""
    assert sorted(key for key, *_ in samples) == sorted(areas)
    for key, read_key, image, image_type, mask, mask_type, inside in samples:
        assert (read_key, image, image_type, mask, mask_type) == (key, [48, 48, 3], "uint8", [48, 48], "bool")
        assert inside == pytest.approx(areas[key], abs=1e-9) and 0.2 < inside < 0.4


def test_every_block_of_the_page_is_run():
    counts = {heading: len(re.findall(r"```python\n", rest)) for heading, rest in _sections()}
    assert {heading: count for heading, count in counts.items() if count} == {
        "Plain tarfile": 1,
        "webdataset": 3,
        "PyTorch DataLoader": 1,
        "Hugging Face datasets": 2,
        "Ray Data": 1,
        "PyTorch Lightning": 1,
        "Hugging Face Trainer": 1,
        "NVIDIA energon": 1,
        "MosaicML streaming": 2,
        "litdata": 2,
        "The index: what was accepted, what was rejected, and why": 2,
    }


def test_our_code_is_out_of_their_reach(tmp_path):
    code = 'root = "out/quickstart"\nfrom importlib.util import find_spec\nimport numpy\n'
    names = ("flawforge", "factory", "actors", "tinytown")
    assert run(code, "x", tmp_path, f"print([find_spec(name) for name in {names}])") == [str([None] * 4)]


def test_tarfile(made, areas, tmp_path):
    gather = "all_samples.append(_report(image, mask, about, key))\n        print(key, image.shape"
    code = block("Plain tarfile").replace("print(key, image.shape", gather)
    lines = run(REPORT + "all_samples = []\n" + code, str(made), tmp_path, "_tell(all_samples)")
    check(found(lines), areas)
    assert len(lines) == 1 + len(areas)


def test_webdataset_from_a_disk(made, areas, tmp_path):
    lines = run(block("webdataset"), str(made), tmp_path, REPORT + BY_WEBDATASET)
    check(found(lines), areas)
    assert len(lines) == 1 + len(areas)


def test_webdataset_from_a_web_server(made, areas, tmp_path):
    handler = partial(SimpleHTTPRequestHandler, directory=str(made))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        lines = run(block("webdataset", 1), place, tmp_path, REPORT + BY_WEBDATASET)
        server.shutdown()
    check(found(lines), areas)


def test_webdataset_from_a_bucket(made, areas, tmp_path, s3, bucket):
    for path in made.rglob("*.*"):
        s3.client.put_object(Bucket=bucket, Key=f"flaws/{path.relative_to(made)}", Body=path.read_bytes())
    with reached_at(s3.endpoint):
        lines = run(block("webdataset", 2), f"s3://{bucket}/flaws", tmp_path, REPORT + BY_WEBDATASET)
    check(found(lines), areas)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_dataloader_with_two_workers(made, areas, tmp_path, nodes):
    more = (
        REPORT
        + """
samples = [(key, image, mask) for images, masks, keys in loader for key, image, mask in zip(keys, images, masks)]
assert all(torch.equal(mask, mask.bool().float()) for _, _, mask in samples)
assert all(image.dtype == torch.float32 and 0.9 < image.max() <= 1 and image.min() >= 0 for _, image, _ in samples)
images = [(image.permute(1, 2, 0) * 255).round().byte() for _, image, _ in samples]
_tell([_report(image, mask.bool(), {"key": key}, key) for image, (key, _, mask) in zip(images, samples)])
"""
    )
    by_node = [
        found(
            run(block("PyTorch DataLoader"), str(made), tmp_path, more, RANK=str(rank), WORLD_SIZE=str(nodes))
        )
        for rank in range(nodes)
    ]
    assert all(by_node)
    check([one for samples in by_node for one in samples], areas)


@pytest.mark.parametrize("nth", [0, 1], ids=["streaming", "not streaming"])
def test_hugging_face_datasets(made, areas, tmp_path, nth):
    check(found(run(block("Hugging Face datasets", nth), str(made), tmp_path, REPORT + BY_NAME)), areas)


def test_ray_data(made, areas, tmp_path):
    lines = run(block("Ray Data"), str(made), tmp_path, REPORT + BY_RAY, RAY_USAGE_STATS_ENABLED="0")
    check(found(lines), areas)


def test_the_index_with_pandas(made, areas, tmp_path):
    code = block("The index: what was accepted, what was rejected, and why")
    lines = run(
        code, str(made), tmp_path, REPORT + "_tell([accepted.key.tolist(), rejected.reason.tolist()])"
    )
    assert "15 accepted + 5 rejected = 20 planned" in lines
    assert found(lines) == [list(areas), ["unchanged"] * 5]


def test_the_index_with_pyarrow(made, areas, tmp_path):
    code = block("The index: what was accepted, what was rejected, and why", 1)
    (large,) = [line for line in run(code, str(made), tmp_path) if "samples with a region" in line]
    assert int(large.split()[0]) == sum(area > 0.2 for area in areas.values()) == 15


def test_the_page_names_what_a_sample_holds(made):
    import tarfile

    with tarfile.open(made / "shards/000000.tar") as tar:
        members = {member.name.partition(".")[2]: tar.extractfile(member).read() for member in tar}
    # What only some recipes bring is said to be so.
    of_all = [line for line in PAGE.splitlines() if not re.search(r"; only (if|with|where) ", line)]
    assert set(members) == {name for line in of_all for name in re.findall(r"^\| `KEY\.([a-z.]+)` \|", line)}
    table = PAGE.partition("| field of `KEY.json`")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:] if line in of_all]
    documented = {name: kind.strip() for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    assert documented == {name: type(value).__name__ for name, value in json.loads(members["json"]).items()}


def _sections() -> list[tuple[str, str]]:
    parts = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))
