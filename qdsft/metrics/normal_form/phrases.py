"""Phrases that tell operators apart, and that a rule must therefore not take apart."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.metrics.normal_form.tokens import Token

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
"""Operator -> its phrases. A blank at an end asks for a word on that side: the phrase may not end there."""

Phrases = frozenset[str]

EVERY_PHRASE: Phrases = frozenset(phrase for phrases in PRESERVED.values() for phrase in phrases)


def without_own(protected: Phrases, operator: str) -> Phrases:
    """What stays protected from the rule of this operator: all but its own phrases, also where others share them."""
    return protected - frozenset(PRESERVED.get(operator, ()))


def is_phrase(tokens: Sequence[Token], start: int, end: int, phrases: Phrases) -> bool:
    """Whether the span [start, end) of a node's tokens is one of the phrases, with a token wherever it asks for one."""
    text = " ".join(token.text for token in tokens[start:end])
    left, right = (" " if start else ""), (" " if end < len(tokens) else "")
    return not phrases.isdisjoint({text, left + text, text + right, left + text + right})


def is_protected(tokens: Sequence[Token], start: int, end: int, phrases: Phrases) -> bool:
    """Whether the span [start, end) of a node's tokens is one of the phrases, or a border of it cuts one.

    A phrase is looked for in the texts of the tokens joined by blanks, inside words too; its own blanks belong
    to it, so that a border beside "front" cuts " in front ".
    """
    if not phrases:
        return False
    text = " ".join(token.text for token in tokens)
    first = len(" ".join(token.text for token in tokens[:start])) + (start > 0)
    last = first + len(" ".join(token.text for token in tokens[start:end]))
    return is_phrase(tokens, start, end, phrases) or any(
        _is_cut(text, phrase, border) for phrase in phrases for border in (first, last)
    )


def _is_cut(text: str, phrase: str, border: int) -> bool:
    """Whether the phrase occurs in the text with a part of it on either side of the border."""
    return phrase in text[max(0, border - len(phrase) + 1) : border + len(phrase) - 1]
