"""The items of RichHF-18k: the records of its TFRecords, joined with the places of their images."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from actors.errors import Reject, SourceError
from eval.richhf.pickapic import ImagePlace, find_images, urls_of
from eval.richhf.record import uid_in
from eval.richhf.tfrecord import Place, records
from factory.output.reference import Reference, key_for
from factory.sources.listing import Wanted, extension_reason, find
from factory.store import remote

SUFFIX = "tfrecord"
_FILE = re.compile(rf"\.{SUFFIX}(-[^/]*)?$", re.IGNORECASE)
_BLOCK = 8 << 20
"""Bytes per request to a store in the network."""


@dataclass(frozen=True)
class Item:
    """A planned record.

    Attributes:
        url: of its TFRecord file, without secrets.
        version: the file's state, see `factory.store.remote.version_of`.
        place: of the record in the file.
        image: place of its image; None where Pick-a-Pic's split does not have it, or the record names none.
    """

    url: str
    version: str
    place: Place
    image: ImagePlace | None = None

    def reference(self, key: str) -> Reference:
        """The row of the plan."""
        member = {
            "record": [self.place.number, self.place.offset, self.place.size],
            "image": None if self.image is None else self.image.encoded(),
        }
        return Reference(key, self.url, json.dumps(member, separators=(",", ":")), "", self.version)

    @classmethod
    def of(cls, reference: Reference) -> Item:
        """The item of a row of the plan.

        Raises:
            SourceError: the row is not one of an import of RichHF-18k.
        """
        try:
            member = json.loads(reference.member)
            image = None if member["image"] is None else ImagePlace(**member["image"])
            number, offset, size = map(int, member["record"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SourceError(
                f"the plan does not say where {reference.key} is ({error!r}): import into a new folder"
            ) from None
        return cls(reference.url, reference.version, Place(number, offset, size), image)


def urls_of_records(records: str, split: str) -> list[str]:
    """The TFRecord files of a split.

    Args:
        records: a folder with `train.tfrecord`, `dev.tfrecord` and `test.tfrecord`, perhaps in several parts with more
            behind that name; or files or a glob, which are taken as they are.
        split: `train`, `dev` or `test`.
    """
    if _FILE.search(records) or "*" in records:
        return [records]
    return [f"{records.rstrip('/')}/{split}.{SUFFIX}*"]


def list_items(records_url: str, images_url: str, split: str, skipped: Counter[str]) -> Iterator[Reference]:
    """Streams the records: first those whose images were found, in the order in which images are read, then the others.

    All uids are in memory, with about 500 bytes of each record. A uid's second record is counted as `duplicate_uid`.

    Args:
        records_url: see `urls_of_records`.
        images_url: see `eval.richhf.pickapic.urls_of`.
        split: of RichHF-18k.
        skipped: counts what is passed over, by reason.

    Raises:
        SourceError: a file is missing or damaged.
    """
    by_uid: dict[str, Item] = {}
    without: list[Item] = []
    for item, uid in _records(urls_of_records(records_url, split), skipped):
        if uid in by_uid:
            skipped["duplicate_uid"] += 1
        elif uid:
            by_uid[uid] = item
        else:
            without.append(item)
    for uid, image in find_images(urls_of(images_url, split), by_uid.keys(), skipped):
        yield replace(by_uid.pop(uid), image=image).reference(_key(split, uid))
    for uid, item in by_uid.items():
        yield item.reference(_key(split, uid))
    for item in without:
        file = item.url.rpartition("/")[2]
        yield item.reference(key_for(f"record-{item.place.number}", f"{split}\0{file}\0{item.place.number}"))


def _key(split: str, uid: str) -> str:
    """The same wherever the files are."""
    return key_for(uid, f"richhf-18k\0{split}\0{uid}")


def _records(urls: list[str], skipped: Counter[str]) -> Iterator[tuple[Item, str]]:
    """Every record with the uid of its image, which is empty where the record has none."""
    wanted = Wanted("TFRecord files", lambda name: None if SUFFIX in name.lower() else extension_reason(name))
    for found in find(urls, wanted, skipped):
        files, path = remote.open_store(found.url)
        version = remote.version_of(found.info)
        with remote.open_file(files, path, found.info, _BLOCK) as stream:
            empty = True
            for place, data in records(stream, found.url):
                empty = False
                try:
                    uid = uid_in(data)
                except Reject:  # when the record is read, it is rejected with its reason
                    uid = ""
                yield Item(found.url, version, place), uid
        if empty:
            raise SourceError(f"{found.url} has no bytes, so no records: download the file again")
