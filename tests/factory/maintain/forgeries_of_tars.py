"""Forged tars: members, headers, JSON and images of the samples."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from actors.images import encode_mask
from factory.store.storage import Storage
from tests.factory.maintain.forger import (
    FIRST,
    SECOND,
    TAR,
    Member,
    change_both,
    change_index,
    change_json,
    change_tar,
    members,
    other_image,
    other_mask,
    packed,
    put_tar,
)
from tests.factory.maintain.forgery import FORGERIES, Forgery, forged


def swapped(*extensions: str) -> Callable[[Storage], None]:
    """Swaps files of the first two samples; the sidecar is refitted."""

    def make(storage: Storage) -> None:
        def change(files: dict[str, bytes]) -> None:
            for extension in extensions:
                one, other = f"{FIRST}.{extension}", f"{SECOND}.{extension}"
                files[one], files[other] = files[other], files[one]

        change_tar(storage, change)

    return make


for _name in ("image", "mask", "changed", "original"):
    FORGERIES.append(
        Forgery(
            f"{_name}_swapped_with_another_sample",
            swapped(f"{_name}.png"),
            f"{TAR} {SECOND}",
            f"{_name}.png is not that of the index",
        )
    )
FORGERIES += [
    Forgery("json_swapped", swapped("json"), f"{TAR} {FIRST}", "json is not that of the index"),
    Forgery(
        "samples_swapped_under_each_others_keys",
        swapped("image.png", "mask.png", "changed.png", "original.png", "json"),
        f"{TAR} {FIRST}",
        "mask.png is not that of the index",
    ),
]

_JSON: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "seed_as_text": (lambda about: about.update(seed="6"), "seed: Input should be a valid integer"),
    "seed_as_float": (lambda about: about.update(seed=6.0), "seed: Input should be a valid integer"),
    "seed_of_4000_digits": (lambda about: about.update(seed=10**4000), "seed"),
    "verified_as_number": (
        lambda about: about.update(verified=1),
        "verified: Input should be a valid boolean",
    ),
    "metric_as_integer": (
        lambda about: about.update(change_inside=1),
        "not in the form in which it is written",
    ),
    "metric_not_a_number": (lambda about: about.update(mask_area=float("nan")), "mask_area"),
    "metric_above_one": (lambda about: about.update(mask_area=1.5), "mask_area"),
    "metric_changed": (lambda about: about.update(difference_inside=0.5), "has the difference_inside 0.5"),
    "caption_changed": (lambda about: about.update(caption="another"), "json has the caption 'another'"),
    "caption_null": (lambda about: about.update(caption=None), "caption: Input should be a valid string"),
    "attempts_changed": (lambda about: about.update(attempts=3), "json has the attempts 3, the index 1"),
    "method_changed": (lambda about: about.update(method="blur"), "json has the method 'blur'"),
    "inference_steps_changed": (
        lambda about: about.update(inference_steps=20),
        "json has the inference_steps 20",
    ),
    "label_changed": (lambda about: about.update(label="hand"), "label"),
    "source_changed": (lambda about: about.update(source="memory://9.png"), "json has the source"),
    "schema_version_changed": (lambda about: about.update(schema_version=1), "has the schema version 1"),
    "key_of_another": (lambda about: about.update(key=SECOND), "json says its key is 'item-1'"),
    "recipe_digest_changed": (lambda about: about.update(recipe_digest="0" * 64), "another recipe made it"),
    "field_added": (lambda about: about.update(licence="none"), "licence: Extra inputs are not permitted"),
    "field_left_out": (lambda about: about.pop("caption") and None, "caption: Field required"),
    "a_list": (lambda about: [about], "not that of a sample"),
}
for _name, (_change, _what) in _JSON.items():
    FORGERIES.append(
        Forgery(
            f"json_{_name}",
            lambda storage, change=_change: change_json(storage, FIRST, change),  # type: ignore[misc]
            f"{TAR} {FIRST}",
            _what,
        )
    )


def json_bytes(change: Callable[[bytes], bytes]) -> Callable[[Storage], None]:
    def make(storage: Storage) -> None:
        name = f"{FIRST}.json"
        change_tar(storage, lambda files: files.update({name: change(files[name])}), index=True)

    return make


FORGERIES += [
    Forgery(
        "json_key_twice",
        json_bytes(lambda data: data.replace(b"{", b'{"caption": "first", ', 1)),
        f"{TAR} {FIRST}",
        "not in the form in which it is written",
    ),
    Forgery(
        "json_with_spaces",
        json_bytes(lambda data: data + b"\n"),
        f"{TAR} {FIRST}",
        "not in the form in which it is written",
    ),
    Forgery("json_nested", json_bytes(lambda data: b"[" * 100_000), f"{TAR} {FIRST}", "not that of a sample"),
    Forgery("json_not_utf8", json_bytes(lambda data: b'"\xff"'), f"{TAR} {FIRST}", "not that of a sample"),
]


@forged(f"{TAR} {FIRST}", "it has two files mask.png")
def member_twice(storage: Storage) -> None:
    found = members(storage)
    put_tar(storage, packed([*found[:2], Member.plain(f"{FIRST}.mask.png", other_mask()), *found[2:]]))


@forged(f"{TAR} {FIRST}", "do not lie side by side")
def member_again_behind_the_last_sample(storage: Storage) -> None:
    put_tar(storage, packed([*members(storage), Member.plain(f"{FIRST}.mask.png", other_mask())]))


@forged(TAR, "not in the order of the index")
def samples_in_another_order(storage: Storage) -> None:
    found = members(storage)
    put_tar(storage, packed([*found[5:], *found[:5]]))


@forged(f"{TAR} {FIRST}", "its files are in the order mask.png, image.png")
def files_in_another_order(storage: Storage) -> None:
    found = members(storage)
    put_tar(storage, packed([found[1], found[0], *found[2:]]))


@forged(f"{TAR} {FIRST}", "missing mask.png")
def member_left_out(storage: Storage) -> None:
    change_tar(storage, lambda files: files.pop(f"{FIRST}.mask.png") and None)


@forged(f"{TAR} {FIRST}", "missing original.png")
def original_left_out_of_tar_and_index(storage: Storage) -> None:
    change_tar(storage, lambda files: files.pop(f"{FIRST}.original.png") and None)
    change_index(storage, lambda rows: rows[0].update(original_bytes=None, original_sha256=None))


@forged(f"{TAR} {FIRST}", "unknown members note.txt")
def member_added(storage: Storage) -> None:
    found = members(storage)
    put_tar(storage, packed([*found[:5], Member.plain(f"{FIRST}.note.txt", b"a note"), *found[5:]]))


@forged(f"{TAR} item-9", "not accepted in the index")
def sample_added(storage: Storage) -> None:
    found = members(storage)
    extra = [Member.plain(one.name.replace(FIRST, "item-9"), one.data) for one in found[:5]]
    put_tar(storage, packed([*found, *extra]))


@forged(f"{TAR} {SECOND}", "not in the tar")
def sample_left_out(storage: Storage) -> None:
    put_tar(storage, packed([one for one in members(storage) if not one.name.startswith(SECOND)]))


def _of_kind(kind: bytes, **header: Any) -> Callable[[Storage], None]:
    def make(storage: Storage) -> None:
        found = members(storage)
        found[1] = Member.plain(found[1].name, b"", type=kind, **header)
        put_tar(storage, packed(found))

    return make


for _name, _type, _words in (
    ("symbolic_link", tarfile.SYMTYPE, "a symbolic link"),
    ("hard_link", tarfile.LNKTYPE, "a hard link"),
    ("folder", tarfile.DIRTYPE, "a folder"),
    ("named_pipe", tarfile.FIFOTYPE, "a named pipe"),
    ("device", tarfile.CHRTYPE, "a device"),
):
    FORGERIES.append(
        Forgery(
            f"member_is_a_{_name}",
            _of_kind(_type, linkname=f"{SECOND}.mask.png"),
            TAR,
            f"{FIRST}.mask.png is {_words}; a shard holds regular files only",
        )
    )


for _name, _header in {
    "times": {"mtime": 1_700_000_000},
    "owner": {"uid": 1000, "gid": 1000, "uname": "someone"},
    "mode": {"mode": 0o777},
    "link_name": {"linkname": "/etc/passwd"},
}.items():

    def _make(storage: Storage, header: dict[str, Any] = _header) -> None:
        found = members(storage)
        found[1].header = header
        put_tar(storage, packed(found))

    FORGERIES.append(
        Forgery(f"header_with_{_name}", _make, TAR, f"{FIRST}.mask.png: its header is not as it is written")
    )


@forged(TAR, "././@PaxHeader is an extended header")
def extended_header(storage: Storage) -> None:
    name = b"path=another.png\n"
    header = Member.plain("././@PaxHeader", b"20 " + name, type=tarfile.XHDTYPE)
    put_tar(storage, packed([header, *members(storage)]))


@forged(TAR, "there is more behind its end")
def second_tar_behind_the_end(storage: Storage) -> None:
    extra = [Member.plain(f"{FIRST}.mask.png", other_mask())]
    put_tar(storage, storage.read(TAR) + packed(extra))


@forged(TAR, "its end is")
def zeros_behind_the_end(storage: Storage) -> None:
    put_tar(storage, storage.read(TAR) + bytes(10240))


@forged(TAR, "its end is")
def end_shortened(storage: Storage) -> None:
    put_tar(storage, storage.read(TAR).rstrip(b"\0") + bytes(1024 + 10))


@forged(TAR, "the padding behind it is not empty")
def bytes_in_the_padding(storage: Storage) -> None:
    size = len(members(storage)[0].data)
    data = bytearray(storage.read(TAR))
    data[512 + size : 512 + size + 6] = b"hidden"
    put_tar(storage, bytes(data))


@forged(TAR, "not a tar as it is written")
def compressed(storage: Storage) -> None:
    import gzip

    put_tar(storage, gzip.compress(storage.read(TAR)))


def _image(name: str, data: Callable[[], bytes]) -> Callable[[Storage], None]:
    """Another image, with sidecar and hashes in the index refitted."""
    member = f"{FIRST}.{name}"
    return lambda storage: change_tar(storage, lambda files: files.update({member: data()}), index=True)


def _saved(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


for _name, _member, _data, _what in (
    ("mask_is_empty", "mask.png", lambda: encode_mask(np.zeros((16, 16), bool)), "mask.png is empty"),
    ("mask_is_another", "mask.png", lambda: other_mask(0.4), "the pixels give a mask_area of"),
    ("changed_is_another", "changed.png", lambda: other_mask(0.4), "the pixels give a changed_area of"),
    ("mask_in_grey", "mask.png", lambda: _saved(Image.new("L", (16, 16), 255)), "mask.png has the mode L"),
    ("image_in_grey", "image.png", lambda: _saved(Image.new("L", (16, 16))), "image.png has the mode L"),
    ("image_with_holes", "image.png", lambda: _saved(Image.new("RGBA", (16, 16))), "has the mode RGBA"),
    ("mask_too_small", "mask.png", lambda: encode_mask(np.ones((8, 8), bool)), "mask.png is 8 x 8 pixels"),
    (
        "mask_of_64_megapixels",
        "mask.png",
        lambda: _saved(Image.new("1", (8000, 8000), 1)),
        "mask.png cannot be decoded: 8000 x 8000 pixels; at most",
    ),
    ("image_cut", "image.png", lambda: other_image()[:-60], "image.png cannot be decoded"),
    (
        "original_is_a_jpeg",
        "original.png",
        lambda: _saved(Image.new("RGB", (16, 16)), "JPEG"),
        "original.png cannot be decoded: not a PNG",
    ),
    ("image_is_text", "image.png", lambda: b"not an image", "image.png cannot be decoded: not a PNG"),
):
    FORGERIES.append(Forgery(_name, _image(_member, _data), f"{TAR} {FIRST}", _what))


@forged(f"{TAR} {FIRST}", "mask.png covers 100.00%")
def mask_beyond_the_limits(storage: Storage) -> None:
    full = encode_mask(np.ones((16, 16), bool))
    change_tar(storage, lambda files: files.update({f"{FIRST}.{m}.png": full for m in ("mask", "changed")}))
    change_both(storage, FIRST, mask_area=1.0, changed_area=1.0)
