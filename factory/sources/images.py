"""Image files in folders, with their captions and masks in files beside them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from actors.errors import Reject
from factory.output.reference import Raw, Reference, key_for
from factory.sources.caption import LARGEST_CAPTION, CaptionField, too_long
from factory.sources.choice import EVERYTHING, Candidate, Choice
from factory.sources.filters import LARGEST_DOCUMENT, fields_of, too_large
from factory.sources.listing import Found, Wanted, extension_of, extension_reason, find
from factory.store import remote
from factory.store.paths import name_of, sibling

EXTENSIONS = ("png", "jpg", "jpeg", "webp")

_METADATA = "json"
_DOCUMENTS_AT_ONCE = 16
_READS_AT_ONCE = 8


class ImagesSource:
    """Every file whose name looks like an image's: whether it is one shows when it is decoded.

    Args:
        urls: fsspec URLs of files, folders (with all below them) or globs; brace ranges are written out.
        extensions: of images, without the leading dot, in any case.
        mask: extension of masks: `mask.png` is `STEM.mask.png` beside `STEM.jpg`. None without masks.
        caption: extension of captions' files, or `json:FIELD`. None without captions.
        choice: which of the items are taken; filters look at the fields of `STEM.json` beside the image.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        extensions: Sequence[str] = EXTENSIONS,
        mask: str | None = None,
        caption: str | None = None,
        choice: Choice = EVERYTHING,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._urls = list(urls)
        self._extensions = [extension.lower() for extension in extensions]
        self._mask = mask
        self._caption = CaptionField.parse(caption)
        self._choice = choice
        parts = {"caption": self._caption and self._caption.extension, "mask": mask}
        self._side_files = {part: extension for part, extension in parts.items() if extension}

    def list(self) -> Iterator[Reference]:
        """Streams the files; see `Source.list`."""
        self.skipped.clear()
        yield from self._choice(self._candidates(), self.skipped, at_once=_DOCUMENTS_AT_ONCE)

    def read(self, references: Sequence[Reference]) -> Iterator[tuple[Reference, Raw | Reject]]:
        """Streams the files' bytes; see `Source.read`."""
        return remote.read_ahead(self._read, references, _READS_AT_ONCE)

    def _candidates(self) -> Iterator[Candidate]:
        kinds = ", ".join(f".{extension}" for extension in self._extensions)
        wanted = Wanted(f"files with the extensions {kinds}", self._passes_over, self._is_own)
        for found in find(self._urls, wanted, self.skipped):
            yield Candidate(self._reference(found), partial(self._fields, found))

    def _fields(self, found: Found) -> Mapping[str, object] | Reject:
        info = self._beside(found, _METADATA)
        if info is None:
            return {}
        if (info.get("size") or 0) > LARGEST_DOCUMENT:
            return too_large()
        files, _ = remote.open_store(found.url)
        try:
            return fields_of(remote.read_file(files, info))
        except Reject as why:
            return Reject("bad_metadata", f"its JSON file: {why.detail}")
        except FileNotFoundError:
            return {}

    def _passes_over(self, name: str) -> str | None:
        if self._mask and extension_of(name, [self._mask.lower()]):
            return "mask"
        if extension_of(name, self._extensions):
            return None
        if self._caption and extension_of(name, [self._caption.extension]):
            return "caption"
        if self._choice.filters and extension_of(name, [_METADATA]):
            return "metadata"
        return extension_reason(name)

    def _is_own(self, link: Found) -> bool:
        """A link with a mask or a caption of its own is another item; links beside it are those of the same."""
        sides = (
            found for one in self._side_files.values() for found in link.beside(self._stem(link.name), one)
        )
        return any(_is_file(one) and not one.get("islink") for one in sides)

    def _reference(self, found: Found) -> Reference:
        parts = {"image": found.info}
        for part, extension in self._side_files.items():
            info = self._beside(found, extension)
            if info is not None:
                parts[part] = info
        member = self._member(found, parts)
        key = key_for(self._stem(found.name), found.identity)
        return Reference(key, found.url, member, "", _version(parts))

    def _beside(self, found: Found, extension: str) -> remote.Info | None:
        """The file of an image's stem with an extension, as the store reports it; further ones are counted."""
        stem = self._stem(found.name)
        files = [info for info in found.beside(stem, extension) if _is_file(info)]
        if len(files) > 1:
            self.skipped["ambiguous_case"] += len(files) - 1
        return files[0] if files else None

    def _member(self, found: Found, parts: Mapping[str, remote.Info]) -> str:
        """Names of the files beside the image that are spelled otherwise than the recipe would have them."""
        stem, odd = self._stem(found.name), {}
        for part, extension in self._side_files.items():
            if part in parts and not str(parts[part]["name"]).endswith(f"/{stem}.{extension}"):
                odd[part] = str(parts[part]["name"]).rpartition("/")[2]
        return json.dumps(odd, separators=(",", ":"), sort_keys=True) if odd else ""

    def _stem(self, name: str) -> str:
        extension = extension_of(name, self._extensions)
        assert extension is not None, name
        return name[: -len(extension) - 1]

    def _read(self, reference: Reference) -> tuple[Reference, Raw | Reject]:
        try:
            return reference, self._raw(reference)
        except Reject as why:
            return reference, why
        except remote.SlowAnswerError as error:
            return reference, remote.timed_out(error)

    def _raw(self, reference: Reference) -> Raw:
        files, path = remote.open_store(reference.url)
        image = remote.info_of(files, path)
        if image is None:
            raise remote.missing(files, path)
        names = {
            part: f"{self._stem(name_of(path))}.{extension}" for part, extension in self._side_files.items()
        }
        names |= json.loads(reference.member or "{}")
        looked = {part: remote.info_of(files, sibling(path, other)) for part, other in names.items()}
        parts = {"image": image} | {part: info for part, info in looked.items() if info and _is_file(info)}
        if _version(parts) != reference.version:
            raise remote.changed(reference.url)
        for part, info in parts.items():
            _check_size(part, info)
        try:
            data = {part: remote.read_file(files, info) for part, info in parts.items()}
        except FileNotFoundError:
            raise remote.missing(files, path) from None
        text = ""
        if self._caption and "caption" in data:
            text = self._caption.read(data["caption"], parts["caption"]["name"])
        return Raw(data["image"], data.get("mask"), text)


def _version(parts: Mapping[str, remote.Info]) -> str:
    """The states of all files of an item, so that a caption cannot change unnoticed either."""
    versions = {part: remote.version_of(info) for part, info in parts.items()}
    return " ".join([versions.pop("image"), *(f"{part}={version}" for part, version in versions.items())])


def _is_file(info: remote.Info) -> bool:
    return bool(info["type"] == "file")  # whoever reads a pipe waits for ever


def _check_size(part: str, info: remote.Info) -> None:
    size = info.get("size") or 0  # a web server need not report it
    if part == "caption" and size > LARGEST_CAPTION:
        raise too_long(info["name"], size)
    if size > remote.LARGEST_FILE:
        raise remote.too_large(size)
