"""Compare texts regardless of case, width, spacing and Unicode composition, and tell their script."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache
from typing import Literal


@lru_cache(maxsize=64)
def normalise(text: str) -> str:
    """Return a text in NFKC (NFC and NFD agree, full width is half width), case folded, with single spaces."""
    if text.isascii() and text.isprintable() and "  " not in text:  # most English text; three times as fast
        return text.lower().strip()
    return " ".join(compose("NFKC", text).casefold().split())


_MARKS = re.compile(r"[^\w\s\x00-\x7f]{31,}")


def compose(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Return a text in a Unicode normal form.

    Python's own function takes quadratic time for a long run of combining marks, so a run is divided every 30 marks,
    as in the Stream-Safe Text Format of UAX 15.
    """
    return unicodedata.normalize(form, _MARKS.sub(_divided, text))


def _divided(run: re.Match[str]) -> str:
    parts: list[str] = []
    marks = 0
    for character in run[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > 30:
            parts.append("\u034f")
            marks = 1
        parts.append(character)
    return "".join(parts)


def question_hash(question: str) -> str:
    """Return the SHA-256 of the normalised question."""
    return hashlib.sha256(normalise(question).encode("utf-8")).hexdigest()


HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]+")
LATIN = re.compile("[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]+")


def main_script(text: str) -> str:
    """Return `Hangul`, `Latin script` or `other`: the script with more letters, without capitalised words (names)."""
    hangul = sum(map(len, HANGUL.findall(text)))
    latin = sum(len(word) for word in LATIN.findall(text) if word[0].islower())
    if hangul == latin:
        return "Latin script" if LATIN.search(text) and not hangul else "other"
    return "Hangul" if hangul > latin else "Latin script"


def language(text: str) -> str:
    """Return en, ko or other, by the script of most of the text."""
    return {"Latin script": "en", "Hangul": "ko"}.get(main_script(text), "other")
