"""Hashes of every image and caption of a data set, by which samples that a test set has are found: one pass, kept.

An image of 512 x 512 takes about 10 ms of a core, and a sample 25 bytes in memory, 8 more for each crop.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from actors.errors import BadSample, EvaluationError, Reject, TrainingError
from actors.images import decode_image
from actors.redaction import redact
from eval.labelled import CAPTION, caption_of
from eval.leaks import Looks, caption_hash, content_hash, look_hashes
from eval.same_image import WHOLE, Box
from factory.output.shards.records import index_path
from factory.output.shards.tar_samples import grouped, split_name
from factory.sources.tar_members import members
from factory.store import remote
from factory.store.storage import Storage
from train.data.data_set import DataSet
from train.data.finished_output import below
from train.data.foreign_tars import index_of
from train.data.reading import Reader

_LAYOUT = 1
"""Version of the table; an older one is made anew."""

_CHUNK = 32
_LARGEST_JSON = _BLOCK = 1 << 20
_COLUMNS = ("content", "readable", "caption")


def looks_of(data_set: DataSet, cache: Storage | None, boxes: tuple[Box, ...] = (WHOLE,)) -> Looks:
    """The hashes of all samples of a data set, in the order of `places_of`.

    Args:
        data_set: of which nothing is left out.
        cache: keeps them under `index/`; without it, or where its table is damaged, all images are read.
        boxes: crops whose perceptual hashes are taken, the whole image first.

    Raises:
        TrainingError: a tar is gone, was replaced, or cannot be read.
        SourceError: a place may not be read.
    """
    assert not data_set.left_out
    path = _path(data_set, boxes)
    kept = _kept(cache, path, data_set.samples, len(boxes))
    if kept is not None:
        return kept
    reader = Reader(replace(data_set, label="none"), cache=cache)
    look = partial(_look, reader, boxes=boxes)
    chunks = remote.read_ahead(look, _chunks(data_set), os.cpu_count() or 1)
    rows = [np.concatenate(column) for column in zip(*chunks, strict=True)]
    captions = [_captions(data_set, shard, cache) for shard in range(len(data_set.shards))]
    found = Looks(rows[0], rows[1], rows[2], np.concatenate(captions))
    if cache is not None:
        cache.replace(path, _to_parquet(found))
    return found


def places_of(data_set: DataSet) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Shard and row of every sample, int64 [N, 2]."""
    counts = data_set.counts
    shards = np.repeat(np.arange(len(counts)), counts)
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])
    return np.stack([shards, rows], axis=1)


def image_of(reader: Reader, shard: int, row: int) -> Image.Image:
    """The image of a sample, RGB.

    Raises:
        BadSample: it has none, or one that cannot be decoded.
        TrainingError, SourceError: see `Reader.read`.
    """
    encoded = reader.read(shard, row)
    try:
        return decode_image(encoded.image)
    except Reject as why:
        raise BadSample(why.reason, f"{encoded.where}: image: {why.detail}") from why


def _chunks(data_set: DataSet) -> Iterator[tuple[int, range]]:
    for shard, count in enumerate(data_set.counts):
        for first in range(0, count, _CHUNK):
            yield shard, range(first, min(first + _CHUNK, count))


def _look(
    reader: Reader, chunk: tuple[int, range], boxes: tuple[Box, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes of content and look, and whether the image can be read, of some samples of a shard."""
    shard, rows = chunk
    contents, readable = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.bool_)
    looks = np.zeros((len(rows), len(boxes)), np.uint64)
    for place, row in enumerate(rows):
        try:
            data = reader.read(shard, row).image
            looks[place] = look_hashes(decode_image(data), boxes)
        except (BadSample, Reject):
            continue  # What becomes of it is for training to decide, see `bad_samples`.
        contents[place], readable[place] = content_hash(data), True
    return contents, looks, readable


def _captions(data_set: DataSet, shard: int, cache: Storage | None) -> np.ndarray:
    """Hashes of the captions of a shard, uint64; 0 where a sample has none, or none that can be read."""
    if not data_set.shards[shard].samples:
        return np.zeros(0, np.uint64)
    url = data_set.shards[shard].url
    is_output = data_set.kind == "output"
    url = below(data_set.url, index_path(shard)) if is_output else url
    try:
        files, path = remote.open_store(url)
        info = remote.info_of(files, path)
        if info is None:
            raise TrainingError(f"{redact(url)} is missing; bring it back")
        with remote.open_file(files, path, info, _BLOCK) as stream:
            if is_output:
                table = pq.read_table(stream, columns=["status", "caption"])
                column = table.filter(pc.equal(table["status"], "accepted"))["caption"].to_pylist()
                return np.array([caption_hash(caption or "") for caption in column], np.uint64)
            found: dict[str, int] = {}
            named = (
                (*name, member)
                for member in members(stream, redact(url), Counter())
                if (name := split_name(member.name))
            )
            for key, parts in grouped(named, lambda *_: None).items():
                if (member := parts.get(CAPTION)) is not None and member.size <= _LARGEST_JSON:
                    stream.seek(member.offset)
                    found[key] = _caption_in(stream.read(member.size))
    except (OSError, pa.ArrowException) as error:
        raise TrainingError(f"{redact(url)} cannot be read: {error}") from error
    index = index_of(url, data_set.shards[shard].bytes, data_set.names, cache)
    return np.array([found.get(index.key(row), 0) for row in range(len(index))], np.uint64)


def _caption_in(data: bytes) -> int:
    try:
        return caption_hash(caption_of(data, ""))
    except EvaluationError:
        return 0  # Training reads no captions, so it is not for the guard to refuse the file.


def _path(data_set: DataSet, boxes: tuple[Box, ...]) -> str:
    what = json.dumps([_LAYOUT, data_set.digest, redact(data_set.url), boxes])
    return f"index/looks-{hashlib.sha256(what.encode()).hexdigest()[:32]}.parquet"


def _to_parquet(looks: Looks) -> bytes:
    columns = {"content": looks.contents, "readable": looks.readable, "caption": looks.captions}
    columns |= {f"look_{place}": looks.looks[:, place] for place in range(looks.looks.shape[1])}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _kept(cache: Storage | None, path: str, samples: int, boxes: int) -> Looks | None:
    """The table as it is kept; None where there is none, or it is damaged and so made anew."""
    if cache is None or not cache.exists(path):
        return None
    try:
        table = pq.read_table(pa.BufferReader(cache.read(path)))
        arrays = [
            table[name].to_numpy() for name in (*_COLUMNS, *(f"look_{place}" for place in range(boxes)))
        ]
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None
    wanted = [np.uint64, np.bool_, np.uint64, *[np.uint64] * boxes]
    if any(one.dtype != dtype or len(one) != samples for one, dtype in zip(arrays, wanted, strict=True)):
        return None
    content, readable, caption, *looks = arrays
    return Looks(content, np.stack(looks, axis=1), readable, caption)
