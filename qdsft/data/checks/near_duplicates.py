"""Find training questions that are nearly equal to a held-out question.

Two questions are near-duplicates if the sets of their character trigrams (of the normalised text, without spaces)
have a Jaccard similarity of at least THRESHOLD. MinHash with locality-sensitive hashing (Broder 1997, here rensa's)
proposes candidates and the exact similarity decides, so no pair is reported wrongly.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rensa import RMinHash

THRESHOLD = 0.8
NGRAM = 3
BANDS, BAND_ROWS = 20, 5
"""Candidates agree in all 5 hash values of one of 20 bands: 1 - (1 - 0.8^5)^20 = 0.9996 of the pairs at 0.8."""
COMPARED, VERIFIED = 1000, 10
"""At most 1000 candidates are compared by their hash values, and the 10 most similar are verified.

Without a limit, data made from one template, where every question is like every other, would be compared in full:
10^10 pairs for 100,000 questions.
"""


@dataclass(frozen=True)
class Match:
    """The held-out question that is most similar to a question."""

    source: str
    """`file:line` of the held-out question."""
    similarity: float
    """Jaccard similarity of the trigrams, from THRESHOLD to 1."""
    same: bool
    """Whether the normalised texts are equal: training leaves such rows out."""


class HeldOut:
    """Held-out questions to compare others with."""

    def __init__(self) -> None:
        from rensa import RMinHashLSH

        self._index = RMinHashLSH(THRESHOLD, BANDS * BAND_ROWS, BANDS)
        self._number: dict[str, int] = {}
        """Normalised question -> its place in the lists."""
        self._sources: list[str] = []
        self._texts: list[str] = []
        self._signatures: list[RMinHash] = []

    def add(self, text: str, source: str) -> None:
        """Add a held-out question, normalised. Of equal questions only the first is kept."""
        if text not in self._number:
            self._number[text] = number = len(self._texts)
            self._texts.append(text)
            self._sources.append(source)
            self._signatures.append(_signature(text))
            self._index.insert(number, self._signatures[-1])

    def match(self, text: str) -> Match | None:
        """Return the most similar held-out question to a normalised question, or None if none reaches THRESHOLD."""
        if (same := self._number.get(text)) is not None:
            return Match(self._sources[same], 1.0, True)
        signature, grams = _signature(text), trigrams(text)
        candidates = self._index.query(signature)[:COMPARED]
        if len(candidates) > VERIFIED:
            candidates = heapq.nlargest(
                VERIFIED, candidates, key=lambda number: signature.jaccard(self._signatures[number])
            )
        scored = [(jaccard(grams, trigrams(self._texts[number])), -number) for number in candidates]
        best, number = max(scored, default=(0.0, 0))
        return Match(self._sources[-number], best, False) if best >= THRESHOLD else None


def trigrams(text: str) -> set[str]:
    """Return the character trigrams of a normalised text without its spaces; a shorter text is its only one."""
    bare = text.replace(" ", "")
    return {bare[i : i + NGRAM] for i in range(max(len(bare) - NGRAM + 1, 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the size of the intersection over the size of the union, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _signature(text: str) -> RMinHash:
    from rensa import RMinHash

    signature = RMinHash(BANDS * BAND_ROWS, seed=42)
    signature.update(list(trigrams(text)))
    return signature
