"""A COCO file with a folder of images as a set to import; see `eval.imports`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from actors.config import LISTED, Config
from actors.errors import Reject, SourceError
from actors.images import Decoded, encode_mask
from actors.masks import Mask, MaskReading, decode_mask
from actors.redaction import redact
from eval.coco.annotations import Annotations, Entry, read_annotations
from eval.coco.drawing import Boxes, Crowd, Drawing, draw
from eval.coco.naming import Names, candidates, is_path, shared
from eval.imports.folder import ImageFile, image_files, read_file, version_with, versions_of
from eval.imports.labelled_image import (
    COLUMNS,
    CONTENTS,
    SIZE_DESCRIPTION,
    count_samples,
    decode_image,
    fill,
)
from eval.imports.labelled_set import IMAGE, MASK, ImportedSample
from factory.output.reference import Reference, key_for
from factory.output.shards.images import LARGEST_SIDE
from factory.store import remote
from factory.store.credentials import remember

_THREADS = 4
"""Samples that are made side by side. Decoding and encoding free Python's lock."""

_MOST_CATEGORIES = 50
"""Of an image, that are named in its row of the index."""

_ABOUT = """\
Images and annotations in COCO's form, or that of SynthScars: the regions of an image are united. Who labelled them, and
their licence, is for whoever publishes this to state."""


class CocoSettings(Config):
    """A file with annotations, a folder with its images, and what is made of them."""

    annotations: str = Field(description="the JSON file: COCO, or a list of records as in SynthScars")
    images: str = Field(description="the folder to which the file's names of images are relative")
    names: Names = Field(
        default="path", description="how names lead to files: by path, or by their last parts alone"
    )
    categories: Annotated[tuple[str, ...], LISTED] = Field(
        default=(), description="names of categories whose annotations are taken; empty takes all"
    )
    crowd: Crowd | None = Field(
        default=None,
        description="pixels of annotations with iscrowd: ignored, inside, or outside; null ignores them, and refuses a "
        "file with nothing else",
    )
    boxes: Boxes = Field(default="reject", description="annotations with a box and no segmentation")
    orientation: Literal["stored", "displayed"] | None = Field(
        default=None,
        description="whether annotations fit images as stored or as displayed, where these have an EXIF orientation",
    )
    size: int | None = Field(default=None, ge=16, le=LARGEST_SIDE, description=SIZE_DESCRIPTION)


@dataclass(frozen=True)
class Item:
    """A planned image.

    Attributes:
        number: of its entry in the file of annotations.
        images: URLs of the files that its name may mean; one, unless something is wrong.
        alike: whether other names may mean the same file.
    """

    number: int
    images: tuple[str, ...]
    alike: bool

    @property
    def member(self) -> str:
        """Its place for the plan, with keys that `factory.output.reference.place_in` knows."""
        place = {"row": self.number, "image": list(self.images), "group": int(self.alike)}
        return json.dumps(place, separators=(",", ":"))

    @classmethod
    def of(cls, reference: Reference) -> Item:
        """The item of a row of the plan.

        Raises:
            SourceError: the row is not one of an import of COCO.
        """
        try:
            member = json.loads(reference.member)
            images = tuple(map(str, member["image"]))
            return cls(int(member["row"]), images, bool(member["group"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SourceError(
                f"the plan does not say where {reference.key} is ({error!r}): import into a new folder"
            ) from None


class Coco:
    """The images of a file of annotations.

    Attributes:
        skipped: what the last listing passed over, by reason.
    """

    code = ("eval/coco",)
    packages = ("pycocotools",)
    members = (IMAGE, MASK)
    columns = {**COLUMNS, "regions": "int32", "crowds": "int32", "categories": "string"}  # noqa: RUF012
    contents = CONTENTS
    name = "coco"
    about = _ABOUT

    def __init__(self, settings: CocoSettings) -> None:
        remember([settings.annotations])
        remember([settings.images])
        self.skipped: Counter[str] = Counter()
        self._settings = settings
        self._drawing = Drawing(settings.crowd or "ignore", settings.boxes)
        self._loaded: Annotations | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without secrets of URLs, with the kind of the set."""
        document = self._settings.model_dump(mode="json")
        places = {name: redact(document[name]) for name in ("annotations", "images")}
        return {"kind": "coco", **document, **places}

    def list(self) -> Iterator[Reference]:
        """Streams the images of the file, in its order; its annotations stay in memory."""
        self.skipped.clear()
        settings = self._settings
        annotations = self._loaded = read_annotations(settings.annotations, settings.categories, self.skipped)
        self._check_crowds(annotations)
        names = [entry.name for entry in annotations.entries]
        files = list(image_files(settings.images, self.skipped))
        found = candidates(names, files, settings.names)
        self._check_found(names, files, found)
        several = shared(found)
        for number, (name, those) in enumerate(zip(names, found, strict=True)):
            yield _reference(annotations, number, name, those, any(file.url in several for file in those))
        if left := len({file.url for file in files} - {file.url for those in found for file in those}):
            self.skipped["image_without_entry"] += left

    def read(self, references: Sequence[Reference]) -> Iterator[ImportedSample]:
        """Streams the samples."""
        settings = self._settings
        if self._loaded is None:
            self._loaded = read_annotations(settings.annotations, settings.categories, Counter())
        return remote.read_ahead(partial(self._sample, self._loaded), references, _THREADS)

    def figures(self, tables: Iterable[pa.Table]) -> dict[str, int]:
        """Counts for the card: of samples, and of regions in them."""
        count: Counter[str] = Counter()

        def counting() -> Iterator[pa.Table]:
            for table in tables:
                for row in table.select(["status", "regions", "crowds"]).to_pylist():
                    if row["status"] == "accepted":
                        count.update(regions=row["regions"], crowds=row["crowds"])
                yield table

        samples = count_samples(counting())
        return {
            **samples,
            "regions": count["regions"],
            f"crowds among them, decided by crowd={self._drawing.crowd}": count["crowds"],
        }

    def _check_crowds(self, annotations: Annotations) -> None:
        if self._settings.crowd is None and annotations.crowds and annotations.crowds == annotations.regions:
            raise SourceError(
                f"{annotations.file.url}: all {annotations.crowds:,} annotations have iscrowd, as CVAT writes masks of "
                "brushes; with --crowd inside they are artifacts, with --crowd ignore their pixels are ignored"
            )

    def _check_found(
        self, names: Sequence[str], files: Sequence[ImageFile], found: Sequence[Sequence[ImageFile]]
    ) -> None:
        if any(found):
            return
        hint = (
            "; with --names tail only the last parts of names count" if self._settings.names == "path" else ""
        )
        raise SourceError(
            f"no image of {redact(self._settings.annotations)} is in {redact(self._settings.images)}: the first is "
            f"{names[0]!r}, the first file {files[0].path!r}{hint}"
        )

    def _sample(self, annotations: Annotations, reference: Reference) -> ImportedSample:
        item = Item.of(reference)
        version, labels = versions_of(reference)
        if (labels or version) != annotations.file.version or item.number >= len(annotations.entries):
            raise remote.changed(annotations.file.url)
        entry = annotations.entries[item.number]
        sample = ImportedSample(reference.key, f"{annotations.file.url}#image={entry.name}")
        try:
            self._check_item(item, entry)
            self._fill(sample, item.images[0], version, annotations, entry)
        except Reject as why:
            sample.reject(why)
        return sample

    def _check_item(self, item: Item, entry: Entry) -> None:
        if not item.images:
            if not is_path(entry.name) and self._settings.names == "path":
                raise Reject(
                    "unsafe_name",
                    f"the name {entry.name!r} is no path below the folder of images, and is not followed; set "
                    "names to tail where its last parts alone count",
                )
            raise Reject("missing_image", f"no file of the folder is {entry.name!r}")
        if len(item.images) > 1 or item.alike:
            raise Reject(
                "ambiguous_image",
                f"several files may be {entry.name!r}, or several names this file; set names to path, or import "
                "their folders apart",
            )

    def _fill(
        self, sample: ImportedSample, url: str, version: str, annotations: Annotations, entry: Entry
    ) -> None:
        size = self._settings.size
        decoded = decode_image(read_file(url, version), size)
        canvas = self._canvas(entry, decoded)
        regions = list(annotations.regions_of(entry))
        drawn = draw(regions, canvas, self._drawing)
        fill(sample, decoded.image, self._upright(drawn, decoded), size)
        sample.columns |= {
            "regions": len(regions),
            "crowds": sum(region.crowd for region in regions),
            "categories": ", ".join(sorted({region.category for region in regions})[:_MOST_CATEGORIES]),
        }
        sample.fields = {**sample.columns, "file_name": entry.name}

    def _canvas(self, entry: Entry, decoded: Decoded) -> tuple[int, int]:
        """Width and height in which the annotations are: those of the image, upright or as it is stored."""
        stored = decoded.size if decoded.orientation < 5 else decoded.size[::-1]
        named = entry.size()
        if named is None:
            if decoded.orientation > 1 and self._settings.orientation is None:
                raise Reject(
                    "orientation_unclear",
                    f"the image has the EXIF orientation {decoded.orientation} and no size in the JSON: set the "
                    "orientation of annotations to stored or displayed",
                )
            return stored if self._settings.orientation == "stored" else decoded.size
        if named not in (stored, decoded.size):
            raise Reject(
                "image_size",
                f"the JSON has {named[0]} x {named[1]} pixels, the image {decoded.size[0]} x {decoded.size[1]} "
                "(upright): annotations of another version of it do not fit",
            )
        return named

    def _upright(self, drawn: Mask, decoded: Decoded) -> Mask:
        """The mask turned as its image is, by the rules for all masks."""
        if decoded.orientation == 1:
            return drawn
        reading = MaskReading(orientation=self._settings.orientation)
        data = encode_mask(drawn.inside, drawn.ignored)
        return decode_mask(data, reading, size=decoded.size, orientation=decoded.orientation)


def _reference(
    annotations: Annotations, number: int, name: str, files: Sequence[ImageFile], alike: bool
) -> Reference:
    member = Item(number, tuple(file.url for file in files), alike).member
    file = annotations.file
    stem = name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or name
    if len(files) != 1 or alike:
        return Reference(key_for(stem, f"{file.url}\0{name}"), file.url, member, "", file.version)
    key = key_for(stem, files[0].identity)
    return Reference(key, files[0].url, member, "", version_with(files[0].version, file.version))
