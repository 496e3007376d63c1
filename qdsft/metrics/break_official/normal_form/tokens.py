"""A step as tokens: words with their place in the parse, and references to other nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qdsft.data.decomposition import reference_number
from qdsft.metrics.break_official.english_model import load_english

_EXACT_REFERENCE = re.compile(r"@@\d+@@")
STAND_IN = "objects"
"""The word that the parser sees in the place of a reference."""
DETERMINERS = frozenset({"DT", "PDT", "PRP$", "WDT", "WP$"})
"""Tags of what spaCy 2, for which the rules were made, took for determiners: "that" in "that are red", "both", "its".
To spaCy 3 many of them are pronouns."""


@dataclass(frozen=True)
class Word:
    """A word of a parsed step. Indices are those of the parse, which rules leave as they are."""

    text: str
    lemma: str
    pos: str
    tag: str
    dep: str
    index: int
    head: int
    """Index of the head; a root is its own."""
    head_lemma: str
    above: frozenset[int]
    """Indices of the head, its head, and so on up to the root."""


@dataclass(frozen=True)
class Ref:
    """A reference to a node, which stands for the words [start, end) of the parse."""

    text: str
    """As written, `@@2@@` or `@@02@@`."""
    start: int
    end: int

    pos = "NOUN"
    tag = "NNS"

    @property
    def number(self) -> int:
        return reference_number(self.text.strip("@"))

    @property
    def lemma(self) -> str:
        return self.text


Token = Word | Ref


def parse_steps(texts: Sequence[str]) -> list[list[Token]]:
    """Return the tokens of steps with references written `@@n@@`, in lower case with single blanks.

    Raises UserError if spaCy or its model is absent, UnicodeEncodeError for a lone surrogate, which JSON can hold.
    """
    normal = [" ".join(text.split()).lower() for text in texts]
    new = [text for text in dict.fromkeys(normal) if text not in _parsed]
    if new:
        english = load_english()
        if len(_parsed) + len(new) > LARGEST_CACHE:
            _parsed.clear()
            new = list(dict.fromkeys(normal))
        plain = [english.make_doc(text) for text in new]
        # A parser that never saw "@@1@@" takes it for a name or worse; a plural noun gives the parse that is meant.
        for text, doc, parsed in zip(new, plain, english.pipe(map(_with_stand_ins, plain)), strict=True):
            _parsed[text] = _tokens(doc, parsed if len(parsed) == len(doc) else english(text))
    return [list(_parsed[text]) for text in normal]


LARGEST_CACHE = 20_000
_parsed: dict[str, tuple[Token, ...]] = {}
"""Step -> its tokens: parsing takes most of the time, and steps recur ("number of #1")."""


def _with_stand_ins(doc: Any) -> str:
    """Return the tokens separated by blanks, as the evaluator gives them to the parser."""
    return " ".join(STAND_IN if _EXACT_REFERENCE.fullmatch(token.text) else token.text for token in doc)


def _tokens(plain: Any, parsed: Any) -> tuple[Token, ...]:
    """Return the tokens of a parse, with references where the given step has them."""
    matches = [_EXACT_REFERENCE.fullmatch(token.text) for token in plain]
    return tuple(
        Ref(match[0], place, place + 1) if match else _word(token)
        for place, (match, token) in enumerate(zip(matches, parsed, strict=True))
    )


def _word(token: Any) -> Word:
    return Word(
        text=token.text,
        lemma=token.lemma_,
        pos="DET" if token.tag_ in DETERMINERS else token.pos_,
        tag=token.tag_,
        dep=token.dep_,
        index=token.i,
        head=token.head.i,
        head_lemma=token.head.lemma_,
        above=frozenset(ancestor.i for ancestor in token.ancestors),
    )
