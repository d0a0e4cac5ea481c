"""Text from outside stays text, whatever shows it."""

from __future__ import annotations

import pytest

from actors.foreign_text import code, lines, markdown, one_line
from tests.hostile import HOSTILE, tokens, unseen


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_gets_one_line_without_anything_unseen(text: str) -> None:
    shown = one_line(text)
    assert not unseen(shown)
    shown.encode()
    if not unseen(text):
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202egnp", "\\u202egnp"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("a\u00a0b", "a\\xa0b"),
        ("ß é 日本", "ß é 日本"),
    ],
)
def test_what_is_shown_instead(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_further_lines_cannot_be_taken_for_ours() -> None:
    assert (
        lines("flawforge: a\nflawforge: all is well\n  b\x1b")
        == "flawforge: a\n  flawforge: all is well\n  b\\x1b"
    )


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("escape", [markdown, code])
def test_markdown_has_it_as_code(text: str, escape: object) -> None:
    span = escape(text)  # type: ignore[operator]
    expected = one_line(text).replace("|", "\\x7c") or " "
    for around in ("before {} after\nnext *line*", "# {}", "| a | {} | c |\n|---|---|---|\n| 1 | {} | 3 |\n"):
        found = list(tokens(around.replace("{}", span)))
        kinds = {token.type for token in found}
        assert not kinds & {
            "html_inline",
            "html_block",
            "link_open",
            "image",
            "s_open",
            "strong_open",
            "fence",
        }
        codes = [token.content for token in found if token.type == "code_inline"]
        # CommonMark takes a space away at both ends where there is one at both.
        assert {one.strip() for one in codes} == {expected.strip()}
        if around.startswith("|"):
            assert [token.content for token in found if token.type == "inline"] == [
                "a",
                span,
                "c",
                "1",
                span,
                "3",
            ]


@pytest.mark.parametrize("word", ["xyz", "duplicate_key", "embedded-flaws", "two words", "7z"])
def test_plain_words_stay_plain(word: str) -> None:
    assert markdown(word) == word
    assert code(word) == f"`{word}`"


@pytest.mark.parametrize(
    "word", ["_x_", "a__b", "1.", "-", "www.evil.example", "x@evil.example", "a#1", "@user"]
)
def test_other_words_do_not(word: str) -> None:
    assert markdown(word) == f"`{word}`"
