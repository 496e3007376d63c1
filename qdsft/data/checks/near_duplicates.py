"""Questions of the training data that are nearly one of the held-out data.

Two questions are near-duplicates if the sets of their character trigrams (of the normalised text, without
spaces) have a Jaccard similarity of at least THRESHOLD. MinHash (Broder 1997) proposes candidates and the
exact similarity decides, so that nothing is reported wrongly.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

THRESHOLD = 0.8
NGRAM = 3
BANDS, BAND_ROWS = 20, 5
"""Candidates agree in all 5 hash values of one of 20 bands: 1 - (1 - 0.8^5)^20 = 0.9996 of the pairs at 0.8."""
BUCKET, VERIFIED = 100, 10
"""Of one band's bucket at most 100 are looked at, and the 10 that share the most bands are verified.

Without a limit, data made from one template, where every question is like every other, would be compared
in full: 10^10 pairs for 100,000 questions.
"""


@dataclass(frozen=True)
class Match:
    """The held-out question that a question is most like."""

    source: str
    """`file:line` of the held-out question."""
    similarity: float
    """Jaccard similarity of the trigrams, from THRESHOLD to 1."""
    same: bool
    """Whether the normalised texts are equal: such training rows are left out of training."""


class HeldOut:
    """Held-out questions, in about 0.7 KB each beside their text; `add` all of them before the first `matches`."""

    def __init__(self) -> None:
        from datasketch import MinHash  # 1 s: it loads scipy

        self._hash = MinHash(num_perm=BANDS * BAND_ROWS, hashfunc=zlib.crc32)
        self._number: dict[str, int] = {}
        self._sources: list[str] = []
        self._signatures: list[np.ndarray[Any, Any]] = []
        self._texts: list[str] = []
        self._bands: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []

    def add(self, text: str, source: str) -> None:
        """Add a held-out question, normalised; of equal ones the first counts."""
        if text not in self._number:
            self._number[text] = len(self._texts)
            self._texts.append(text)
            self._sources.append(source)
            self._signatures.append(self._signature(text))

    def matches(self, texts: Sequence[str]) -> Iterator[Match | None]:
        """For each normalised question the most similar held-out one, or None if none reaches THRESHOLD."""
        for text, candidates in zip(texts, self._candidates(texts), strict=True):
            if (same := self._number.get(text)) is not None:
                yield Match(self._sources[same], 1.0, True)
                continue
            grams = trigrams(text)
            scored = [(jaccard(grams, trigrams(self._texts[i])), -i) for i in candidates]
            best, index = max(scored, default=(0.0, 0))
            yield Match(self._sources[-index], best, False) if best >= THRESHOLD else None

    def _signature(self, text: str) -> np.ndarray[Any, Any]:
        """MinHash values, `[BANDS * BAND_ROWS]`."""
        self._hash.clear()
        self._hash.update_batch([gram.encode("utf-8") for gram in trigrams(text)])
        values: np.ndarray[Any, Any] = self._hash.hashvalues  # `clear` makes a new array, so this one stays
        return values

    def _candidates(self, texts: Sequence[str]) -> list[list[int]]:
        """For each text the held-out ones to verify."""
        import numpy as np

        if not self._texts:
            return [[] for _ in texts]
        if not self._bands:
            for keys in _band_keys(self._signatures):
                order = np.argsort(keys, kind="stable")
                self._bands.append((order, keys[order]))
        buckets: list[list[np.ndarray[Any, Any]]] = [[] for _ in texts]
        wanted = _band_keys([self._signature(text) for text in texts])
        for (order, keys), sought in zip(self._bands, wanted, strict=True):
            left, right = np.searchsorted(keys, sought, "left"), np.searchsorted(keys, sought, "right")
            for i in np.flatnonzero(right > left):
                buckets[i].append(order[left[i] : min(right[i], left[i] + BUCKET)])
        return [_most_frequent(bucket) for bucket in buckets]


def trigrams(text: str) -> set[str]:
    """The character trigrams of a normalised text without its spaces; a shorter text is its only one."""
    bare = text.replace(" ", "")
    return {bare[i : i + NGRAM] for i in range(max(len(bare) - NGRAM + 1, 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Size of the intersection over size of the union, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _most_frequent(parts: Sequence[np.ndarray[Any, Any]]) -> list[int]:
    import numpy as np

    if not parts:
        return []
    numbers, counts = np.unique(np.concatenate(parts), return_counts=True)
    chosen: list[int] = numbers[np.argsort(-counts, kind="stable")[:VERIFIED]].tolist()
    return chosen


def _band_keys(signatures: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """One 64-bit key for each band of each signature: `[BANDS][signature]`."""
    import numpy as np

    values = np.stack(signatures).reshape(-1, BANDS, BAND_ROWS)
    keys = np.zeros(values.shape[:2], dtype=np.uint64)
    for row in range(BAND_ROWS):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + values[:, :, row]
    return keys.T
