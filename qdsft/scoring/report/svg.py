"""What charts and graphs in SVG are made of: elements, safe text, and how wide text will be."""

from __future__ import annotations

import html
import re
import unicodedata

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NARROW = frozenset("iljtfrI.,:;'!|()[]/ ‘’·")
_BROAD = frozenset("mwMWOQ@%&#<>=+~^")
ELLIPSIS = "…"


def escape(text: str) -> str:
    """Text as it may stand in HTML and SVG, between tags and in attributes.

    Control characters and lone surrogates, which XML cannot hold and UTF-8 cannot write, become U+FFFD.
    """
    return html.escape(clean(text), quote=True)


def clean(text: str) -> str:
    """Return text with U+FFFD in place of control characters and lone surrogates, which XML and UTF-8 cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


def element(tag: str, content: str = "", **attributes: str | float | None) -> str:
    """One element around markup that is already escaped; attribute values are escaped here.

    In attribute names `_` becomes `-` and a last `_` goes (`class_`); None leaves the attribute out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def picture(content: str, width: float, height: float, title: str, class_: str) -> str:
    """A whole SVG of width x height units (about CSS pixels) that says `title` to those who cannot see it."""
    return element(
        "svg",
        element("title", escape(title)) + content,
        xmlns="http://www.w3.org/2000/svg",
        class_=class_,
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
    )


def label(text: str, x: float, y: float, **attributes: str | float | None) -> str:
    """A `<text>` at (x, y)."""
    return element("text", escape(text) or " ", x=x, y=y, **attributes)


def number(value: float) -> str:
    """A coordinate, to a tenth of a unit."""
    return f"{round(value, 1):.10g}"


def text_width(text: str, size: float) -> float:
    """About how wide a text is in a sans-serif font of `size`, rather too wide than too narrow; in units of `size`."""
    return size * sum(map(_em, text))


def wrap(text: str, width: float, size: float, most_lines: int) -> list[str]:
    """The lines of a text no wider than `width`: broken at spaces, inside a word only where it does not fit a line.

    At least one line, at most `most_lines`; what is left over becomes an ellipsis.
    """
    lines, line = [], ""
    for word in text[: most_lines * 400].split():
        if text_width(f"{line} {word}".strip(), size) <= width:
            line = f"{line} {word}".strip()
            continue
        if line:
            lines.append(line)
        *full, line = _pieces(word, width, size)
        lines += full
        if len(lines) > most_lines:
            break
    lines.append(line)
    if len(lines) > most_lines or len(text) > most_lines * 400:
        lines = lines[:most_lines]
        lines[-1] = _shorten(lines[-1], width, size)
    return lines


def _pieces(word: str, width: float, size: float) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and text_width(pieces[-1] + character, size) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _shorten(line: str, width: float, size: float) -> str:
    while line and text_width(line + ELLIPSIS, size) > width:
        line = line[:-1]
    return line.rstrip() + ELLIPSIS


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else number(value)


def _em(character: str) -> float:
    if character in _NARROW:
        return 0.36
    if character in _BROAD:
        return 0.95
    if character < "\u0300":
        return 0.7 if character.isupper() or character.isdigit() else 0.6  # digits: references are bold
    if unicodedata.east_asian_width(character) in "WF":
        return 1.4 if character > "\uffff" else 1.0  # beyond the basic plane these are mostly emoji
    return 0.0 if unicodedata.category(character) in {"Mn", "Me"} else 0.8
