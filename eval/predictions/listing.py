"""Where the score maps of a set of predictions are: members of tars, or files in folders, by the key of their image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from actors.errors import EvaluationError, Reject, SourceError
from eval.predictions.score_map import EXTENSIONS, MAP
from factory.output.shards.tar_samples import grouped, split_name
from factory.sources.listing import Found, Wanted, expand, extension_of, extension_reason, find
from factory.sources.tar_members import Member, members
from factory.store.paths import url_of
from factory.store.places import real_path
from factory.store.remote import open_file, open_store, read_bytes, read_file

LARGEST_MAP = 256 << 20
"""Bytes above which a map is not read: `LARGEST_PIXELS` of float32."""

_TAR = "tar"
_IN_FOLDERS = (*EXTENSIONS, "png")
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Place:
    """Where one map is.

    Attributes:
        url: of its file, or of the tar that holds it.
        name: of the member of a tar; empty for a file.
        extension: of the map's name, see `eval.predictions.score_map.decode_scores`.
        offset, size: in bytes; `offset` is 0 for a file, whose store may not report its size.
    """

    url: str
    name: str
    extension: str
    offset: int
    size: int | None

    def __str__(self) -> str:
        return f"{self.url}, {self.name}" if self.name else self.url

    def read(self) -> bytes:
        """The bytes of the map.

        Raises:
            EvaluationError: it is too large, or has gone since it was listed.
            SourceError, OSError: the store gives no access, or no answer.
        """
        if (self.size or 0) > LARGEST_MAP:
            raise EvaluationError(f"{self}: {self.size:,} bytes; at most {LARGEST_MAP:,} are read of a map")
        files, path = open_store(self.url)
        try:
            if self.name:
                assert self.size is not None
                return read_bytes(files, path, self.offset, self.offset + self.size)
            return read_file(files, {"name": path, "size": self.size})
        except FileNotFoundError:
            raise EvaluationError(f"{self}: it has gone since it was listed; bring it back") from None
        except Reject as why:
            raise EvaluationError(f"{self}: {why.detail}") from why


def maps_below(url: str) -> Iterator[tuple[str, Place]]:
    """Streams the key and the place of every map.

    In tars, a map is `KEY.map.png`, `KEY.map.npy`, `KEY.npy` or, where there is none of these, `KEY.mask.png`; in
    folders also `KEY.png`, where KEY is the path below the folder. Nothing is unpacked, and links, hidden files and
    names that lead out of a tar are passed over.

    Args:
        url: fsspec URL or path of a tar, a folder or a glob; brace ranges are written out.

    Raises:
        EvaluationError: an image has two maps in one tar or folder.
        SourceError: there are no tars or maps, or a tar is damaged.
    """
    wanted = Wanted("tars, or files NAME.png or NAME.npy", _passes_over)
    for one in expand(url):
        beside: dict[str, dict[str, Place]] = {}
        base = _base(one)
        for found in find([one], wanted, Counter()):
            if extension_of(found.name, (_TAR,)):
                yield from _in_tar(found)
            else:
                _add_file(beside, base, found)
        for key, places in beside.items():
            yield key, _chosen(places)


def _passes_over(name: str) -> str | None:
    return None if extension_of(name, (_TAR, *_IN_FOLDERS)) else extension_reason(name)


def _base(url: str) -> str:
    """The URL of the folder that keys are relative to, as `Found.place` spells it."""
    files, path = open_store(url)
    place = real_path(files, path.rstrip("/"))
    parts = place.split("/")
    magic = next((number for number, part in enumerate(parts) if any(one in part for one in "*?[")), None)
    return url_of(files, "/".join(parts[:magic]))


def _add_file(beside: dict[str, dict[str, Place]], base: str, found: Found) -> None:
    relative = found.place.removeprefix(f"{base}/") if found.place != base else found.name
    extension = extension_of(relative, _IN_FOLDERS)
    assert extension is not None, found.name
    parts = beside.setdefault(relative[: -len(extension) - 1], {})
    if extension in parts:  # in capitals as well
        raise _twice(parts[extension], found.url)
    parts[extension] = Place(found.url, "", extension, 0, found.info.get("size"))


def _in_tar(tar: Found) -> Iterator[tuple[str, Place]]:
    files, path = open_store(tar.url)
    try:
        with open_file(files, path, tar.info, _BLOCK) as stream:
            every = list(members(stream, tar.url, Counter()))
    except OSError as error:
        raise SourceError(f"{tar.url} cannot be read: {error}") from error
    count = 0
    named = ((*name, member) for member in every if (name := split_name(member.name)))
    for key, parts in grouped(named, partial(_refuse, tar.url)).items():
        places = {name: _member(tar.url, name, part) for name, part in parts.items() if name in EXTENSIONS}
        if places:
            count += 1
            yield key, _chosen(places)
    if not count:
        raise SourceError(f"{tar.url}: no member is a map: KEY.{', KEY.'.join(EXTENSIONS)}")


def _member(url: str, extension: str, member: Member) -> Place:
    return Place(url, member.name, extension, member.offset, member.size)


def _refuse(url: str, reason: str, key: str, extension: str) -> None:
    if extension.lower() in EXTENSIONS:
        raise EvaluationError(f"{url}, {key}: it has {extension} twice ({reason}); pack the tar again")


def _chosen(places: Mapping[str, Place]) -> Place:
    """The map of an image: the one file with scores, or else the mask."""
    maps = [place for name, place in places.items() if EXTENSIONS.get(name, MAP) == MAP]
    if len(maps) > 1:
        raise _twice(maps[0], str(maps[1]))
    return maps[0] if maps else next(iter(places.values()))


def _twice(first: Place, second: str) -> EvaluationError:
    return EvaluationError(f"{first} and {second} are two maps of one image; leave one of them out")
