"""What a file of annotations says about images: of COCO, or of SynthScars. Nothing in it is trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from actors.errors import Reject, SourceError
from actors.foreign_text import one_line
from eval.coco.json_file import Element, JsonFile

MOST_ELEMENTS = 5_000_000
"""Images and annotations of a file, with about 200 bytes of each in memory."""

LONGEST_NAME = 1024

_ARRAYS = ("images", "annotations", "categories")


class Region(NamedTuple):
    """What one annotation marks, as the file has it.

    Attributes:
        segmentation: polygons or a run-length encoding; None without.
        box: x, y, width and height; None without.
        crowd: whether it marks a group, or is to be ignored.
        category: its name.
    """

    segmentation: object
    box: object
    crowd: bool
    category: str


@dataclass
class Entry:
    """An image of the file; entries with the same name are one.

    Attributes:
        name: of the image's file, as the JSON spells it.
        sizes: width and height as the JSON has them, of every entry that has some.
        elements: the annotations, or the records of SynthScars.
    """

    name: str
    sizes: list[tuple[object, object]] = field(default_factory=list)
    elements: list[Element] = field(default_factory=list)

    def size(self) -> tuple[int, int] | None:
        """Width and height; None where the file has none.

        Raises:
            Reject: `bad_size`.
        """
        found = {tuple(map(_side, size)) for size in self.sizes}
        if len(found) > 1:
            raise Reject(
                "bad_size", f"the JSON has several sizes of {self.name!r}: {sorted(map(str, found))}"
            )
        width, height = next(iter(found), (None, None))
        return None if width is None or height is None else (width, height)


@dataclass(frozen=True)
class Annotations:
    """The images of a file with their regions.

    Attributes:
        file: the file.
        entries: its images, in its order.
        categories: names by id.
        crowds, regions: annotations that mark crowds, and all that were taken.
    """

    file: JsonFile
    entries: Sequence[Entry]
    categories: dict[int | str, str]
    crowds: int = 0
    regions: int = 0

    def regions_of(self, entry: Entry) -> Iterator[Region]:
        """Streams the regions of an image.

        Raises:
            SourceError: an element is damaged.
        """
        for element in entry.elements:
            document = self.file.decode(element)
            if self.file.is_array:
                yield from _refs(_record(self.file, element, document))
            else:
                yield _region(document, self.categories)


def read_annotations(url: str, only: Sequence[str], skipped: Counter[str]) -> Annotations:
    """Reads a COCO file, or a list of records as SynthScars has it.

    Args:
        url: of the JSON file.
        only: names of categories whose annotations are taken; empty takes all.
        skipped: counts annotations that are not taken, by reason.

    Raises:
        SourceError: the file is missing, damaged, or has other content.
    """
    file = JsonFile.read(url)
    if file.is_array:
        if only:
            raise SourceError(f"{file.url} is a list of records without categories; leave the categories out")
        return _read_records(file)
    return _read_coco(file, only, skipped)


def _read_coco(file: JsonFile, only: Sequence[str], skipped: Counter[str]) -> Annotations:
    found: dict[str, list[Element]] = {name: [] for name in _ARRAYS}
    for number, (name, element) in enumerate(file.elements(_ARRAYS)):
        if number >= MOST_ELEMENTS:
            raise SourceError(f"{file.url} has more than {MOST_ELEMENTS:,} images and annotations; split it")
        found[name].append(element)
    if not found["images"]:
        raise SourceError(f"{file.url} has no images: it is no COCO file with images and annotations")
    categories = _categories(file, found["categories"], only)
    by_id, entries = _images(file, found["images"], skipped)
    crowds = regions = 0
    for element in found["annotations"]:
        document = file.decode(element)
        entry = by_id.get(_id(file, element, document, "image_id"))
        category = document.get("category_id")
        called = categories.get(category) if isinstance(category, int | str) else None
        if only and called is None:
            raise _wrong(file, element, f"category_id {str(category)[:60]} is not among the categories")
        if entry is None:
            skipped["annotation_without_image"] += 1
        elif only and called not in only:
            skipped["other_category"] += 1
        else:
            entry.elements.append(element)
            regions, crowds = regions + 1, crowds + _is_crowd(document)
    return Annotations(file, entries, categories, crowds, regions)


def _categories(file: JsonFile, elements: Sequence[Element], only: Sequence[str]) -> dict[int | str, str]:
    categories: dict[int | str, str] = {}
    for element in elements:
        document = file.decode(element)
        categories[_id(file, element, document, "id")] = _text(file, element, document.get("name"), "name")
    if missing := sorted(set(only) - set(categories.values())):
        names = ", ".join(sorted(set(categories.values()))[:20]) or "none"
        raise SourceError(f"{file.url} has no category {', '.join(missing)}; its categories: {names}")
    return categories


def _images(
    file: JsonFile, elements: Sequence[Element], skipped: Counter[str]
) -> tuple[dict[int | str, Entry], list[Entry]]:
    by_id: dict[int | str, Entry] = {}
    by_name: dict[str, Entry] = {}
    for element in elements:
        document = file.decode(element)
        number = _id(file, element, document, "id")
        name = _text(file, element, document.get("file_name"), "file_name")
        if number in by_id:
            raise _wrong(
                file, element, f"its id {str(number)[:60]} is that of another image, so annotations fit both"
            )
        if name in by_name:
            skipped["image_twice"] += 1
        entry = by_name.setdefault(name, Entry(name))
        by_id[number] = entry
        size = (document.get("width"), document.get("height"))
        if size != (None, None):
            entry.sizes.append(size)
    return by_id, list(by_name.values())


def _read_records(file: JsonFile) -> Annotations:
    by_name: dict[str, Entry] = {}
    regions = 0
    for number, element in enumerate(file.array()):
        if number >= MOST_ELEMENTS:
            raise SourceError(f"{file.url} has more than {MOST_ELEMENTS:,} records; split it")
        record = _record(file, element, file.decode(element))
        name = record["img_file_name"]
        by_name.setdefault(name, Entry(name)).elements.append(element)
        regions += len(record["refs"])
    if not by_name:
        raise SourceError(f"{file.url} is an empty list")
    return Annotations(file, list(by_name.values()), {}, 0, regions)


def _record(file: JsonFile, element: Element, document: dict[str, Any]) -> dict[str, Any]:
    """The record of SynthScars in an element, whose only key is the number of the annotation."""
    record = next(iter(document.values())) if len(document) == 1 else document
    refs = record.get("refs") if isinstance(record, dict) else None
    if not isinstance(record, dict) or "img_file_name" not in record or not isinstance(refs, list):
        raise _wrong(
            file,
            element,
            "it is no record as SynthScars has it, with img_file_name and refs; a list of COCO results names no "
            "images, and a COCO file is an object with images, annotations and categories",
        )
    return {**record, "img_file_name": _text(file, element, record["img_file_name"], "img_file_name")}


def _refs(record: dict[str, Any]) -> Iterator[Region]:
    for ref in record["refs"]:
        yield Region(ref.get("segmentation") if isinstance(ref, dict) else None, None, False, "artifact")


def _region(document: dict[str, Any], categories: dict[int | str, str]) -> Region:
    category = document.get("category_id")
    name = "unknown"
    if isinstance(category, int | str):
        name = categories.get(category, one_line(str(category)[:60]))
    return Region(document.get("segmentation"), document.get("bbox"), _is_crowd(document), name)


def _is_crowd(document: dict[str, Any]) -> bool:
    """COCO's evaluation ignores crowds, and some tools write `ignore` for the same."""
    return bool(document.get("iscrowd")) or bool(document.get("ignore"))


def _id(file: JsonFile, element: Element, document: dict[str, Any], key: str) -> int | str:
    number = document.get(key)
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise _wrong(file, element, f"its {key} is no whole number and no string")
    return number


def _text(file: JsonFile, element: Element, value: object, key: str) -> str:
    """A name; JSON can spell lone surrogates, which neither Parquet nor a file system takes."""
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME:
        raise _wrong(file, element, f"its {key} is no string of 1 to {LONGEST_NAME:,} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _wrong(file, element, f"its {key} is no Unicode text") from None
    return value


def _side(value: object) -> int | None:
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or value < 0:
        raise Reject("bad_size", f"a side of the image is {str(value)[:40]} in the JSON, not a whole number")
    return int(value)


def _wrong(file: JsonFile, element: Element, what: str) -> SourceError:
    return SourceError(f"{file.url}: {element.where}: {what}")
