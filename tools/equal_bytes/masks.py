"""What may differ between two builds of one output, and nothing else.

The version of the code is part of an output's identity. So the identity's digest may differ, and what contains it: the
JSON of every sample, the sha256 of that JSON in the index, the sha256 of tars and indexes in sidecars and manifest.
Each is read from the output itself and replaced only where it is exactly that value, by a placeholder that names what
it is the digest of: a digest that stands for another thing than before is still a difference.

One digest cannot be checked against anything: of an output with several versions, the manifest has a digest that no
identity on disk has. It is masked as the manifest states it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.equal_bytes.tars import members_of

_SECONDS = re.compile(rb'(?<="seconds":)\{[^{}]*\}')
_NUMBER = re.compile(rb"(?<=:)[0-9.eE+-]+")
_PREFIX = 16
"""Characters of a digest that the dataset card shows."""

_SHORTEST = 8
"""Characters; a shorter text would be replaced in places that it does not stand for."""


@dataclass(frozen=True)
class Masks:
    """Placeholders by the text that they replace.

    Attributes:
        digests: of the identities of the output, of its versions and of its parts.
        versions: of the code.
        samples: sha256 of each sample's JSON.
        files: sha256 of the tars and indexes that contain one of the above.
        sizes: bytes of those indexes, by path; compressed digests differ in length.
        root: folder of the build, which the URLs in merged identities and splits begin with.
    """

    digests: Mapping[str, str]
    versions: Mapping[str, str]
    samples: Mapping[str, str]
    files: Mapping[str, str]
    sizes: Mapping[str, int]
    root: str

    @classmethod
    def of(cls, output: Path, root: str) -> Masks:
        """Read what may differ from an output.

        Args:
            output: its folder.
            root: folder in which it was built.
        """
        digests, versions = _identities(output)
        samples: dict[str, str] = {}
        files: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for path in sorted(output.glob("shards/*.tar")):
            data = path.read_bytes()
            for member in members_of(data):
                if member.name.endswith(".json") and any(one.encode() in member.content for one in digests):
                    samples[_sha256(member.content)] = f"<sha256 of {member.name}>"
                    files[_sha256(data)] = f"<sha256 of shards/{path.name}>"
            index = output / "index" / f"{path.stem}.parquet"
            if _sha256(data) in files and index.exists():
                files[_sha256(index.read_bytes())] = f"<sha256 of index/{index.name}>"
                sizes[f"stats/{path.stem}.json"] = index.stat().st_size
        return cls(digests, versions, samples, files, sizes, root)

    def sample_json(self, data: bytes) -> bytes:
        """The JSON of a sample, masked."""
        return _replaced(data, self.digests)

    def document(self, name: str, data: bytes) -> bytes:
        """A file of text, masked by what such a file may hold.

        Args:
            name: path in the output.
            data: its content.
        """
        if name.endswith("identity.json"):
            return _replaced(data, {**self.digests, **self.versions, f"{self.root}/": "<root>/"})
        if name == "manifest.json":
            return _replaced(data, {**self.digests, **self.versions, **self.files})
        if name == "README.md":
            shown = {digest[:_PREFIX]: text for digest, text in self.digests.items()}
            return _replaced(data, shown)
        if name.startswith("splits/"):
            return _replaced(data, {f"{self.root}/": "<root>/"})
        if name.startswith("stats/"):
            return self._sidecar(name, data)
        return data

    def _sidecar(self, name: str, data: bytes) -> bytes:
        data = _replaced(data, {**self.digests, **self.files})
        data = _SECONDS.sub(lambda found: _NUMBER.sub(b'"<seconds>"', found[0]), data)
        if name in self.sizes:
            size = f'"index":{{"bytes":{self.sizes[name]},'
            data = data.replace(size.encode(), b'"index":{"bytes":"<bytes of the index>",')
        return data


def _identities(output: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Placeholders of the digests, and of the versions of the code."""
    digests: dict[str, str] = {}
    versions: dict[str, str] = {}
    for path in [output / "identity.json", *sorted(output.glob("versions/*.identity.json"))]:
        name = path.relative_to(output).as_posix()
        document = _read(path)
        parts = _at(document, "content", "parts")
        for number, part in enumerate(parts if isinstance(parts, list) else [], start=1):
            _add(digests, _at(part, "digest"), f"<digest of part {number} of {name}>")
            _add(versions, _at(part, "identity", "versions", "flawforge"), "<code>")
        _add(digests, _at(document, "digest"), f"<digest of {name}>")
        _add(versions, _at(document, "versions", "flawforge"), "<code>")
    _add(digests, _at(_read(output / "manifest.json"), "digest"), "<digest of the whole output>")
    return digests, versions


def _add(placeholders: dict[str, str], text: Any, placeholder: str) -> None:
    if isinstance(text, str) and len(text) >= _SHORTEST:
        placeholders.setdefault(text, placeholder)


def _at(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _read(path: Path) -> Any:
    """The content of a JSON file; None where it is missing or damaged. Damage is found by comparing bytes."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _replaced(data: bytes, placeholders: Mapping[str, str]) -> bytes:
    for text, placeholder in placeholders.items():
        data = data.replace(text.encode(), placeholder.encode())
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
