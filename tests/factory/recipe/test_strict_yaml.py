"""The YAML of recipes: YAML 1.2, without aliases, within limits of text, depth, values and memory."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from actors.errors import FlawforgeError, RecipeError
from factory.maintain.inspect import inspect
from factory.maintain.merge import merge
from factory.maintain.verify import verify
from factory.output.rebuild import rebuild
from factory.recipe.recipe import load_recipe, parse_recipe
from factory.recipe.strict_yaml import dump_yaml
from factory.recipe.text import RecipeText, read_mapping
from tests.factory.maintain.forger import sound_output
from tests.factory.maintain.outputs import by_hand, sample

SMALL = "name: small\nsource: {kind: tinytown, size: 64}\nregions: {kind: source}\n"
REPOSITORY = Path(__file__).parents[3]
MERGE_KEYS = "a: &a0 {k: 1}\n" + "".join(
    f"b{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9)
)
"""2 KB that stand for 9^8 pairs."""

BOMBS = {
    "merge_keys": MERGE_KEYS,
    "aliases": "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)),
    "cyclic_alias": "name: &a [*a]\n",
    "cyclic_merge": "a: &a {<<: *a}\n",
    "anchor_alone": "name: &name small\n",
    "deep_flow": "a: " + "[" * 50_000,
    "deep_block": "".join(" " * n + "a:\n" for n in range(1_000)),
    "deep_dashes": "- " * 100_000 + "1\n",
    "huge_scalar": "name: " + "x" * 900_000 + "\n",
    "huge_quoted_scalar": f"name: '{'x' * 900_000}'\n",
    "huge_key": "? " + "k" * 900_000 + "\n: 1\n",
    "many_values": "a: [" + "1," * 40_000 + "]\n",
    "many_keys": "".join(f"k{n}: 1\n" for n in range(9_000)),
    "many_documents": "--- a\n" * 100_000,
    "too_long": "# " + "c" * (1 << 20),
    "python_tag": "name: !!python/object/apply:os.system [true]\n",
    "own_tag": "name: !x small\n",
    "binary_tag": "name: !!binary aGVsbG8=\n",
    "set_tag": "name: !!set {a, b}\n",
    "timestamp_tag": "name: !!timestamp 2020-01-01\n",
    "no_such_character": 'name: "\\U00110000"\n',
    "lone_surrogate": 'name: "\\ud800"\n',
    "nul": 'name: "a\\0b"\n',
    "odd_version": "%YAML 99999999999999999999999.1\n--- {}\n",
    "odd_directive": "%TAG ! tag:x,2000:\n--- !y {}\n",
    "tabs": "source:\n\tkind: tinytown\n",
    "control_character": "name: \x01\n",
    "digits_as_seed": "seed: " + "9" * 8_000 + "\n",
    "hex_as_seed": "seed: 0x" + "f" * 8_000 + "\n",
    "octal_as_seed": "seed: 0o" + "7" * 8_000 + "\n",
}

STRANGE = ("merge_keys", "aliases", "cyclic_alias", "deep_flow", "huge_scalar", "python_tag", "hex_as_seed")


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_its_line(name: str):
    with pytest.raises(RecipeError, match=r"^mine\.yaml: .*\n  line \d+") as caught:
        parse_recipe(BOMBS[name], "mine.yaml")
    assert len(str(caught.value)) < 40_000


@pytest.mark.parametrize(
    "value", ["[" * 5_000, "*a", "&a 1", "{<<: {a: 1}}", "0x" + "f" * 8_000, "!!python/none x"]
)
def test_an_override_is_read_by_the_same_rules(value: str):
    with pytest.raises(RecipeError, match=r"\(--set\)"):
        parse_recipe(SMALL, "mine.yaml", [f"seed={value}"])


def test_bombs_in_little_memory():
    """In a process of its own, for all of them together."""
    program = (
        "from actors.errors import RecipeError\n"
        "from factory.recipe.recipe import parse_recipe\n"
        "from tests.peak_memory import peak_mib\n"
        "from tests.factory.recipe.test_strict_yaml import BOMBS\n"
        "before = peak_mib()\n"
        "for text in BOMBS.values():\n"
        "    try: parse_recipe(text, 'mine.yaml')\n"
        "    except RecipeError: pass\n"
        "print(round(peak_mib() - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300


def test_a_file_of_100_megabytes_is_not_read_to_its_end(tmp_path: Path):
    file = tmp_path / "large.yaml"
    file.write_bytes(b"name: x\n")
    os.truncate(file, 100 << 20)
    with pytest.raises(RecipeError, match=r"large\.yaml: larger than 1,048,576 bytes"):
        load_recipe(file)


@pytest.mark.parametrize("name", [*STRANGE, "not_utf8", "large", "a_list", "empty", "no_name"])
def test_the_recipe_of_a_stranger_s_output(tmp_path: Path, name: str):
    """Every command that reads `recipe.yaml` refuses it by name, and `verify` does before it reads a shard."""
    storage = sound_output(tmp_path / "out")
    other = by_hand(tmp_path / "other", [[sample("other-1", "memory://o.png")]], name="other")
    data = {
        "not_utf8": b"name: \xe9\n",
        "large": b"name: x\n" + bytes(50 << 20),
        "a_list": b"- name\n",
        "empty": b"",
        "no_name": b"seed: 1\n",
    }.get(name, BOMBS.get(name, "").encode("utf-8", "surrogatepass"))
    storage.replace("recipe.yaml", data)
    for work in (
        lambda: verify(storage),
        lambda: rebuild(storage),
        lambda: inspect(storage, "item-0"),
        lambda: merge(str(tmp_path / "merged"), [storage.url, other.url]),
    ):
        with pytest.raises(FlawforgeError, match=r"recipe\.yaml") as caught:
            assert not getattr(work(), "sound", False)
            raise RecipeError("recipe.yaml: reported as a problem")
        assert len(str(caught.value)) < 40_000


def values(text: str) -> object:
    return read_mapping(f"value: {text}\n", "mine.yaml")["value"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        ("0x10", 16),
        ("0o17", 15),
        ("9223372036854775807", 2**63 - 1),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        (".5", 0.5),
        ("5.", 5.0),
        ("0.10", 0.1),
        ("010.5", 10.5),
        ("-.5e1", -5.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("NO", "NO"),
        ("on", "on"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("-0x10", "-0x10"),
        ("0O7", "0O7"),
        ("12:30:45", "12:30:45"),
        ("1:30.5", "1:30.5"),
        ("2020-01-01", "2020-01-01"),
        ("2020-01-01 10:00:00", "2020-01-01 10:00:00"),
        ("=", "="),
        ("nan", "nan"),
        ("inf", "inf"),
        ("tRue", "tRue"),
        ("'010'", "010"),
        ('"yes"', "yes"),
        ("!!str 12", "12"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_a_value_is_what_yaml_1_2_says(text: str, value: object):
    """By the core schema of YAML 1.2.2, section 10.3.2, worked out by hand."""
    found = values(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("010", "found 010; allowed: a whole number without leading zeros, which are octal to some readers of YAML: "
         "write 10, or put quotes round text"),
        ("-010", "write -10, or put quotes"),
        ("00", "write 0, or put quotes"),
        ("089", "write 89, or put quotes"),
        ("9223372036854775808", "allowed: whole numbers up to 9223372036854775807"),
        ("0x8000000000000000", "allowed: whole numbers up to 9223372036854775807"),
        ("1e-400", "found 1e-400; allowed: numbers that 64 bits can tell from 0"),
        ("!!int x", "found 'x', which YAML cannot read"),
        ("!!bool yes", "found 'yes', which YAML cannot read"),
    ],
)  # fmt: skip
def test_what_has_two_meanings_or_none_is_refused(text: str, reported: str):
    with pytest.raises(RecipeError) as caught:
        values(text)
    assert "line 1  value: " in str(caught.value) and reported in str(caught.value)


@pytest.mark.parametrize(
    "seed", ["1_000", "0b1", "12:30:45", "yes", "1e3", ".5", "2020-01-01", "~", "1e999", ".inf"]
)
def test_a_seed_is_a_plain_whole_number(seed: str):
    with pytest.raises(RecipeError, match=r"line 4  seed: found .*; allowed: a whole number from 0 to"):
        parse_recipe(f"{SMALL}seed: {seed}\n", "mine.yaml")


@pytest.mark.parametrize("value", ["1e999", "-1e999", ".inf", ".nan", "-.INF"])
@pytest.mark.parametrize("key", ["verify.least_inside", "selection.largest_aspect", "execution.load.cpus"])
def test_a_number_is_finite(key: str, value: str):
    with pytest.raises(RecipeError, match=rf"{key}: found"):
        parse_recipe(SMALL, "mine.yaml", [f"{key}={value}"])


def test_what_is_dumped_means_the_same_to_readers_of_both_versions():
    texts = [
        "010",
        "0o7",
        "1e3",
        "1_0",
        "12:30",
        "yes",
        "~",
        "null",
        "2020-01-01",
        "<<",
        "=",
        "",
        " x",
        "a: b",
        "0x1",
    ]
    document = {
        "texts": texts,
        "numbers": [1, -1, 1.5, 1e-7, 1e22, math.pi],
        "others": [True, None],
        "again": texts,
    }
    text = dump_yaml(document)
    assert read_mapping(text, "mine.yaml") == yaml.safe_load(text) == document


def test_a_byte_order_mark_is_passed_over(tmp_path: Path):
    file = tmp_path / "marked.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load_recipe(file) == parse_recipe(SMALL, "mine.yaml")


def test_lines_are_known_of_values_that_cannot_be_read():
    written = RecipeText("name: small\nseed: 007\nsource: {size: 0x1_0}\n")
    assert [(mistake.path, mistake.line) for mistake in written.mistakes] == [(("seed",), 2)]
    assert written.values["source"]["size"] == "0x1_0"


@pytest.mark.parametrize(
    "key",
    [
        "regions.batch_size",
        "corruption.batch_size",
        "corruption.threads",
        "corruption.inference_steps",
        "output.samples_per_shard",
        "source.first_seed",
        "source.size",
        "verify.attempts",
    ],
)
def test_a_number_that_sizes_memory_has_an_upper_limit(key: str):
    with pytest.raises(RecipeError, match=rf"{key}: found 9223372036854775807; allowed: .* to \d+"):
        parse_recipe(SMALL, "mine.yaml", [f"{key}={2**63 - 1}"])
