"""Phrases that distinguish operators, which a rule must not split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from qdsft.metrics.break_official.normal_form.tokens import Token

SUPERLATIVES = ("highest", "largest", "most", "smallest", "lowest", "least", "longest", "shortest", "biggest")

AGGREGATES = (
    *("number of ", "highest", "largest", "lowest", "smallest", "maximum", "minimum", "max", "min", "sum", "total"),
    *("average ", "avg ", "mean ", "most", "longest", "biggest", "more", "last", "longer", "higher", "larger", "least"),
    *("shortest", "less", "first", "shorter", "lower", "fewer", "smaller", "true ", "false "),
)

PRESERVED: dict[str, tuple[str, ...]] = {
    "AGGREGATE": AGGREGATES,
    "GROUP": ("for each ",),
    "COMPARATIVE": (
        *("same as ", "higher than ", "larger than ", "smaller than ", "lower than ", "more than ", "less than "),
        *("more", "less", "at least", "at most", "equal", "contain ", "include ", "has ", "have ", "end with "),
        *("start with ", "ends with ", "starts with ", "begin", "higher", "larger", "smaller", "lower", "not "),
        *("same as", "the same", "equal to ", "where "),
    ),
    "SUPERLATIVE": SUPERLATIVES,
    "UNION": (" and ", " or ", " , "),
    "INTERSECTION": ("both", " and ", "of both ", "in both ", "by both "),
    "DISCARD": ("besides ", "not in "),
    "SORT": ("sorted by ", "order by ", "ordered by "),
    "BOOLEAN": ("if ", "is ", "are ", " any"),
    "ARITHMETIC": ("sum", "difference", "multiplication", "division"),
    "FILTER": (
        *(" left ", " right ", " between ", " behind ", " in front ", " infront ", " touch", " reflect", " cover"),
        *(" obscur", " blocking", " blocked", " hidden", " obstruct", " near", " next", " next to ", " close "),
        *(" closer ", " closest ", " adjacent ", " that is ", " that are "),
    ),
}
"""Operator -> its phrases, of one or two words. `is_protected` explains blanks at their ends."""

Phrases = frozenset[str]

EVERY_PHRASE: Phrases = frozenset(phrase for phrases in PRESERVED.values() for phrase in phrases)


@dataclass(frozen=True)
class _Places:
    """Phrases without their blanks, by where they may not stand."""

    whole: frozenset[str]
    """As the whole span: all."""
    across: frozenset[str]
    """Across a border of it: those of two words."""
    first: frozenset[str]
    """At its start, unless the tokens start there too: those with a blank before them."""
    last: frozenset[str]
    """At its end, unless the tokens end there too: those with a blank behind them."""


@cache
def without_own(protected: Phrases, operator: str) -> Phrases:
    """Return what is protected from the rule of this operator: all but its own phrases, even shared ones."""
    return protected - frozenset(PRESERVED.get(operator, ()))


def is_protected(tokens: Sequence[Token], start: int, end: int, phrases: Phrases) -> bool:
    """Return True if the span [start, end) of a node's tokens is one of the phrases, or its border cuts one.

    Phrases are compared with whole tokens. A border cuts a phrase of two words that stands across it; where the
    phrase has a blank on that side, the word beyond the border belongs to it as well, if there is one.
    """
    if not phrases:
        return False
    places = _places(phrases)
    texts = [token.text for token in tokens]
    if " ".join(texts[start:end]) in places.whole:
        return True
    if start > 0 and (_at(texts, start - 1, 2) in places.across or _starts(texts, start, places.first)):
        return True
    return end < len(texts) and (_at(texts, end - 1, 2) in places.across or _ends(texts, end, places.last))


@cache
def _places(phrases: Phrases) -> _Places:
    return _Places(
        frozenset(phrase.strip() for phrase in phrases),
        frozenset(phrase.strip() for phrase in phrases if " " in phrase.strip()),
        frozenset(phrase.strip() for phrase in phrases if phrase[0] == " "),
        frozenset(phrase.strip() for phrase in phrases if phrase[-1] == " "),
    )


def _at(texts: Sequence[str], start: int, words: int) -> str:
    return " ".join(texts[start : start + words])


def _starts(texts: Sequence[str], start: int, phrases: Phrases) -> bool:
    return texts[start] in phrases or _at(texts, start, 2) in phrases


def _ends(texts: Sequence[str], end: int, phrases: Phrases) -> bool:
    return texts[end - 1] in phrases or (end > 1 and _at(texts, end - 2, 2) in phrases)
