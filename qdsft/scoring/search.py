"""Search the passages of a corpus by BM25 (Robertson et al. 1995), through the package bm25s."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

from qdsft.data.text import compose
from qdsft.optional_packages import Package, require

KIWI = Package("kiwipiepy", "kiwipiepy", "korean")
_WORD = re.compile(r"\w\w+")
_HANGUL = re.compile("[\uac00-\ud7a3]+")
_MEANING = ("N", "V", "XR", "M", "SN", "SL")
"""Beginnings of the tags of Korean morphemes that carry meaning: nouns, verbs, roots, modifiers, numbers, Latin."""


class Index:
    """An index of texts. It finds places of texts in the given sequence."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index the texts. Raises UserError if bm25s is not installed."""
        require("retrieval", "a retrieval", "bm25s")
        from bm25s import BM25
        from tqdm import tqdm

        progress = tqdm(texts, desc="indexing", unit="passage", disable=None)
        self._index = BM25(backend="numpy")
        self._index.index([terms(text) for text in progress], show_progress=False)

    def search(self, query: str, depth: int) -> list[int]:
        """Return the places of the best texts, best first, and the earlier of equally good ones first.

        A text that shares no term with the query is not returned.
        """
        import numpy

        if not (ids := self._index.get_tokens_ids(terms(query))):
            return []
        scores = self._index.get_scores_from_ids(ids)
        bound = numpy.partition(scores, -depth)[-depth] if depth < len(scores) else 0.0
        places = numpy.flatnonzero((scores >= bound) & (scores > 0))
        order = numpy.lexsort((places, -scores[places]))[:depth]
        return [int(place) for place in places[order]]


def terms(text: str) -> list[str]:
    """Return the terms of a text: words in lower case without English stop words, and the morphemes of Korean.

    Without kiwipiepy, Korean words become pairs of neighbouring syllables.
    """
    return list(_terms(compose("NFKC", text).casefold()))


def korean_terms() -> str:
    """Return how Korean is divided into terms."""
    return "morphemes (kiwipiepy)" if _is_installed(KIWI) else "pairs of syllables"


@cache
def _is_installed(package: Package) -> bool:
    return package.is_installed  # reads metadata from the disk, which each text of a corpus need not do


def _terms(text: str) -> Iterator[str]:
    from bm25s.stopwords import STOPWORDS_EN

    if _HANGUL.search(text):
        yield from _morphemes(text) if _is_installed(KIWI) else _pairs(text)
        text = _HANGUL.sub(" ", text)
    yield from (word for word in _WORD.findall(text) if word not in STOPWORDS_EN)


def _pairs(text: str) -> Iterator[str]:
    for run in _HANGUL.findall(text):
        yield from (run[place : place + 2] for place in range(max(len(run) - 1, 1)))


def _morphemes(text: str) -> Iterator[str]:
    for token in _analyser().tokenize(text):
        if token.tag.startswith(_MEANING) and _HANGUL.search(token.form):
            yield token.form


@lru_cache(maxsize=1)
def _analyser():  # type: ignore[no-untyped-def]  # kiwipiepy has no stubs
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)
