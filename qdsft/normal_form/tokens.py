"""A step as a list of tokens: words with their place in the parse, and references to other nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from qdsft.english_model import load_english

_EXACT_REFERENCE = re.compile(r"@@(\d{1,9})@@")
STAND_IN = "objects"
"""The word that the parser sees in the place of a reference."""
POS_OF_TAG = {"WDT": "DET", "DT": "DET", "PDT": "DET", "IN": "ADP"}
"""Parts of speech that follow from the tag alone in spaCy 2, for which the rules are made; spaCy 3 makes a
pronoun of many a determiner ("that are red", "all of them") and a conjunction of many a preposition."""


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

    number: int
    start: int
    end: int

    pos = "NOUN"
    tag = "NNS"

    @property
    def text(self) -> str:
        return f"@@{self.number}@@"

    @property
    def lemma(self) -> str:
        return self.text


Token = Word | Ref


def parse_step(text: str) -> list[Token]:
    """The tokens of a step whose references are written `@@n@@`.

    Raises UserError if spaCy or its model is absent.
    """
    return list(_parse(" ".join(text.split()).lower()))


@lru_cache(maxsize=10_000)
def _parse(text: str) -> tuple[Token, ...]:
    english = load_english()
    plain = english(text)
    references = {token.i: match for token in plain if (match := _EXACT_REFERENCE.fullmatch(token.text))}
    # A parser that never saw "@@1@@" takes it for a name or worse; a plural noun gives the parse that is meant.
    parsed = english("".join(STAND_IN + t.whitespace_ if t.i in references else t.text_with_ws for t in plain))
    if len(parsed) != len(plain):
        parsed = plain
    return tuple(
        Ref(int(references[token.i][1]), token.i, token.i + 1) if token.i in references else _word(token)
        for token in parsed
    )


def _word(token: Any) -> Word:
    return Word(
        text=token.text,
        lemma=token.lemma_,
        pos=POS_OF_TAG.get(token.tag_, token.pos_),
        tag=token.tag_,
        dep=token.dep_,
        index=token.i,
        head=token.head.i,
        head_lemma=token.head.lemma_,
        above=frozenset(ancestor.i for ancestor in token.ancestors),
    )
