"""Finding files: folders, globs and brace ranges on any fsspec store, streamed in the order of their URLs."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from errno import ELOOP
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import count, product

from braceexpand import braceexpand

from actors.errors import SourceError
from factory.sources.beside import Beside, listed, looked_up
from factory.store.credentials import remember
from factory.store.paths import name_of, sibling, url_of
from factory.store.places import is_local, real_path, target_of
from factory.store.remote import Info, entries, has_version, info_of, is_web, open_store, version_of

MOST_URLS = 1_000_000
"""A brace range that gives more is taken for a slip."""

_MOST_DIGITS = 20
"""Digits of a bound of a brace range. Python refuses to convert more than 4,300."""

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_GLOB = re.compile(r"[*?\[]")
_ALL_BELOW = ("**", "*")
_OTHER_TYPES = {"directory": "linked_folder", "other": "not_a_file"}


@dataclass(frozen=True)
class Wanted:
    """Which files a source is after.

    Attributes:
        words: what they are, for messages.
        passes_over: None for the name of a wanted file, or else the reason to count it under.
        is_own: whether a link is an item of its own, and no repetition of the file that it leads to.
    """

    words: str
    passes_over: Callable[[str], str | None]
    is_own: Callable[[Found], bool] = lambda found: False


@dataclass(frozen=True)
class Found:
    """A wanted file.

    Attributes:
        url: full fsspec URL, as the source's URL spells the folder.
        name: last part of its path.
        place: URL of its name, the same for every spelling of its folder. Files come sorted by it.
        identity: URL of the file itself: `place`, or what a link leads to unless that is an item of its own.
        info: the file as the store reports it.
        beside: the files of a stem and extension in the same folder; see `Beside`.
    """

    url: str
    name: str
    place: str
    identity: str
    info: Info
    beside: Beside

    @property
    def is_link(self) -> bool:
        return self.identity != self.place


def expand(url: str) -> Iterator[str]:
    """Writes `{000..068}` and `{a,b}` out, as a shell does; other braces stand for themselves.

    Raises:
        SourceError: a range that runs backwards or has a bound of more than 20 digits, or more than `MOST_URLS` URLs.
    """
    pieces: list[Iterable[str]] = []
    total, end = 1, 0
    for match in _BRACES.finditer(url):
        first, last, words = match.groups()
        if words is None and max(len(first), len(last)) > _MOST_DIGITS:
            raise SourceError(
                f"{url}: a bound of a brace range has more than {_MOST_DIGITS} digits; shorten it"
            )
        if words is None and int(first) > int(last):
            raise SourceError(f"{url}: the range {match[0]} runs backwards")
        # Counted before it is expanded: braceexpand would fill the memory.
        total *= int(last) - int(first) + 1 if words is None else words.count(",") + 1
        if total > MOST_URLS:
            raise SourceError(f"{url} stands for {total:,} URLs; at most {MOST_URLS:,} are taken")
        pieces += [(url[end : match.start()],), braceexpand(match[0], escape=False)]
        end = match.end()
    return ("".join(parts) for parts in product(*pieces, (url[end:],)))


def find(urls: Sequence[str], wanted: Wanted, skipped: Counter[str]) -> Iterator[Found]:
    """Streams the wanted files below several URLs, sorted by place, each file once.

    No folder is looked into before its turn, so that a limit ends the work early. Hidden files and folders,
    linked folders and anything but regular files are skipped and counted. A file that several URLs lead to is
    counted as `duplicate` from the second time on, and so is a link to a file that is found itself, unless it is an
    item of its own.

    Args:
        skipped: counts what is passed over, by reason.

    Raises:
        SourceError: a URL under which nothing wanted is found, or a place that may not be read.
    """
    remember(urls)
    order = count()
    searches: list[tuple[str, int, int, Found | None, Iterator[Found]]] = []
    every: list[_Search] = []
    unfinished, given = Counter[int](), Counter[int]()
    passed = [Counter[str]() for _ in urls]
    for root, url in enumerate(urls):
        for one in expand(url):
            search = _Search(one, wanted, passed[root])
            every.append(search)
            searches.append((search.least_place, root, next(order), None, search.found()))
            unfinished[root] += 1
    heapq.heapify(searches)
    last, linked = None, set[int]()
    while searches:
        _, root, number, found, rest = searches[0]
        if found is not None:
            given[root] += 1
            if found.is_link and wanted.is_own(found):
                found = replace(found, identity=found.place)
            repeated = last is not None and found.place == last.place
            if last is not None and repeated and not _is_same(found, last):
                raise SourceError(
                    f"{last.url} and {found.url} are two revisions of one file, and differ: keep one of them"
                )
            if repeated or (found.is_link and _is_repeated(found.identity, every, linked)):
                skipped["duplicate"] += 1
            else:
                yield found
            last = found
        before = passed[root].copy()
        following = next(rest, None)
        skipped.update(passed[root] - before)
        if following is not None:
            heapq.heapreplace(searches, (following.place, root, number, following, rest))
            continue
        heapq.heappop(searches)
        unfinished[root] -= 1
        if not unfinished[root] and not given[root]:
            raise SourceError(_nothing(urls[root], wanted, passed[root]))


def _is_same(one: Found, other: Found) -> bool:
    return one.url == other.url or version_of(one.info) == version_of(other.info)


def _is_repeated(target: str, searches: Sequence[_Search], linked: set[int]) -> bool:
    """Whether a link leads to a file that is found itself, or that another link has led to."""
    number = hash(target)
    if number in linked or any(search.covers(target) for search in searches):
        return True
    linked.add(number)
    return False


def extension_of(name: str, wanted: Sequence[str]) -> str | None:
    """The longest of the wanted extensions (small letters, no leading dot) that a name ends in, or None."""
    low = name.lower()
    return max((ending for ending in wanted if low.endswith(f".{ending}")), key=len, default=None)


def extension_reason(name: str) -> str:
    """The reason to count a file under whose extension is not wanted: the extension."""
    _, dot, extension = name.lower().rpartition(".")
    return extension if dot and extension else "no_extension"


class _Search:
    """The wanted files that one URL without braces stands for: a file, a folder with all below it, or a glob.

    Attributes:
        least_place: no file that will be found has a place before this one.
    """

    def __init__(self, url: str, wanted: Wanted, passed: Counter[str]) -> None:
        if "\0" in url:
            raise SourceError(f"{url!r}: no file's name holds a NUL character; write the URL without it")
        self.url, self.wanted, self.passed = url, wanted, passed
        self.files, path = open_store(url)
        self.path = path.rstrip("/") or path
        magic = _GLOB.search(self.path)
        self.folder = self.path[: magic.start()].rpartition("/")[0] if magic else self.path
        parts = tuple(part for part in self.path[len(self.folder) :].split("/") if part)
        ending = _ALL_BELOW if url.endswith("/") else ("*",) if parts[-1:] == ("**",) else ()
        self.parts = (*parts, *ending) if parts else ()
        if not is_local(self.files) and self._has_nameless_folder(magic is not None):
            raise SourceError(
                f"{url}: a folder without a name (`//`) cannot be listed; write one slash, or its files' URLs"
            )
        self.least_place = self._url(real_path(self.files, self.folder))

    def found(self) -> Iterator[Found]:
        """Streams the files, sorted by place."""
        info = info_of(self.files, self.path) if "*" not in self.path else None
        if info is not None and info["type"] == "directory":
            yield from self._below(self.path, real_path(self.files, self.path), (), _ALL_BELOW)
        elif info is not None:
            beside = looked_up(lambda other: info_of(self.files, sibling(self.path, other)))
            yield from self._offer(info, name_of(self.path), real_path(self.files, self.path), beside)
        elif self.parts:
            folder = self.folder or "/"
            yield from self._below(folder, real_path(self.files, folder), (), self.parts)
        else:
            raise SourceError(f"{self.url}: there is no such file or folder")

    def covers(self, url: str) -> bool:
        """Whether a file (not a link), given by its identity, is among the files of this search."""
        if url == self._whole:
            return True
        for base, parts in ((self._whole, _ALL_BELOW), (self.least_place, self.parts)):
            prefix = f"{base.rstrip('/')}/"
            names = url.removeprefix(prefix).split("/")
            if url.startswith(prefix) and _matches(names, parts):
                return not (any(map(_unlisted, names)) or self.wanted.passes_over(names[-1]))
        return False

    def _has_nameless_folder(self, is_glob: bool) -> bool:
        """Whether the URL stands for a folder that a store lists as another one; web servers have their own rules."""
        inner = self.url.partition("://")[2].lstrip("/")
        return not is_web(self.files) and "//" in inner and (is_glob or inner.endswith("//"))

    @cached_property
    def _whole(self) -> str:
        return self._url(real_path(self.files, self.path))

    def _url(self, path: str) -> str:
        return url_of(self.files, path)

    def _below(
        self, folder: str, real: str, names: tuple[str, ...], parts: tuple[str, ...]
    ) -> Iterator[Found]:
        found = self._entries(folder)
        beside = listed(found, self._resolved)
        for name, entry in sorted(found.items()):
            here = (*names, name.rstrip("/"))
            is_folder = name.endswith("/")
            if not (_may_hold(here, parts) if is_folder else _matches(here, parts)):
                continue
            path = entry["name"].rstrip("/")
            place = path if real == folder else f"{real.rstrip('/')}/{here[-1]}"
            reason = _unlisted(here[-1])
            if reason:
                self.passed[reason] += 1
            elif is_folder:
                yield from self._below(path, place, here, parts)
            else:
                yield from self._offer(entry, name, place, beside)

    def _entries(self, folder: str) -> dict[str, Info]:
        """What lies in a folder, by name; folders' names end in `/`, and so sort as their files' URLs.

        In a bucket, a name may be empty: `a//b.png` lies in a folder without a name, which no listing can enter.
        """
        found = {}
        for entry in entries(self.files, folder):
            path, is_folder = str(entry["name"]), entry["type"] == "directory"
            if path.rstrip("/") != folder.rstrip("/"):
                found[name_of(path.rstrip("/")) + "/" * is_folder] = entry
            elif is_folder and path.endswith("/"):
                self.passed["folder_without_name"] += 1
            elif entry.get(
                "size"
            ):  # an empty file of the folder's own name is a bucket's marker of the folder
                self.passed["name_ends_in_slash"] += 1
        return found

    def _offer(self, entry: Info, name: str, place: str, beside: Beside) -> Iterator[Found]:
        info = self._followed(entry)
        if info is None:
            self.passed["broken_link"] += 1
            return
        reason = _OTHER_TYPES.get(info["type"]) or self.wanted.passes_over(name_of(name))
        if reason:
            self.passed[reason] += 1
            return
        path = str(entry["name"])
        url = self._url(path)
        named = url if place == path else self._url(place)
        identity = self._url(target_of(self.files, path)) if entry.get("islink") else named
        yield Found(url, name_of(name), named, identity, self._resolved(info) or info, beside)

    def _followed(self, entry: Info) -> Info | None:
        """A link's entry as a look-up of its target would return it; None if the target is missing."""
        if not entry.get("islink"):
            return entry
        try:
            return info_of(self.files, entry["name"])
        except OSError as error:
            if error.errno != ELOOP:
                raise
            return None

    def _resolved(self, entry: Info) -> Info | None:
        """An entry as a look-up of the file would give it, since its version is compared with one later."""
        followed = self._followed(entry)
        return followed if followed is None or has_version(followed) else info_of(self.files, entry["name"])


def _matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a file's path fits a glob; `**` stands for any number of folders."""
    if not parts or not names:
        return not parts and not names
    if parts[0] == "**":
        return _matches(names, parts[1:]) or _matches(names[1:], parts)
    return fnmatchcase(names[0], parts[0]) and _matches(names[1:], parts[1:])


def _may_hold(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a folder may hold files whose paths fit a glob."""
    if not names or not parts:
        return bool(parts)
    return parts[0] == "**" or (fnmatchcase(names[0], parts[0]) and _may_hold(names[1:], parts[1:]))


def _unlisted(name: str) -> str | None:
    """The reason to pass over a file or a folder for its name, whatever is in it; None for any other."""
    if name.startswith("."):
        return "hidden"
    if not _is_utf8(name):
        return "name_not_utf8"
    if "::" in name:  # its URL would be taken for a chain of several
        return "name_with_colons"
    return "name_with_version" if "?versionId=" in name else None  # and here for a version of another file


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nothing(url: str, wanted: Wanted, passed: Counter[str]) -> str:
    counts = ", ".join(f"{number} {reason}" for reason, number in passed.most_common(8)) or "nothing"
    return f"{url}: found no {wanted.words}; passed over: {counts}"
