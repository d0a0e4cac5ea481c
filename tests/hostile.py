"""Text as nobody sane would write it, for whatever shows text from outside."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "![x](https://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "<https://evil.example>",
    "https://evil.example",
    "a | b | c",
    "a \\| b \\",
    "`code` `` and ```",
    "`",
    "``` \n# heading\n```",
    "one\n\n# heading\n\n- list\n\n> quote",
    "one\n---\nlicense: mit\n---\ntwo",
    "*a* **b** ~~c~~ __d__",
    "&lt;b&gt; &#60;",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J",
    "a\rb\x08\x7f\x00",
    "\u202egnp.exe\u2066\u200f\u061c",
    "a\u200bb\u200cc\ufeff\u2060\u00ad\u034f\u3164\ufe0f",
    "\u2028\u2029\u0085",
    "\ud800 lone",
    "[bold]x[/bold] [/] [link=https://evil.example]",
    "{name} {0} %s {{ 7*7 }} {% raw %}",
    " leading and trailing ",
    "",
    "é 日本 🙂",
]


def unseen(text: str) -> list[str]:
    """Names of the characters in a text that steer, hide or reorder, by Unicode's own categories."""
    ignorable = "\u034f\u115f\u1160\u17b4\u17b5\u3164\ufe0f\uffa0"
    bad = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    return [f"U+{ord(one):04X}" for one in text if unicodedata.category(one) in bad or one in ignorable]


def tokens(markdown: str) -> Iterator[Token]:
    """All tokens of a text in CommonMark with tables, as GitHub and the Hub have it; blocks, then what is in them."""
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown):
        yield token
        yield from token.children or ()
