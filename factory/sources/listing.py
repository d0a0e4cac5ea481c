"""Finding files: folders, globs and brace ranges on any fsspec store, streamed in the order of their URLs."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from errno import ELOOP
from fnmatch import fnmatchcase
from itertools import count, product

from actors.errors import SourceError
from actors.redaction import redact
from factory.sources.credentials import remember
from factory.sources.paths import beside, name_of, url_of
from factory.sources.store import Info, entries, has_version, info_of, is_web, open_store

MOST_URLS = 1_000_000
"""A brace range that gives more is taken for a slip."""

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_GLOB = re.compile(r"[*?\[]")
_NOT_FIXED = re.compile(rf"{_GLOB.pattern}|{_BRACES.pattern}")
_ALL_BELOW = ("**", "*")
_OTHER_TYPES = {"directory": "linked_folder", "other": "not_a_file"}


@dataclass(frozen=True)
class Wanted:
    """Which files a source is after.

    Attributes:
        words: what they are, for messages.
        passes_over: None for the name of a wanted file, or else the reason to count it under.
    """

    words: str
    passes_over: Callable[[str], str | None]


@dataclass(frozen=True)
class Found:
    """A wanted file.

    Attributes:
        url: full fsspec URL.
        name: last part of its path.
        root: number of the URL that led to it.
        relative: its path from that URL's fixed folder; it stays the same when a data set is moved.
        info: what the store says of the file.
        beside: what it says of a file of another name in the same folder, or None.
    """

    url: str
    name: str
    root: int
    relative: str
    info: Info
    beside: Callable[[str], Info | None]


def expand(url: str) -> Iterator[str]:
    """Writes `{000..068}` and `{a,b}` out, as a shell does; other braces stand for themselves.

    Raises:
        SourceError: a range that runs backwards, or more than `MOST_URLS` URLs.
    """
    pieces: list[Sequence[str]] = []
    total, end = 1, 0
    for match in _BRACES.finditer(url):
        first, last, words = match.groups()
        if words is None and int(first) > int(last):
            raise SourceError(f"{url}: the range {match[0]} runs backwards")
        numbers = range(0) if words is not None else range(int(first), int(last) + 1)
        choices = [] if words is None else words.split(",")
        total *= len(choices) or len(numbers)
        if total > MOST_URLS:
            raise SourceError(f"{url} stands for {total:,} URLs; at most {MOST_URLS:,} are taken")
        if words is None:
            padded = any(len(bound) > 1 and bound.startswith("0") for bound in (first, last))
            width = max(len(first), len(last)) if padded else 0
            choices = [f"{number:0{width}d}" for number in numbers]
        pieces += [(url[end : match.start()],), choices]
        end = match.end()
    return ("".join(parts) for parts in product(*pieces, (url[end:],)))


def find(urls: Sequence[str], wanted: Wanted, skipped: Counter[str]) -> Iterator[Found]:
    """Streams the wanted files below several URLs, sorted by URL, each file once.

    No folder is looked into before its turn, so that a limit ends the work early. Hidden files and folders,
    linked folders and whatever is no regular file are passed over and counted.

    Args:
        skipped: counts what is passed over, by reason.

    Raises:
        SourceError: a URL under which nothing wanted is found, or a place that may not be read.
    """
    remember(urls)
    order = count()
    searches: list[tuple[str, int, int, Found | None, Iterator[Found]]] = []
    unfinished, given = Counter[int](), Counter[int]()
    passed = [Counter[str]() for _ in urls]
    for root, url in enumerate(urls):
        for one in expand(url):
            search = _Search(one, url, root, wanted, passed[root])
            searches.append((search.least_url, root, next(order), None, search.found()))
            unfinished[root] += 1
    heapq.heapify(searches)
    last = ""
    while searches:
        _, root, number, found, rest = searches[0]
        if found is not None:
            given[root] += 1
            if found.url == last:
                skipped["listed_twice"] += 1
            else:
                last = found.url
                yield found
        before = passed[root].copy()
        following = next(rest, None)
        skipped.update(passed[root] - before)
        if following is not None:
            heapq.heapreplace(searches, (following.url, root, number, following, rest))
            continue
        heapq.heappop(searches)
        unfinished[root] -= 1
        if not unfinished[root] and not given[root]:
            raise SourceError(_nothing(urls[root], wanted, passed[root]))


def extension_of(name: str, wanted: Sequence[str]) -> str | None:
    """The longest of the wanted extensions (small letters, no leading dot) that a name ends in, or None."""
    low = name.lower()
    return max((ending for ending in wanted if low.endswith(f".{ending}")), key=len, default=None)


def extension_reason(name: str) -> str:
    """The reason to count a file under whose extension is not wanted: the extension."""
    return name.lower().rpartition(".")[2] if "." in name else "no_extension"


class _Search:
    """The wanted files that one URL without braces stands for: a file, a folder with all below it, or a glob.

    Attributes:
        least_url: no file that will be found has a URL before this one.
    """

    def __init__(self, url: str, written: str, root: int, wanted: Wanted, passed: Counter[str]) -> None:
        self.url, self.root, self.wanted, self.passed = url, root, wanted, passed
        self.files, path = open_store(url)
        self.path = path.rstrip("/") or path
        magic = _GLOB.search(self.path)
        self.folder = self.path[: magic.start()].rpartition("/")[0] if magic else self.path
        self.parts = tuple(part for part in self.path[len(self.folder) :].split("/") if part)
        self.least_url = url_of(self.files, self.folder)
        pattern = str(self.files._strip_protocol(written))
        magic = _NOT_FIXED.search(pattern)
        self.base = pattern[: magic.start()].rpartition("/")[0] if magic else None

    def found(self) -> Iterator[Found]:
        """Streams the files, sorted by URL."""
        info = info_of(self.files, self.path) if "*" not in self.path else None
        if info is not None and info["type"] == "directory":
            yield from self._below(self.path, (), _ALL_BELOW)
        elif info is not None:
            folder = self.path.partition("?")[0] if is_web(self.files) else self.path
            self.base = folder.rpartition("/")[0] if self.base is None else self.base
            yield from self._offer(
                info, name_of(self.path), lambda other: info_of(self.files, beside(self.path, other))
            )
        elif self.parts:
            ending = _ALL_BELOW if self.url.endswith("/") else ("*",) if self.parts[-1] == "**" else ()
            yield from self._below(self.folder or "/", (), self.parts + ending)
        else:
            raise SourceError(f"{self.url}: there is no such file or folder")

    def _below(self, folder: str, names: tuple[str, ...], parts: tuple[str, ...]) -> Iterator[Found]:
        found = self._entries(folder)

        def beside(name: str) -> Info | None:
            return self._resolved(found[name]) if name in found else None

        for name, entry in sorted(found.items()):
            here = (*names, name.rstrip("/"))
            is_folder = name.endswith("/")
            if not (_may_hold(here, parts) if is_folder else _matches(here, parts)):
                continue
            if name.startswith("."):
                self.passed["hidden"] += 1
            elif not _is_utf8(name):
                self.passed["name_not_utf8"] += 1
            elif "::" in name:  # its URL would be taken for a chain of several
                self.passed["name_with_colons"] += 1
            elif is_folder:
                yield from self._below(entry["name"].rstrip("/"), here, parts)
            else:
                yield from self._offer(entry, name, beside)

    def _entries(self, folder: str) -> dict[str, Info]:
        """What lies in a folder, by name; folders' names end in `/`, and so sort as their files' URLs."""
        found = {}
        for entry in entries(self.files, folder):
            path = entry["name"].rstrip("/")
            if path != folder.rstrip("/"):  # a bucket lists the marker of a folder as a file in it
                found[name_of(path) + "/" * (entry["type"] == "directory")] = entry
        return found

    def _offer(self, entry: Info, name: str, beside: Callable[[str], Info | None]) -> Iterator[Found]:
        info = self._followed(entry)
        if info is None:
            self.passed["broken_link"] += 1
            return
        reason = _OTHER_TYPES.get(info["type"]) or self.wanted.passes_over(name_of(name))
        if reason:
            self.passed[reason] += 1
            return
        path = str(entry["name"])
        base = self.path if self.base is None else self.base
        relative = redact(path)[len(redact(base)) :].lstrip("/")
        stem, _, query = relative.partition("?")
        if is_web(self.files) and query and "." in stem.rpartition("/")[2]:
            relative = f"{query}/{stem}"  # which ends in the extension, and tells items apart that differ in a number
        yield Found(
            url_of(self.files, path), name_of(name), self.root, relative, self._resolved(info) or info, beside
        )

    def _followed(self, entry: Info) -> Info | None:
        """A link's entry as a look-up of its target would give it; None where there is none."""
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


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nothing(url: str, wanted: Wanted, passed: Counter[str]) -> str:
    counts = ", ".join(f"{number} {reason}" for reason, number in passed.most_common(8)) or "nothing"
    return f"{url}: found no {wanted.words}; passed over: {counts}"
