"""Files of a folder with their paths in it, for sets that consist of image files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from actors.errors import SourceError
from factory.output.reference import Reference
from factory.sources.images import EXTENSIONS
from factory.sources.listing import Found, Wanted, extension_of, extension_reason, find
from factory.store import remote
from factory.store.paths import url_of

_STATE = " mask="
"""What begins the state of the labels in a reference's version, as in those of `factory.sources.images`."""


@dataclass(frozen=True)
class ImageFile:
    """An image file below a folder.

    Attributes:
        url: of the file, without secrets.
        identity: URL of the file itself, see `factory.sources.listing.Found`.
        path: relative to the folder, with `/` between its parts.
        version: the file's state, see `factory.store.remote.version_of`.
    """

    url: str
    identity: str
    path: str
    version: str

    @property
    def stem(self) -> str:
        """The path without its extension."""
        return self.path[: -len(extension_of(self.path, EXTENSIONS) or "") - 1]


def image_files(folder: str, skipped: Counter[str]) -> Iterator[ImageFile]:
    """Streams the PNG, JPEG and WebP files of a folder and of all folders below it, sorted.

    Args:
        folder: a folder on any fsspec store that can be listed.
        skipped: counts what is passed over, by reason.

    Raises:
        SourceError: there is no such folder, or no image in it.
    """
    files, path = remote.open_store(folder)
    info = remote.info_of(files, path.rstrip("/") or path)
    if "*" in path or info is None or info["type"] != "directory":
        raise SourceError(f"{url_of(files, path)} is no folder; name a folder with images")
    root = url_of(files, path.rstrip("/"))
    wanted = Wanted("PNG, JPEG or WebP files", _passes_over)
    for found in find([folder], wanted, skipped):
        yield _image_file(found, root)


def _passes_over(name: str) -> str | None:
    return None if extension_of(name, EXTENSIONS) else extension_reason(name)


def _image_file(found: Found, root: str) -> ImageFile:
    path = found.url.removeprefix(f"{root}/")
    return ImageFile(found.url, found.identity, path, remote.version_of(found.info))


def version_with(image: str, labels: str) -> str:
    """The version of a reference: of its image, and of the file with its labels."""
    return f"{image}{_STATE}{labels}"


def read_file(url: str, version: str) -> bytes:
    """The bytes of a planned file.

    Raises:
        Reject: `missing`, or the reasons of `factory.store.remote.read_file`.
        SourceError: it has changed since it was planned, or its folder is gone.
        OSError: the store failed.
    """
    files, path = remote.open_store(url)
    info = remote.info_of(files, path)
    if info is None:
        raise remote.missing(files, path)
    if remote.version_of(info) != version:
        raise remote.changed(url)
    if (info.get("size") or 0) > remote.LARGEST_FILE:
        raise remote.too_large(info["size"])
    try:
        return remote.read_file(files, info)
    except FileNotFoundError:
        raise remote.missing(files, path) from None
    except remote.SlowAnswerError as error:
        raise remote.timed_out(error) from None


def versions_of(reference: Reference) -> tuple[str, str]:
    """The versions of the image and of the labels; the latter is empty where there are none."""
    image, _, labels = reference.version.partition(_STATE)
    return image, labels
