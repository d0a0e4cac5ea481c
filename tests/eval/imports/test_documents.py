"""Gallery, manifest and look-ups of imported sets."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.errors import OutputError
from eval.imports.gallery import write_import_gallery
from eval.imports.inspect import inspect_import, write_images
from eval.imports.job import import_set, rewrite_documents
from eval.imports.verify import verify_import
from eval.mask_folders.data_set import MaskFolder, MaskFolderSettings
from eval.outline import outline_path
from factory.output.identity import Identity
from factory.store.storage import Storage
from flawforge.imports import imported_set
from tests.coco_files import rectangle, write_image
from tests.eval.mask_folders.test_data_set import write_mask

INSIDE = rectangle(5, 5, 20, 20)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images, of which one has no mask, in four shards."""
    folder = tmp_path_factory.mktemp("imported")
    for number in range(8):
        write_image(folder / f"images/{number}.png", number)
        if number != 5:
            write_mask(folder / f"masks/{number}.png", INSIDE)
    settings = MaskFolderSettings(images=str(folder / "images"), masks=str(folder / "masks"))
    import_set(MaskFolder(settings), str(folder / "out"), per_shard=2)
    return folder / "out"


def test_the_gallery_shows_images_with_outlines(imported: Path):
    assert write_import_gallery(Storage(str(imported)), "masks") == 8
    page = (imported / "gallery.html").read_text()
    assert page.count('class="tile accepted"') == 7 and page.count('class="tile rejected"') == 1
    assert page.count(f'd="{outline_path(INSIDE)}"') == 7
    assert page.count("<figcaption>image</figcaption>") == 7
    assert (
        "changed pixels</span>" not in page
        and "Not made" not in page
        and "<figcaption>before</figcaption>" not in page
    )
    assert "No picture: missing mask" in page
    shown = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", page)]
    originals = [
        np.asarray(Image.open(imported.parent / f"images/{n}.png")).tobytes() for n in range(8) if n != 5
    ]
    assert sorted(np.asarray(Image.open(io.BytesIO(data))).tobytes() for data in shown) == sorted(originals)
    assert verify_import(Storage(str(imported))).sound


def test_a_gallery_of_a_few(imported: Path):
    assert write_import_gallery(Storage(str(imported)), "masks", tiles=4) == 4


def test_an_item_is_looked_up(imported: Path, tmp_path: Path):
    rows = [
        row for path in sorted(imported.glob("index/*.parquet")) for row in pq.read_table(path).to_pylist()
    ]
    row = next(row for row in rows if not row["reason"])
    item = inspect_import(Storage(str(imported)), row["key"])
    assert (item.status, item.problems) == ("accepted", ())
    assert [file.name for file in item.files] == ["image.png", "mask.png", "json"]
    assert item.index["mask_area"] == INSIDE.mean()
    written = write_images(item, tmp_path)
    assert [path.name for path in written] == [
        f"{row['key']}.{name}" for name in ("image.png", "mask.png", "json")
    ]
    refused = next(row for row in rows if row["reason"])
    item = inspect_import(Storage(str(imported)), refused["key"])
    assert (item.status, item.index["reason"], item.files) == ("rejected", "missing_mask", ())
    with pytest.raises(OutputError, match="has no item with the key"):
        inspect_import(Storage(str(imported)), "nothing")


def test_a_damaged_sample_is_reported(imported: Path, tmp_path: Path):
    out = shutil.copytree(imported, tmp_path / "out")
    tar = out / "shards/000000.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    key = pq.read_table(out / "index/000000.parquet")["key"][0].as_py()
    problems = inspect_import(Storage(str(out)), key).problems
    assert problems == ("image.png is not the file that the index records",)


def test_manifest_and_card_are_written_anew(imported: Path, tmp_path: Path):
    out = shutil.copytree(imported, tmp_path / "out")
    before = {name: (out / name).read_bytes() for name in ("manifest.json", "README.md")}
    for name in before:
        (out / name).write_text("damaged")
    storage = Storage(str(out))
    assert not verify_import(storage).sound
    total = rewrite_documents(imported_set(storage), storage).total
    assert (total.accepted, total.rejected, total.complete) == (7, 1, True)
    assert {name: (out / name).read_bytes() for name in before} == before
    (out / "stats/000003.json").unlink()
    assert rewrite_documents(imported_set(storage), storage).total.done == 3


def test_an_index_of_a_build_or_a_damaged_one(imported: Path, tmp_path: Path):
    out = shutil.copytree(imported, tmp_path / "out")
    for data in (b"", b"PAR1"):
        (out / "index/000001.parquet").write_bytes(data)
        with pytest.raises(OutputError, match=r"index/000001\.parquet is damaged"):
            write_import_gallery(Storage(str(out)), "masks")
    table = pq.read_table(out / "index/000000.parquet")
    pq.write_table(table.drop_columns(["source"]), out / "index/000001.parquet")
    with pytest.raises(OutputError, match="has other columns than an import writes"):
        write_import_gallery(Storage(str(out)), "masks")


def test_an_identity_of_another_version(imported: Path, tmp_path: Path):
    """Its digest is right, but its settings are not those of this version."""
    for number, content in enumerate(({"kind": "masks", "images": 3}, {"kind": "other"}, 7)):
        identity = Identity({"import": content, "output": {}}, {}, {}, {})
        document = json.loads((imported / "identity.json").read_text())
        out = tmp_path / str(number)
        out.mkdir()
        new = {**document, **identity.document, "digest": identity.digest}
        (out / "identity.json").write_text(json.dumps(new))
        with pytest.raises(OutputError, match=r"identity\.json"):
            imported_set(Storage(str(out)))
