"""BREAK's normalized exact match: are two decompositions the same once both are brought into a normal form?

"small cubes" and "cubes; #1 that are small" are. Follows the official evaluator of the BREAK data set
(https://github.com/allenai/break-evaluator; Wolfson et al. 2020, "Break It Down: A Question Understanding
Benchmark"). Every step is parsed with spaCy and taken apart by rules into nouns, adjectives and operations on
them (`rules`, `wrapper`); filters are sorted (`filters`), equal parts merged and numbered by level (`order`).
What the evaluator does is done here too where it looks like a slip, so that values can be set beside others.
"""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.metrics.break_official.normal_form.rewrite import normal_form
from qdsft.metrics.text_overlap import string_form

__all__ = ["normal_form", "normalized_exact_match"]


def normalized_exact_match(predicted_steps: Sequence[str], gold_steps: Sequence[str]) -> float | None:
    """Return 1.0 if the normal forms are equal without regard to case, else 0.0.

    None if on either side a reference dangles so that there is no list of steps (see `rewrite.normal_form`); the
    official evaluator leaves such examples out of the mean. Raises UserError if spaCy or its model is absent.
    """
    predicted, gold = normal_form(predicted_steps), normal_form(gold_steps)
    if predicted is None or gold is None:
        return None
    return float(string_form(predicted).lower() == string_form(gold).lower())
