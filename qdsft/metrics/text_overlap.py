"""Exact match, SARI, chrF and the count of steps.

Exact match and SARI follow the official evaluator of the BREAK data set
(https://github.com/allenai/break-evaluator), so that scores can be compared with published ones. All scores lie in
0..1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from qdsft.data.decomposition import REFERENCE

SEPARATOR = " @@SEP@@ "
LONGEST_NGRAM = 4
MARKED_REFERENCE = re.compile(r"@@(\d+)@@")
"""A reference as BREAK's evaluator writes it; see `mark_references`."""

Ngram = tuple[str, ...]


def mark_references(step: str) -> str:
    """Return a step with its `#n` written as `@@n@@`."""
    return REFERENCE.sub(r"@@\1@@", step)


def string_form(steps: Sequence[str]) -> str:
    """Return BREAK's string form, the text that exact match and SARI compare.

    In each step `#n` becomes `@@n@@`, every double space one space (in one pass: three spaces leave
    two), and outer white space is removed; the steps are then joined by ` @@SEP@@ `.
    """
    return SEPARATOR.join(mark_references(step).replace("  ", " ").strip() for step in steps)


def exact_match(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Return 1.0 if the string forms are equal apart from upper and lower case, else 0.0.

    Articles, punctuation and the order of the steps count.
    """
    return float(string_form(predicted).lower() == string_form(gold).lower())


def same_words(predicted: str, gold: str) -> float:
    """Return 1.0 if two texts are equal apart from white space; upper and lower case differ."""
    return float(predicted.split() == gold.split())


def sari(question: str, predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Return SARI: how well the prediction keeps, adds and deletes the n-grams of the question that gold does.

    Source: Xu et al. 2016, "Optimizing Statistical Machine Translation for Text Simplification", in
    the variant of tensor2tensor that BREAK's official evaluator uses, with one target. For n = 1..4
    let S, P and T be the sets of n-grams (how often one occurs does not count) of the question and
    of the string forms of prediction and gold, all split at single spaces, case kept:

        keep_n = F1 with precision |S&P&T| / |S&P| and recall |S&P&T| / |S&T|
        add_n  = F1 with precision |(P-S)&T| / |P-S| and recall |(P-S)&T| / |T-S|
        del_n  = |(S-P)-T| / |S-P|, a precision alone
        SARI   = (mean keep_n + mean add_n + mean del_n) / 3

    A precision or recall whose denominator is 0 counts as 1; F1 is 0 if either part is 0. Unlike in
    exact match upper and lower case differ, and `@@SEP@@` and `@@n@@` are tokens like any other.
    """
    # split(" "), not split(): the evaluator counts the empty tokens that double spaces leave.
    tokens = [text.split(" ") for text in (question, string_form(predicted), string_form(gold))]
    total = 0.0
    for size in range(1, LONGEST_NGRAM + 1):
        source, output, target = (_ngrams(words, size) for words in tokens)
        kept, added, deleted = source & output, output - source, source - output
        total += _f1(kept, source & target) + _f1(added, target - source)
        total += _share(len(deleted - target), len(deleted))
    return total / (3 * LONGEST_NGRAM)


def step_count_accuracy(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Return 1.0 if there are as many predicted steps as gold ones, else 0.0."""
    return float(len(predicted) == len(gold))


def chrf(predicted: str, gold: str) -> float:
    """Return the sentence-level chrF2 of sacreBLEU (Popovic 2015) with its defaults, in 0..1 instead of per cent.

    Character 1- to 6-grams without white space, recall weighed twice as much as precision, case kept.
    """
    return float(_chrf().sentence_score(predicted, [gold]).score) / 100


@cache
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()


def _ngrams(tokens: Sequence[str], size: int) -> set[Ngram]:
    return {tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)}


def _f1(selected: set[Ngram], relevant: set[Ngram]) -> float:
    hits = len(selected & relevant)
    precision, recall = _share(hits, len(selected)), _share(hits, len(relevant))
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
