"""Lexical similarity: alignments worked out by hand, the evaluator's library as an oracle, and real lemmas."""

from __future__ import annotations

import random
from importlib.util import find_spec

import pytest

from qdsft.metrics.break_official.english_model import MODELS, load_english
from qdsft.metrics.break_official.lexical import Lemmatizer, match_ratio, model_version

needs_spacy = pytest.mark.skipif(
    find_spec("spacy") is None or not any(map(find_spec, MODELS)), reason="spaCy or its English model is not installed"
)


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ("", "", 1.0),
        ("", "a", 0.0),
        ("a", "", 0.0),
        ("a", "a", 1.0),
        ("a b c", "a x c", 4 / 6),
        ("a b c", "a c", 4 / 5),
        ("a b", "c d", 0.0),
        ("A", "a", 0.0),
        ("c c c", "c", 2 / 4),
    ],
)
def test_match_ratio(predicted: str, gold: str, expected: float) -> None:
    assert match_ratio(predicted.split(), gold.split()) == pytest.approx(expected, abs=1e-12)


def test_a_pair_goes_before_what_would_match_more() -> None:
    # Two substitutions cost 2 and match nothing; delete a, keep b, insert a costs 2 as well and matches one.
    # At the last cell (b, a) the pair costs 1 + 1, the insertion 1 + 1, the deletion 1 + 1: the pair is taken.
    assert match_ratio(["a", "b"], ["b", "a"]) == 0.0


def test_insertion_goes_before_deletion() -> None:
    # a b a -> c c a b. The last cell (a, b): as a pair 3 + 1; b inserted after a b a -> c c a, which costs 2 and
    # matches a: 3 and one match; a deleted after a b -> c c a b, which costs 2 and matches a b: 3 and two matches.
    assert match_ratio("aba", "ccab") == pytest.approx(2 * 1 / 7)
    assert match_ratio("ccab", "aba") == pytest.approx(2 * 2 / 7)


def test_the_ratio_is_that_of_the_evaluators_library() -> None:
    edit_distance = pytest.importorskip("edit_distance", reason="the library edit_distance is not installed")
    chance = random.Random(0)
    for _ in range(5000):
        letters = "abcde"[: chance.choice([2, 3, 5])]
        one, other = (["".join(chance.choice(letters)) for _ in range(chance.randint(1, 9))] for _ in range(2))
        assert match_ratio(one, other) == pytest.approx(edit_distance.SequenceMatcher(one, other).ratio(), abs=1e-12)


@needs_spacy
@pytest.mark.slow
def test_lemmas_keep_stop_words_and_the_leading_space() -> None:
    lemmas = Lemmatizer()
    assert lemmas["the larger spheres of London"] == ("the", "large", "sphere", "of", "London")
    assert lemmas[" cubes"] == (" ", "cube")
    assert lemmas[""] == ()
    assert lemmas.similarity("cubes", " cube") == pytest.approx(2 / 3)


@needs_spacy
@pytest.mark.slow
def test_texts_read_together_have_the_lemmas_they_have_alone() -> None:
    shapes = (f"{size} {shape}" for size in ("larger", "small") for shape in ("cubes", "boxes"))
    texts = [f" the {shape} that {rest}" for shape in shapes for rest in ("are near @@1@@", "left @@12@@", "touch")]
    lemmas = Lemmatizer()
    lemmas.read([*texts, *texts])
    assert [lemmas[text] for text in texts] == [tuple(token.lemma_ for token in load_english()(text)) for text in texts]


@needs_spacy
@pytest.mark.slow
def test_the_model_is_named() -> None:
    assert model_version().startswith("en_core_web_sm")
    assert "ner" not in load_english().pipe_names
