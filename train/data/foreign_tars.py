"""Tars of other programs: listed, looked through once, header by header, and remembered in an index.

The index is a summary of all tars of a URL, one Parquet file, and a Parquet file for every tar with the places of its
samples, which is read when the tar is. Both count for as long as the tar's size and state (etag or time) are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from actors.errors import TrainingError
from actors.redaction import redact
from factory.sources.listing import Found, Wanted, extension_reason, find
from factory.store import remote
from factory.store.credentials import remember
from factory.store.storage import Storage
from train.data.data_set import Shard
from train.data.shard_index import USUAL, PartNames, ShardIndex, from_parquet, of_tar, to_parquet

_LAYOUT = 1
"""Version of the index; an older one is made anew."""

_TARS = Wanted("tars", lambda name: None if name.lower().endswith(".tar") else extension_reason(name))
_BLOCK = 8 << 20
_AT_ONCE = 8


class TarSummary(BaseModel):
    """What is known of a tar.

    Attributes:
        url: without secrets.
        bytes, state: of the tar when it was looked through; see `factory.store.remote.version_of`.
        samples: usable ones.
        digest: of the samples and their places.
        skipped: what was passed over in it, by reason.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    url: str
    bytes: int
    state: str
    samples: int
    digest: str
    skipped: dict[str, int]


def read_tars(
    url: str, names: PartNames, cache: Storage | None
) -> tuple[tuple[Shard, ...], str, dict[str, int]]:
    """The tars of a URL, the digest of their content, and what was passed over, by reason.

    Args:
        url: of a tar, a folder or a glob; brace ranges are written out.
        names: which members are which part of a sample.
        cache: keeps the index. Without it, every call looks through all tars.

    Raises:
        SourceError: no tar was found, or one is compressed, damaged or cut short.
        TrainingError: a store gave no answer.
    """
    remember([url])
    skipped = Counter[str]()
    known = _read_summaries(cache, url, names)
    look = partial(_summary, names=names, cache=cache, known=known)
    try:
        tars = list(remote.read_ahead(look, find([url], _TARS, skipped), _AT_ONCE))
    except OSError as error:
        raise TrainingError(f"{redact(url)}: its tars cannot be looked through: {error}") from error
    if cache is not None and tars != list(known.values()):
        cache.replace(_summary_path(url, names), _to_parquet(tars))
    total = hashlib.sha256()
    for tar in tars:
        skipped.update(tar.skipped)
        total.update(f"{tar.samples} {tar.bytes} {tar.digest}\n".encode())
    shards = tuple(Shard(tar.url, tar.samples, tar.bytes) for tar in tars)
    return shards, total.hexdigest(), dict(sorted(skipped.items()))


def index_of(url: str, size: int, names: PartNames, cache: Storage | None) -> ShardIndex:
    """The index of a tar: as it is kept, or else from the tar's headers.

    Args:
        url: of the tar, without secrets.
        size: of the tar in bytes; a kept index of a tar of another size does not count.

    Raises:
        SourceError: the tar is damaged.
        TrainingError: it is gone.
        OSError: a store failed.
    """
    kept = _kept(url, names, cache)
    if kept is not None and kept[1].bytes == size:
        return kept[0]
    return _look_through(url, names)[0]


def _summary(
    tar: Found, *, names: PartNames, cache: Storage | None, known: Mapping[str, TarSummary]
) -> TarSummary:
    files, path = remote.open_store(tar.url)
    now = (remote.size_of(files, path, tar.info), remote.version_of(tar.info))
    summary = known.get(tar.url)
    if summary is not None and (summary.bytes, summary.state) == now:
        return summary
    kept = _kept(tar.url, names, cache)
    if kept is not None and (kept[1].bytes, kept[1].state) == now:
        return kept[1]
    index, skipped = _look_through(tar.url, names, tar.info)
    summary = TarSummary(
        url=tar.url,
        bytes=now[0],
        state=now[1],
        samples=len(index),
        digest=index.digest(now[0]),
        skipped=dict(skipped),
    )
    if cache is not None:
        cache.replace(_index_path(tar.url, names), to_parquet(index, summary.model_dump()))
    return summary


def _look_through(
    url: str, names: PartNames, info: remote.Info | None = None
) -> tuple[ShardIndex, Counter[str]]:
    files, path = remote.open_store(url)
    info = info or remote.info_of(files, path)
    if info is None:
        raise TrainingError(f"{url}: the tar is gone")
    skipped = Counter[str]()
    with remote.open_file(files, path, info, _BLOCK) as stream:
        return of_tar(stream, url, names, skipped), skipped


def _kept(url: str, names: PartNames, cache: Storage | None) -> tuple[ShardIndex, TarSummary] | None:
    """The index of a tar as it is kept; None where there is none, or it is damaged and so made anew."""
    path = _index_path(url, names)
    if cache is None or not cache.exists(path):
        return None
    try:
        index, note = from_parquet(cache.read(path))
        summary = TarSummary.model_validate(note)
    except ValueError:
        return None
    return (index, summary) if summary.url == url and summary.samples == len(index) else None


def _read_summaries(cache: Storage | None, url: str, names: PartNames) -> dict[str, TarSummary]:
    """By URL, in their order; empty where none are kept, or they are damaged and so made anew."""
    path = _summary_path(url, names)
    if cache is None or not cache.exists(path):
        return {}
    try:
        rows = pq.read_table(pa.BufferReader(cache.read(path))).column("summary").to_pylist()
        read = [TarSummary.model_validate_json(row) for row in rows]
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return {}
    return {summary.url: summary for summary in read}


def _to_parquet(tars: Sequence[TarSummary]) -> bytes:
    sink = pa.BufferOutputStream()
    rows = [summary.model_dump_json() for summary in tars]
    pq.write_table(pa.table({"summary": pa.array(rows, pa.string())}), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _summary_path(url: str, names: PartNames) -> str:
    return f"index/tars-{_place(url, names)}.parquet"


def _index_path(url: str, names: PartNames) -> str:
    return f"index/{_place(url, names)}.parquet"


def _place(url: str, names: PartNames) -> str:
    judged = [] if names.judged == USUAL.judged else [names.judged]
    what = json.dumps([_LAYOUT, redact(url), names.image, names.mask, names.changed, *judged])
    return hashlib.sha256(what.encode()).hexdigest()[:32]
