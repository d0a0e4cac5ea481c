"""A scene, its caption in words, and the way back: every caption has exactly one correct picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SIZE = 64
"""Side of a picture, in pixels."""

GRID = 4
"""Objects stand on a grid of 4 pixels, which is one latent cell of the shipped model."""

BACKGROUNDS = ("day", "night", "sunset", "desert", "snow")
RADII = {"small": 11, "medium": 14, "large": 17, "huge": 20}
"""Radius of the circle that holds an object, in pixels, by the word for its size."""

SKINS = ("pale", "tan", "brown", "dark")
LETTERS = "AEHKLNTX"

NUMBERS = tuple(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen".split()  # noqa: SIM905
)

CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "face": {
        "skin": SKINS,
        "hair": ("black", "brown", "blond", "red", "grey"),
        "mouth": ("smile", "frown", "gasp"),
    },
    "hand": {"side": ("left", "right"), "skin": SKINS},
    "clock": {
        "rim": ("black", "red", "green", "blue"),
        "hour": NUMBERS[1:13],
        "minute": ("oclock", "thirty"),
    },
    "car": {"paint": ("red", "orange", "yellow", "blue"), "facing": ("left", "right")},
    "house": {"wall": ("white", "yellow", "purple"), "roof": ("red", "brown", "blue")},
    "tree": {"crown": ("round", "pointed"), "leaf": ("green", "orange", "pink")},
    "sign": {"board": ("white", "yellow"), "letters": tuple(LETTERS)},
}
"""Attributes of every kind and their values. `letters` of a sign holds three of the eight letters."""

KINDS = tuple(CHOICES)

_PHRASES = {
    "face": "a {size} face with {skin} skin {hair} hair and a {mouth}",
    "hand": "a {size} {side} hand with {skin} skin",
    "clock": "a {size} {rim} clock showing {hour} {minute}",
    "car": "a {size} {paint} car facing {facing}",
    "house": "a {size} {wall} house with a {roof} roof",
    "tree": "a {size} {crown} {leaf} tree",
    "sign": "a {size} {board} sign reading {letters}",
}
_PLACE = " at column {column} row {row}"


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        kind: one of `KINDS`.
        size: a word of `RADII`.
        column, row: centre on the grid; the pixel is `GRID * column`, `GRID * row`.
        attributes: (name, value) in the order of `CHOICES[kind]`; a sign's letters are one string such as `"HEN"`.
    """

    kind: str
    size: str
    column: int
    row: int
    attributes: tuple[tuple[str, str], ...]

    @property
    def radius(self) -> int:
        """Radius in pixels of the circle that holds the object."""
        return RADII[self.size]

    @property
    def centre(self) -> tuple[int, int]:
        """Centre in pixels (x, y)."""
        return GRID * self.column, GRID * self.row

    def __getitem__(self, name: str) -> str:
        return dict(self.attributes)[name]


@dataclass(frozen=True)
class Scene:
    """A background and one to three objects, whose circles do not overlap."""

    background: str
    things: tuple[Thing, ...]


def sample_scene(seed: int) -> Scene:
    """The scene of a seed; equal seeds give equal scenes on every machine.

    Args:
        seed: a non-negative integer.
    """
    rng = np.random.default_rng(seed)

    def choose(values: tuple[str, ...]) -> str:
        return values[int(rng.integers(len(values)))]

    background = choose(BACKGROUNDS)
    wanted = int(rng.integers(1, 4))
    things: list[Thing] = []
    for _ in range(40):
        if len(things) == wanted:
            break
        size = choose(tuple(RADII)) if wanted < 3 else choose(("small", "medium"))
        cells = _cells(RADII[size])
        kind = choose(KINDS)
        attributes = tuple(
            (name, "".join(choose(values) for _ in range(3)) if name == "letters" else choose(values))
            for name, values in CHOICES[kind].items()
        )
        column, row = int(rng.choice(cells)), int(rng.choice(cells))
        thing = Thing(kind, size, column, row, attributes)
        if all(_apart(thing, other) for other in things):
            things.append(thing)
    return Scene(background, tuple(things))


def caption(scene: Scene) -> str:
    """The words that say all of a scene, in small letters but for a sign's letters; at most 77 CLIP tokens."""
    return f"a {scene.background} scene with " + ", ".join(_phrase(thing) for thing in scene.things)


def parse(text: str) -> Scene:
    """The scene that a caption describes.

    Raises:
        ValueError: the words are not a caption of tinytown; the message says which part.
    """
    match = re.fullmatch(r"a (\w+) scene with (.+)", text)
    if not match or match[1] not in BACKGROUNDS:
        raise ValueError(
            f"not a tinytown caption: {text!r} should begin with 'a <background> scene with', "
            f"where the background is one of {', '.join(BACKGROUNDS)}"
        )
    things = tuple(_parse_thing(part) for part in match[2].split(", "))
    if len(things) > 3:
        raise ValueError(f"a tinytown scene has at most three objects, not {len(things)}: {text!r}")
    for index, thing in enumerate(things):
        for other in things[:index]:
            if not _apart(thing, other):
                raise ValueError(f"objects overlap: {_phrase(thing)!r} and {_phrase(other)!r}")
    return Scene(match[1], things)


def vocabulary() -> list[str]:
    """Every word that a caption can hold, sorted."""
    words: set[str] = set(BACKGROUNDS) | set(RADII) | set(NUMBERS) | set(LETTERS)
    for phrase in (*_PHRASES.values(), _PLACE, "a scene with"):
        words.update(word for word in phrase.split() if "{" not in word)
    for attributes in CHOICES.values():
        for values in attributes.values():
            words.update(values)
    return sorted(words)


def _cells(radius: int) -> range:
    """Grid cells on which an object of this radius lies wholly inside the picture."""
    return range(-(-radius // GRID), (SIZE - radius) // GRID + 1)


def _apart(one: Thing, other: Thing) -> bool:
    (x, y), (u, v) = one.centre, other.centre
    return (x - u) ** 2 + (y - v) ** 2 >= (one.radius + other.radius - 1) ** 2


def _phrase(thing: Thing) -> str:
    words = dict(thing.attributes)
    if "letters" in words:
        words["letters"] = " ".join(words["letters"])
    place = _PLACE.format(column=NUMBERS[thing.column], row=NUMBERS[thing.row])
    return _PHRASES[thing.kind].format(size=thing.size, **words) + place


def _patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for kind, phrase in _PHRASES.items():
        pattern = phrase + _PLACE
        groups = {"size": tuple(RADII), "column": NUMBERS, "row": NUMBERS, **CHOICES[kind]}
        for name, values in groups.items():
            one = "|".join(values)
            group = f"(?:{one}) (?:{one}) (?:{one})" if name == "letters" else one
            pattern = pattern.replace("{" + name + "}", f"(?P<{name}>{group})")
        yield kind, re.compile(pattern)


_THING_PATTERNS = dict(_patterns())


def _parse_thing(text: str) -> Thing:
    for kind, pattern in _THING_PATTERNS.items():
        match = pattern.fullmatch(text)
        if match:
            words = match.groupdict()
            column, row = NUMBERS.index(words["column"]), NUMBERS.index(words["row"])
            cells = _cells(RADII[words["size"]])
            if column not in cells or row not in cells:
                raise ValueError(f"object reaches out of the picture: {text!r}")
            attributes = tuple((name, words[name].replace(" ", "")) for name in CHOICES[kind])
            return Thing(kind, words["size"], column, row, attributes)
    raise ValueError(f"not an object of tinytown: {text!r}")
