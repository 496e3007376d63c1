"""When two questions are the same: without regard to case, width, spacing and Unicode composition."""

from __future__ import annotations

import hashlib
import re
import unicodedata


def normalise(text: str) -> str:
    """NFKC (so NFC and NFD agree, and full width is half width), case folded, white space as single spaces."""
    if text.isascii() and text.isprintable() and "  " not in text:  # most English text; three times as fast
        return text.lower().strip()
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def question_hash(question: str) -> str:
    """SHA-256 of the normalised question."""
    return hashlib.sha256(normalise(question).encode("utf-8")).hexdigest()


_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]+")


_LATIN = re.compile("[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]+")


def main_script(text: str) -> str:
    """`Hangul`, `Latin script` or `other`: whichever has more letters; words with a capital count as names."""
    hangul = sum(map(len, _HANGUL.findall(text)))
    latin = sum(len(word) for word in _LATIN.findall(text) if word[0].islower())
    if hangul == latin:
        return "Latin script" if _LATIN.search(text) and not hangul else "other"
    return "Hangul" if hangul > latin else "Latin script"
