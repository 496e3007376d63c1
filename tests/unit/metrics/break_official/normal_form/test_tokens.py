"""Steps as tokens: words of spaCy's parse, and references."""

from __future__ import annotations

import pytest

from qdsft.errors import UserError
from qdsft.metrics.break_official.english_model import load_english
from qdsft.metrics.break_official.normal_form.tokens import Ref, Word, parse_steps


@pytest.fixture(autouse=True)
def needs_spacy() -> None:
    try:
        load_english()
    except UserError as error:
        pytest.skip(str(error))


def test_references_are_tokens_in_the_place_of_a_noun() -> None:
    [[number, of, reference]] = parse_steps(["Number  of @@02@@"])
    assert isinstance(number, Word) and isinstance(of, Word) and (number.text, of.text) == ("number", "of")
    assert reference == Ref("@@02@@", 2, 3) and (reference.number, reference.lemma) == (2, "@@02@@")
    assert (of.head, of.head_lemma, of.above) == (number.index, "number", frozenset({number.index}))


def test_equal_steps_are_parsed_once_and_lists_are_not_shared() -> None:
    first, second = parse_steps(["big balls", "big balls"])
    assert first == second and first is not second and [token.lemma for token in first] == ["big", "ball"]
    first.clear()
    assert parse_steps(["big balls"]) == [second]


def test_determiners_are_those_of_spacy_2() -> None:
    [tokens] = parse_steps(["balls that are red"])
    that = tokens[1]
    assert isinstance(that, Word) and that.text == "that" and that.pos == "DET"


def test_a_lone_surrogate_is_an_encoding_error() -> None:
    with pytest.raises(UnicodeEncodeError):
        parse_steps(["a \ud800"])
