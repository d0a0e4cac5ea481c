"""WebDataset tars: files that share a name up to its first dot are one sample, wherever they are in their tar."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from actors.errors import Reject
from factory.output.reference import Raw, Reference, key_for
from factory.output.shards.tar_samples import grouped, split_name
from factory.sources.caption import LARGEST_CAPTION, CaptionField, too_long
from factory.sources.choice import EVERYTHING, Candidate, Choice
from factory.sources.filters import LARGEST_DOCUMENT, fields_of
from factory.sources.listing import Found, Wanted, extension_of, extension_reason, find
from factory.sources.tar_members import Member, members
from factory.store import remote

EXTENSIONS = ("png", "jpg", "jpeg", "webp")

_TARS = ("tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "tar.zst")
"""Compressed tars are opened too, to be refused by name rather than passed over."""

_METADATA = "metadata"
_LISTING_BLOCK = 8 << 20
_DOCUMENTS_AT_ONCE = 16
_READS_AT_ONCE = 4
_BYTES_AT_ONCE = 16 << 20
_LARGEST_GAP = 64 << 10

Place = tuple[int, int]
"""Offset in the tar, and size."""

Places = Mapping[str, Place]
"""Where a sample's `image`, `mask`, `caption` and, while listing, `metadata` are, as far as it has them."""


@dataclass(frozen=True)
class _Planned:
    reference: Reference
    stem: str
    places: Places
    reject: Reject | None

    @property
    def span(self) -> range:
        """Bytes of the tar from the first that it needs to the last; empty if it is not read."""
        if self.reject or not self.places:
            return range(0)
        return range(min(at for at, _ in self.places.values()), max(map(sum, self.places.values())))


class WebDatasetSource:
    """Samples in tars. A reference holds the places of its files, so that reading never walks through a tar.

    Args:
        urls: fsspec URLs of tars, folders or globs; brace ranges are written out.
        image: extensions of images, the first that a sample has.
        mask: extension of masks, or None.
        caption: extension of captions, or `json:FIELD`, or None.
        choice: which of the items are taken; filters look at the fields of the sample's `json`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        image: Sequence[str] = EXTENSIONS,
        mask: str | None = None,
        caption: str | None = None,
        choice: Choice = EVERYTHING,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._urls = list(urls)
        self._caption = CaptionField.parse(caption)
        self._extensions = {
            "image": [extension.lower() for extension in image],
            "mask": [mask.lower()] if mask else [],
            "caption": [self._caption.extension] if self._caption else [],
            _METADATA: ["json"] if choice.filters else [],
        }
        self._choice = choice

    def list(self) -> Iterator[Reference]:
        """Streams the samples that have an image; see `Source.list`."""
        self.skipped.clear()
        yield from self._choice(self._all(), self.skipped, at_once=_DOCUMENTS_AT_ONCE)

    def read(self, references: Sequence[Reference]) -> Iterator[tuple[Reference, Raw | Reject]]:
        """Streams the samples, neighbours in a tar by one request; see `Source.read`."""
        for read in remote.read_ahead(self._read, self._batches(references), _READS_AT_ONCE):
            yield from read

    def _all(self) -> Iterator[Candidate]:
        wanted = Wanted("tars", lambda name: None if extension_of(name, _TARS) else extension_reason(name))
        for tar in find(self._urls, wanted, self.skipped):
            yield from self._samples(tar)

    def _samples(self, tar: Found) -> Iterator[Candidate]:
        files, path = remote.open_store(tar.url)
        version = remote.version_of(tar.info)
        with remote.open_file(files, path, tar.info, _LISTING_BLOCK) as stream:
            samples = grouped(self._named(members(stream, tar.url, self.skipped)), self._count)
        for stem, places in samples.items():
            parts = self._parts(places)
            if "image" in parts:
                yield self._candidate(tar, version, stem, parts)
            else:
                self.skipped["no_image"] += 1

    def _named(self, found: Iterator[Member]) -> Iterator[tuple[str, str, Place]]:
        """Places of members, with their keys and extensions."""
        for member in found:
            named = split_name(member.name)
            if named:
                yield *named, (member.offset, member.size)
            else:
                hidden = member.name.rpartition("/")[2].startswith(".")
                self.skipped["hidden" if hidden else "no_extension"] += 1

    def _count(self, reason: str, *_: str) -> None:
        self.skipped[reason] += 1

    def _parts(self, places: Mapping[str, Place]) -> Places:
        """Where the parts of one sample are, given the places of its members by extension."""
        found = {}
        for part, extensions in self._extensions.items():
            chosen = next((places[extension] for extension in extensions if extension in places), None)
            if chosen:
                found[part] = chosen
        return found

    def _candidate(self, tar: Found, version: str, stem: str, places: Places) -> Candidate:
        planned = {part: place for part, place in places.items() if part != _METADATA}
        fields = partial(_fields, tar.url, places.get(_METADATA))
        return Candidate(_reference(tar, version, stem, planned), fields)

    def _batches(self, references: Sequence[Reference]) -> Iterator[Sequence[_Planned]]:
        """Neighbours in a tar, to be read together; checks that the tar is still as it was planned."""
        states: dict[str, str] = {}
        batch: list[_Planned] = []
        span = range(0)
        for reference in references:
            url = reference.url
            if url not in states:
                states[url] = remote.state_of(url)
            if states[url] != reference.version:
                raise remote.changed(url)
            item = _planned(reference)
            wider = _union(span, item.span)
            if batch and (batch[0].reference.url != url or wider.stop - wider.start > _BYTES_AT_ONCE):
                yield batch
                batch, wider = [], item.span
            batch.append(item)
            span = wider
        if batch:
            yield batch

    def _read(self, batch: Sequence[_Planned]) -> Sequence[tuple[Reference, Raw | Reject]]:
        sound = [item for item in batch if item.reject is None]
        data = _fetch(batch[0].reference.url, {place for item in sound for place in item.places.values()})
        return [(item.reference, item.reject or self._raw(item, data)) for item in batch]

    def _raw(self, item: _Planned, data: Mapping[Place, bytes]) -> Raw | Reject:
        parts = {part: data[place] for part, place in item.places.items()}
        text = ""
        if self._caption and "caption" in parts:
            try:
                text = self._caption.read(parts["caption"], f"{_shown(item.stem)}.{self._caption.extension}")
            except Reject as why:
                return why
        return Raw(parts["image"], parts.get("mask"), text)


def _reference(tar: Found, version: str, stem: str, places: Places) -> Reference:
    key = key_for(f"{tar.name.partition('.tar')[0]}/{stem}", f"{tar.identity}\0{stem}")
    member = json.dumps({"stem": stem, **places}, separators=(",", ":"))
    return Reference(key, tar.url, member, "", version)


def _planned(reference: Reference) -> _Planned:
    member = json.loads(reference.member)
    stem = member.pop("stem")
    places: dict[str, Place] = {part: (offset, size) for part, (offset, size) in member.items()}
    reject = None
    for part, (_, size) in places.items():
        if part == "caption" and size > LARGEST_CAPTION:
            reject = too_long(f"the caption of {_shown(stem)}", size)
        elif size > remote.LARGEST_FILE:
            reject = remote.too_large(size)
    return _Planned(reference, stem, places, reject)


def _fields(url: str, place: Place | None) -> Mapping[str, object] | Reject:
    if place is None:
        return {}
    offset, size = place
    files, path = remote.open_store(url)
    return fields_of(remote.read_bytes(files, path, offset, offset + min(size, LARGEST_DOCUMENT + 1)))


def _union(one: range, other: range) -> range:
    """The shortest range that holds both."""
    if one and other:
        return range(min(one.start, other.start), max(one.stop, other.stop))
    return one or other


def _fetch(url: str, places: Iterable[Place]) -> dict[Place, bytes]:
    """Bytes by place; places that are close together come by one request."""
    files, path = remote.open_store(url)
    stretches: list[list[Place]] = []
    end = -1
    for place in sorted(places):
        if not stretches or place[0] > end + _LARGEST_GAP:
            stretches.append([])
        stretches[-1].append(place)
        end = sum(place)
    data = {}
    for stretch in stretches:
        start = stretch[0][0]
        block = memoryview(remote.read_bytes(files, path, start, max(map(sum, stretch))))
        data.update({(at, size): bytes(block[at - start : at - start + size]) for at, size in stretch})
    return data


def _shown(stem: str) -> str:
    """For messages: they are stored in Parquet, where a name from outside must be UTF-8."""
    return stem.encode("utf-8", "backslashreplace").decode()
