"""Attach Korean particles by the sound before them, also after digits, references and quotation marks."""

from __future__ import annotations

import re
from functools import lru_cache

_FORMS = {"은": "는", "이": "가", "을": "를", "과": "와", "이나": "나", "이랑": "랑", "이며": "며", "으로": "로"}
"""Particle after a consonant -> after a vowel."""
_DIGITS = ("영", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구")
_SMALL_UNITS = ("", "십", "백", "천")
_LARGE_UNITS = ("", "만", "억", "조", "경")
_SILENT = re.compile(r"[\s'\"’”」』》)\]]+$")
_IN_BRACKETS = re.compile(r"\([^()]*\)$")
_NUMBER = re.compile(r"\d[\d,]*(\.\d+)?$")


@lru_cache(maxsize=1 << 14)
def attach(word: str, particle: str) -> str:
    """Return `word` with a particle, given in its form after a consonant (은, 이, 을, 과, 으로, 이나, 이랑, 이며).

    Any other particle (의, 에, 에서, 보다) is appended unchanged. Raises ValueError if the pronunciation of the word's
    end is unknown, such as that of Latin letters.
    """
    if particle not in _FORMS:
        return word + particle
    final = final_consonant(word)
    takes_vowel_form = final == "" or (particle == "으로" and final == "ㄹ")
    return word + (_FORMS[particle] if takes_vowel_form else particle)


def final_consonant(word: str) -> str:
    """Return how a word ends when read aloud: "" for a vowel, "ㄹ", or "other" for another consonant."""
    text = word
    if not _is_hangul(text):
        text = _SILENT.sub("", _IN_BRACKETS.sub("", word.rstrip()) or word)
        if number := _NUMBER.search(text):
            text = read_number_end(number[0])
    if not _is_hangul(text):
        raise ValueError(f"the reading of the end of {word!r} is not known")
    final = (ord(text[-1]) - ord("가")) % 28
    return {0: "", 8: "ㄹ"}.get(final, "other")


def _is_hangul(text: str) -> bool:
    return bool(text) and "가" <= text[-1] <= "힣"


def read_number_end(number: str) -> str:
    """Return the last syllable of a number in Sino-Korean: 1987 칠, 2,000 천, 10 십, 300000 만, 1.50 영."""
    if "." in number:
        return _DIGITS[int(number[-1])]
    digits = number.replace(",", "").lstrip("0")
    if not digits:
        return _DIGITS[0]
    zeros = len(digits) - len(digits.rstrip("0"))
    if zeros == 0:
        return _DIGITS[int(digits[-1])]
    large = zeros // 4
    if large >= len(_LARGE_UNITS):
        raise ValueError(f"{number} is too large to be read")
    return _LARGE_UNITS[large] or _SMALL_UNITS[zeros % 4]


class Word(str):
    """A text that takes a particle as format specification: f"{Word('강'):으로}" is "강으로"."""

    __slots__ = ()

    def __format__(self, particle: str) -> str:
        return attach(str(self), particle) if particle else str(self)
