"""Pair predicted with gold steps one to one, and score the pairs by their text and by their references.

Order, numbering and language do not matter: steps are compared by their characters, and a reference by the step that
it refers to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any

from qdsft.data.decomposition import REFERENCE, Decomposition
from qdsft.data.prediction import PredictedSteps
from qdsft.data.text import compose

LONGEST_NGRAM = 4
CONTEXT_WEIGHT, POSITION_WEIGHT = 1e-4, 1e-7
"""They only break ties between pairings of equal similarity."""

MANY_PAIRS = 4096
"""Pairs of steps above which similarities are computed together, which is faster, and dependencies break no ties."""

MOST_DENSE = 10_000_000
"""Numbers in two matrices that are multiplied as dense ones, of 8 bytes each."""

_PRIVATE_USE = 0xE000  # texts have no such characters, so each can represent one reference
_ANY, _UNKNOWN = chr(_PRIVATE_USE), chr(0xF8FF)

Pairs = dict[int, int]
"""Predicted step -> gold step, both numbered from 1."""


def similarity(one: str, other: str) -> float:
    """Return the similarity of two texts by their character n-grams, 0..1 and symmetric.

    Texts are put into NFC and lower case, and white space into single spaces, outer white space removed. For
    n = 1..4 let A and B be the multisets of n-grams; F_n = 2 |A & B| / (|A| + |B|), the F1 of either against
    the other. The similarity is the mean of F_n over the n for which there is any n-gram, and 0 if either
    text is empty.
    """
    return _similarity(_plain(one), _plain(other))


def align(predicted: Sequence[str], gold: Sequence[str]) -> Pairs:
    """Return the pairing with the highest total similarity (Hungarian algorithm); all references count as equal.

    Steps without any similarity are not paired. Where several pairings are equally good, as with "the age of #1" and
    "the age of #2", steps are paired whose dependencies agree best (all steps that they depend on, and all that depend
    on them), then those with the same number; of more than MANY_PAIRS pairs of steps, only those with the same number.
    """
    if not predicted or not gold:
        return {}
    import numpy
    from scipy.optimize import linear_sum_assignment

    texts = [[_renumber(_plain(step), lambda number: _ANY) for step in steps] for steps in (predicted, gold)]
    many = len(predicted) * len(gold) > MANY_PAIRS
    alike = _similarities(*texts) if many else numpy.array([[_similarity(p, g) for g in texts[1]] for p in texts[0]])
    preferred = alike.copy()
    if not many and (len(set(texts[0])) < len(predicted) or len(set(texts[1])) < len(gold)):
        (before_p, behind_p), (before_g, behind_g) = _contexts(predicted, texts[0]), _contexts(gold, texts[1])
        for p, g in numpy.ndindex(alike.shape):
            context = _dice(before_p[p], before_g[g]) + _dice(behind_p[p], behind_g[g])
            preferred[p, g] += CONTEXT_WEIGHT * context / 2
    for number in range(min(alike.shape)):
        preferred[number, number] += POSITION_WEIGHT
    rows, columns = linear_sum_assignment(preferred, maximize=True)
    return {int(p) + 1: int(g) + 1 for p, g in zip(rows, columns, strict=True) if alike[p, g] > 0}


def paired(prediction: PredictedSteps) -> Pairs:
    """Return the pairing of a prediction; the metrics that need it share one computation."""
    return _aligned(prediction.answer.steps, prediction.gold)


@lru_cache(maxsize=1)
def _aligned(steps: tuple[str, ...], gold: tuple[str, ...]) -> Pairs:
    return align(steps, gold)


def step_f1(predicted: Sequence[str], gold: Sequence[str], pairs: Pairs) -> float:
    """Return the F1 of the steps: 2 S / (predicted steps + gold steps), S the sum of the similarities of the pairs.

    A reference is one character here: of a predicted step, that of the gold step which is paired with the step
    it means, and one that occurs nowhere else if there is none. 0.0 if there are no predicted steps.
    """
    if not predicted or not gold:
        return float(not predicted and not gold)

    def meant(number: int) -> str:
        return _symbol(pairs[number]) if number in pairs else _UNKNOWN

    total = sum(
        _similarity(_renumber(_plain(predicted[p - 1]), meant), _renumber(_plain(gold[g - 1]), _symbol))
        for p, g in pairs.items()
    )
    return 2 * total / (len(predicted) + len(gold))


def edge_f1(predicted: Sequence[str], gold: Sequence[str], pairs: Pairs) -> float:
    """Return the F1 of the reference edges: 2 right / (predicted edges + gold edges), each edge counted once.

    A predicted edge, from a step to one that refers to it, is right if the steps paired with its ends have that
    edge in gold. 1.0 if there are no edges on either side.
    """
    ours, theirs = Decomposition(tuple(predicted)).edges, set(Decomposition(tuple(gold)).edges)
    if not ours and not theirs:
        return 1.0
    mapped = {(pairs.get(source), pairs.get(target)) for source, target in ours}
    return 2 * len(mapped & theirs) / (len(ours) + len(theirs))


def _plain(text: str) -> str:
    return " ".join(compose("NFC", text).lower().split())


def _symbol(number: int) -> str:
    return chr(min(_PRIVATE_USE + number, 0xF8FE))


def _renumber(text: str, symbol: Callable[[int], str]) -> str:
    return REFERENCE.sub(lambda match: symbol(int(match[1][:9])), text) if "#" in text else text


def _similarity(one: str, other: str) -> float:
    if one == other:
        return float(bool(one))
    if not one or not other:
        return 0.0
    total, longest = 0.0, min(LONGEST_NGRAM, max(len(one), len(other)))
    ours, theirs = _profile(one), _profile(other)
    for size in range(longest):
        total += _dice(ours[size], theirs[size])
    return total / longest


def _similarities(ours: Sequence[str], theirs: Sequence[str]) -> Any:
    """Return the matrix of `_similarity` for two lists of texts, `[our text, their text]`."""
    import numpy
    from scipy.sparse import csr_array

    lengths = [numpy.array([len(text) for text in texts]) for texts in (ours, theirs)]
    total = numpy.zeros((len(ours), len(theirs)))
    for size in range(1, LONGEST_NGRAM + 1):
        numbers: dict[tuple[str, int], int] = {}
        columns = [[_features(text, size, numbers) for text in texts] for texts in (ours, theirs)]
        sides = [
            csr_array(
                (numpy.ones(sum(map(len, rows))), list(chain(*rows)), [0, *accumulate(map(len, rows))]),
                shape=(len(rows), max(len(numbers), 1)),
            )
            for rows in columns
        ]
        if len(numbers) * (len(ours) + len(theirs)) < MOST_DENSE:  # else steps that all share n-grams take minutes
            both = sides[0].toarray() @ sides[1].toarray().T
        else:
            both = (sides[0] @ sides[1].T).toarray()
        grams = [numpy.maximum(length - size + 1, 0) for length in lengths]
        whole = grams[0][:, None] + grams[1][None, :]
        total += numpy.divide(2 * both, whole, out=numpy.zeros(whole.shape), where=whole > 0)
    longest = numpy.minimum(LONGEST_NGRAM, numpy.maximum(lengths[0][:, None], lengths[1][None, :]))
    return numpy.divide(total, longest, out=numpy.zeros(total.shape), where=longest > 0)


def _features(text: str, size: int, numbers: dict[tuple[str, int], int]) -> list[int]:
    """Return a number for each (n-gram, how often it occurred before): multisets become sets."""
    seen: Counter[str] = Counter()
    found = []
    for start in range(len(text) - size + 1):
        gram = text[start : start + size]
        found.append(numbers.setdefault((gram, seen[gram]), len(numbers)))
        seen[gram] += 1
    return found


@lru_cache(maxsize=4096)
def _profile(text: str) -> list[Counter[str]]:
    """Return the multisets of n-grams for n = 1, 2, ..."""
    return [
        Counter(text[start : start + size] for start in range(len(text) - size + 1))
        for size in range(1, LONGEST_NGRAM + 1)
    ]


def _dice(one: Counter[str], other: Counter[str]) -> float:
    """Return 2 |A & B| / (|A| + |B|) of two multisets; 1.0 if both are empty."""
    if len(other) < len(one):
        one, other = other, one
    both = sum(min(count, other[key]) for key, count in one.items() if key in other)
    whole = one.total() + other.total()
    return 2 * both / whole if whole else 1.0


def _contexts(steps: Sequence[str], texts: Sequence[str]) -> tuple[list[Counter[str]], list[Counter[str]]]:
    """Return for each step the texts of all steps that it depends on, and of all that depend on it."""
    edges = Decomposition(tuple(steps)).edges
    numbers = range(1, len(steps) + 1)
    forth: dict[int, list[int]] = {number: [] for number in numbers}
    back: dict[int, list[int]] = {number: [] for number in numbers}
    for source, target in edges:
        if source in forth:
            forth[source].append(target)
            back[target].append(source)
    sides = ([_reached(number, side) for number in numbers] for side in (back, forth))
    before, behind = ([Counter(texts[found - 1] for found in reached) for reached in side] for side in sides)
    return before, behind


def _reached(start: int, neighbours: dict[int, list[int]]) -> set[int]:
    found, waiting = set(neighbours[start]), list(neighbours[start])
    while waiting:
        new = [step for step in neighbours[waiting.pop()] if step not in found]
        found.update(new)
        waiting += new
    return found
