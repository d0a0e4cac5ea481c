"""Text from outside, made safe for what shows it: names of files, keys, captions, URLs, errors of other programs.

Whatever writes such text uses one of these functions, and nothing else escapes anything:

- terminals and log lines: `one_line`, `lines`;
- Markdown: `markdown`, `code`;
- HTML: Jinja's autoescape, with `shown_in_html` as the environment's `finalize`;
- JSON and YAML: `json.dumps` and `yaml.safe_dump` as they are, which write ASCII.
"""

from __future__ import annotations

import re

from markupsafe import Markup

_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
"""Characters without width or ink that `str.isprintable` takes for printable: fillers and variation selectors."""

_UNSEEN = re.compile(f"[{_INVISIBLE}]")
_PLAIN = re.compile(r"[A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*")
_TICKS = re.compile("`+")


def one_line(text: str) -> str:
    """Text that neither steers a terminal nor hides anything: other characters are written as Python escapes.

    These are control characters (ends of lines too), those that turn the direction of writing, those without width,
    and lone surrogates, which no encoding has.
    """
    if text.isprintable() and not _UNSEEN.search(text):
        return text
    return "".join(map(_visible, text))


def lines(text: str) -> str:
    """The same for a text of several lines. Further lines are indented, so that none looks like one of ours."""
    first, *rest = map(one_line, text.split("\n"))
    return "\n".join([first, *(line if line.startswith(" ") else f"  {line}" for line in rest)])


def markdown(text: str) -> str:
    """Plain words as they are; any other text as `code`."""
    return text if _PLAIN.fullmatch(text) else code(text)


def code(text: str) -> str:
    """Text as a span of code, in which Markdown knows no markup, HTML or links; it fits into a cell of a table."""
    # A table is taken apart at its bars before its cells are looked at, and renderers differ in what escapes a bar.
    safe = one_line(text).replace("|", "\\x7c") or " "
    fence = "`" * (1 + max(map(len, _TICKS.findall(safe)), default=0))
    pad = " " if safe[0] in "` " or safe[-1] in "` " else ""
    return f"{fence}{pad}{safe}{pad}{fence}"


def shown_in_html(value: object) -> object:
    """For every value that a template shows: what no page should hold is made visible; markup of ours stays."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(one_line, value.split("\n")))


def _visible(one: str) -> str:
    if one.isprintable() and not _UNSEEN.match(one):
        return one
    return one.encode("unicode_escape").decode()
