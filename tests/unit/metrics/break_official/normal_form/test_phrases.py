"""Which spans a rule must leave together."""

from __future__ import annotations

import pytest
from helpers.hand_made import made_graph

from qdsft.metrics.break_official.normal_form.phrases import EVERY_PHRASE, is_protected, without_own


@pytest.mark.parametrize(
    ("text", "span", "protected"),
    [
        ("number/NN of/IN balls/NNS", (0, 1), True),  # cuts "number of "
        ("number/NN of/IN balls/NNS", (1, 3), True),
        ("big/JJ red/JJ balls/NNS", (0, 1), False),
        ("the/DT highest/JJS peak/NN", (1, 2), True),  # is a phrase itself
        ("peak/NN sorted/VBN by/IN height/NN", (0, 2), True),
        ("peak/NN sorted/VBN by/IN height/NN", (0, 1), False),
    ],
)
def test_a_span_that_cuts_a_phrase_is_protected(text: str, span: tuple[int, int], protected: bool) -> None:
    tokens = made_graph(_1=text)[1].tokens
    assert is_protected(tokens, *span, EVERY_PHRASE) is protected
    assert not is_protected(tokens, *span, frozenset())


def test_the_own_phrases_of_an_operator_are_free() -> None:
    left = without_own(EVERY_PHRASE, "AGGREGATE")
    assert "number of " not in left and "for each " in left
    assert without_own(EVERY_PHRASE, "SELECT") == EVERY_PHRASE
