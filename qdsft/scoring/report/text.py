"""Text in drawings: characters that XML can hold, how wide text will be, and where lines break."""

from __future__ import annotations

import re
import unicodedata

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NARROW = frozenset("iljtfrI.,:;'!|()[]/ ‘’·")
_BROAD = frozenset("mwMWOQ@%&#<>=+~^")
ELLIPSIS = "…"


def clean(text: str) -> str:
    """Return text with U+FFFD in place of control characters and lone surrogates, which XML and UTF-8 cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


def text_width(text: str, size: float) -> float:
    """Return about how wide text is in a sans-serif font of `size`, in units of `size`; more often too wide."""
    return size * sum(map(_em, text))


def wrap(text: str, width: float, size: float, most_lines: int) -> list[str]:
    """Break text into lines no wider than `width`: at spaces, or inside a word that is longer than a line.

    Return at least one line and at most `most_lines`. An ellipsis replaces the rest.
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
