"""Checks the files around the shards: plans, identities, recipes, manifest, card, and foreign files."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actors.errors import OutputError, RecipeError
from factory.output.card import PATH as CARD
from factory.output.identity import identity_bytes, identity_path, read_identity
from factory.output.manifest import PATH as MANIFEST
from factory.output.plan import Plan, hash_of, number_in
from factory.output.provenance import Part, is_merged, recipe_path
from factory.output.rebuild import documents
from factory.output.shards.records import Sidecar, stats_path
from factory.recipe.recipe import CONTENT, differences
from factory.recipe.text import decoded, read_mapping
from factory.store.storage import Storage

_KEY = re.compile(r"[A-Za-z0-9_-]+")
_FOLDERS = (("shards", ".tar"), ("index", ".parquet"), ("stats", ".json"))
_BESIDE_CONTENT = frozenset({"name", "limits", "execution"})
_AS_ONE_LIKES = frozenset({"license", "pretty_name", "language", "tags", "task_categories", "task_ids"})
"""Fields of the card's front matter that whoever publishes it may set; unknown ones are theirs, too."""


@dataclass(frozen=True)
class Problem:
    """A finding about an output: where, and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def check_plans(storage: Storage, plan: Plan) -> Iterator[Problem]:
    """Whether the plans are those that were built upon, and every key is one and planned once.

    8 bytes of every planned key are in memory.
    """
    hashes = array("Q")
    for version in plan.versions:
        _, planned = read_identity(storage, version.number)
        with storage.open(version.path) as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        if found != planned:
            yield Problem(version.path, "it is not the plan that was built upon (sha256 differs)")
        for _, keys in plan.keys(version):
            odd = [key for key in keys if not _KEY.fullmatch(key)]
            if odd:
                yield Problem(version.path, f"the key {odd[0]!r} is not of the form that keys have")
            if not version.retries:
                hashes.extend(map(hash_of, keys))
    values, counts = np.unique(np.frombuffer(hashes, dtype=np.uint64), return_counts=True)
    twice = set(values[counts > 1].tolist())
    seen: set[str] = set()
    for version in plan.versions if twice else ():
        for _, keys in () if version.retries else plan.keys(version):
            for key in (key for key in keys if hash_of(key) in twice):
                if key in seen:
                    yield Problem(version.path, f"the key {key} is planned twice")
                seen.add(key)


def check_identities(storage: Storage, plan: Plan) -> Iterator[Problem]:
    """Whether the identities are in the form in which they are written."""
    for version in plan.versions:
        path = identity_path(version.number)
        if storage.read(path) != identity_bytes(*read_identity(storage, version.number)):
            yield Problem(
                path, "not in the form in which it is written: repeated or further keys, or other spelling"
            )


def check_recipes(storage: Storage, plan: Plan, parts: Sequence[Part]) -> Iterator[Problem]:
    """Whether the recipes are those of the identities. Name, limits and execution are in no identity."""
    for version in plan.versions:
        identity, _ = read_identity(storage, version.number)
        if is_merged(identity):
            continue
        path = recipe_path(version.number)
        text = decoded(storage.read(path), path)
        yield from (Problem(path, what) for what in _against(text, path, identity.content))
    for part in parts:
        if part.url != storage.url:
            where = f"{identity_path(1)} (part {part.url})"
            yield from (Problem(where, what) for what in _against(part.recipe, where, part.identity.content))


def check_documents(
    storage: Storage, plan: Plan, sidecars: Mapping[int, Sidecar]
) -> tuple[list[Problem], list[Problem]]:
    """What is wrong with manifest and card of an output whose shards are sound, and which of them are missing."""
    advice = "flawforge manifest writes it anew"
    try:
        wanted = documents(storage, plan, sidecars)
    except RecipeError as error:
        return [], [Problem(CARD, f"not checked, since this version cannot read the recipe: {error}")]
    missing = [Problem(path, f"missing; {advice}") for path in wanted if not storage.exists(path)]
    wrong = []
    if storage.exists(MANIFEST) and storage.read(MANIFEST) != wanted[MANIFEST]:
        wrong.append(Problem(MANIFEST, f"it does not say what the sidecars say; {advice}"))
    if storage.exists(CARD) and not _same_card(storage.read(CARD), wanted[CARD]):
        wrong.append(Problem(CARD, f"it does not say what identity and sidecars say; {advice}"))
    return wrong, missing


def check_owners(storage: Storage, plan: Plan, sidecars: Mapping[int, Sidecar]) -> Iterator[Problem]:
    """Whether every shard was made for the plan that the output has now."""
    plans = {version.number: read_identity(storage, version.number)[1] for version in plan.versions}
    for number, sidecar in sidecars.items():
        if sidecar.plan_sha256 not in ("", plans[plan.version_of(number).number]):
            yield Problem(stats_path(number), "it was made for another plan (plan_sha256 differs)")


def strays(storage: Storage, plan: Plan, done: Collection[int]) -> Iterator[Problem]:
    """Files that readers would take for shards of this output, and that belong to no published one."""
    for folder, suffix in _FOLDERS:
        for name in storage.names(folder):
            number = number_in(name, suffix)
            if number is not None and number < plan.shards:
                if number not in done:
                    yield Problem(
                        f"{folder}/{name}", "stands without its sidecar; the next build replaces it"
                    )
            elif name.endswith(suffix):
                yield Problem(f"{folder}/{name}", "not in the plan")


def foreign_files(storage: Storage) -> Iterator[Problem]:
    """Files of other programs beside the shards, such as `000000.tar.idx` and `wids.json`: harmless."""
    for folder, suffix in _FOLDERS:
        for name in storage.names(folder):
            if not name.endswith(suffix):
                yield Problem(f"{folder}/{name}", "not a file of Flawforge; ignored")


def _against(text: str, where: str, content: Mapping[str, object]) -> Iterator[str]:
    """What a recipe has that is not the content of an identity."""
    try:
        written = read_mapping(text, where)
    except RecipeError as error:
        yield f"cannot be read: {error}"
        return
    unknown = sorted(written.keys() - {*CONTENT, *_BESIDE_CONTENT})
    if unknown:
        yield f"unknown keys {', '.join(unknown)}"
    mine = {name: written[name] for name in written if name in CONTENT}
    try:
        found = differences(content, mine)
    except ValueError:
        yield "it is not the recipe of the identity: it has a number that is not finite"
        return
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        yield f"it is not the recipe of the identity: {'; '.join(found[:3])}{more}"


def _same_card(found: bytes, wanted: bytes) -> bool:
    """Whether a card has the same text and the same front matter, except for fields that publishers may set."""
    try:
        (front, text), (wanted_front, wanted_text) = map(_divided, (found, wanted))
    except (OutputError, RecipeError):
        return False
    return text == wanted_text and all(
        front.get(name) == value for name, value in wanted_front.items() if name not in _AS_ONE_LIKES
    )


def _divided(card: bytes) -> tuple[dict[str, object], str]:
    """Front matter and text of a card."""
    text = decoded(card, CARD).replace("\r\n", "\n")
    begin, front, body = [*text.split("---\n", 2), "", ""][:3]
    if begin:
        raise OutputError(f"{CARD} does not begin with front matter")
    return read_mapping(front, CARD), body
