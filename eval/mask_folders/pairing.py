"""Which mask belongs to which image: that of the same path, but for extension and a part of its name."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from actors.errors import SourceError
from eval.imports.folder import ImageFile, image_files, version_with, versions_of
from factory.output.reference import Reference, key_for

STEM = "{stem}"
"""In a pattern of masks' names: the name of the image without its extension."""


@dataclass(frozen=True)
class Item:
    """A planned image.

    Attributes:
        url: of the image, without secrets.
        version: its state.
        masks: URLs of the masks that its path leads to; one, unless something is wrong.
        mask_version: the state of the mask, where there is one.
        alike: paths of other images that the same mask would belong to.
    """

    url: str
    version: str
    masks: tuple[str, ...]
    mask_version: str
    alike: tuple[str, ...] = ()

    def reference(self, image: ImageFile) -> Reference:
        """The row of the plan."""
        member = {"mask": list(self.masks), "image": list(self.alike)}
        version = version_with(self.version, self.mask_version) if self.mask_version else self.version
        name = image.stem.rpartition("/")[2]
        key = key_for(name, image.identity)
        return Reference(key, self.url, json.dumps(member, separators=(",", ":")), "", version)

    @classmethod
    def of(cls, reference: Reference) -> Item:
        """The item of a row of the plan.

        Raises:
            SourceError: the row is not one of an import of masks.
        """
        try:
            member = json.loads(reference.member)
            masks, alike = (tuple(map(str, member[name])) for name in ("mask", "image"))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SourceError(
                f"the plan does not say where the mask of {reference.key} is ({error!r}): import into a new folder"
            ) from None
        return cls(reference.url, versions_of(reference)[0], masks, versions_of(reference)[1], alike)


def list_items(
    images: str, masks: str | None, pattern: str, skipped: Counter[str]
) -> Iterator[tuple[ImageFile, Item]]:
    """Streams the images, sorted by path, with their masks.

    All paths are in memory, with about 500 bytes of each file. A mask without an image is counted as
    `mask_without_image`, a file of the folder of masks whose name does not fit the pattern as `other_name`.

    Args:
        images: a folder.
        masks: another folder, or one below it; None if the masks are among the images.
        pattern: of masks' names without extension, such as `{stem}_mask`.
        skipped: counts what is passed over, by reason.

    Raises:
        SourceError: a folder is missing, or has no images in it, or nothing in it is a pair.
    """
    found, others = _masks(masks or images, pattern, skipped)
    of_masks = {mask.url for those in found.values() for mask in those}
    by_stem: dict[str, list[ImageFile]] = defaultdict(list)
    for image in image_files(images, Counter() if masks is None else skipped):
        if image.url not in of_masks:
            by_stem[image.stem].append(image)
    _check_pairs(images, masks, pattern, by_stem, found)
    for stem, those in sorted(by_stem.items()):
        own = found.pop(stem, [])
        for image in those:
            alike = tuple(other.path for other in those if other is not image) if own else ()
            urls = tuple(mask.url for mask in own)
            state = own[0].version if len(own) == 1 else ""
            yield image, Item(image.url, image.version, urls, state, alike)
    if left := sum(map(len, found.values())):
        skipped["mask_without_image"] += left
    if left := len(others - {image.url for those in by_stem.values() for image in those}):
        skipped["other_name"] += left


def _masks(folder: str, pattern: str, skipped: Counter[str]) -> tuple[dict[str, list[ImageFile]], set[str]]:
    """The masks of a folder by the stems of their images, and the URLs of files with other names."""
    before, _, behind = pattern.partition(STEM)
    found: dict[str, list[ImageFile]] = defaultdict(list)
    others: set[str] = set()
    for file in image_files(folder, skipped):
        where, slash, name = file.stem.rpartition("/")
        if name.startswith(before) and name.endswith(behind) and len(name) > len(before) + len(behind):
            found[f"{where}{slash}{name[len(before) : len(name) - len(behind)]}"].append(file)
        else:
            others.add(file.url)
    return found, others


def _check_pairs(
    images: str,
    masks: str | None,
    pattern: str,
    by_stem: Mapping[str, Sequence[ImageFile]],
    found: Mapping[str, Sequence[ImageFile]],
) -> None:
    if by_stem.keys() & found.keys():
        return
    example = next((those[0].path for those in by_stem.values()), "nothing")
    mask = next((those[0].path for those in found.values()), "nothing")
    raise SourceError(
        f"no image in {images} has a mask in {masks or images} by the pattern {pattern}; the first image is {example}, "
        f"the first mask {mask}: paths must be equal up to the extension, with the pattern in place of the name"
    )
