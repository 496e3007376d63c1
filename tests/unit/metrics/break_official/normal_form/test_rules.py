"""Every rule of the normal form on token lists made by hand: where it fires, and where it must not."""

from __future__ import annotations

import pytest
from helpers.hand_made import apply, graph_of, shown, tokens

from qdsft.metrics.break_official.normal_form import rules
from qdsft.metrics.break_official.normal_form.phrases import EVERY_PHRASE, PRESERVED, is_protected, without_own
from qdsft.metrics.break_official.normal_form.rewrite import apply_rules
from qdsft.metrics.break_official.normal_form.spans import extract
from qdsft.metrics.break_official.normal_form.wrapper import find_run, wrap


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("the/DT>1 cubes/NNS", "cubes"),
        ("@@1@@ that/WDT>2 are/BE>0 red/JJ>2", "@@1@@ that are red"),
        ("all/DT of/IN>0 @@1@@", "of @@1@@"),
        ("all/DT", ""),
        ("are/BE all/DT>0 of/IN>1 @@1@@", "are all of @@1@@"),
        ("both/CC @@1@@", "both @@1@@"),
    ],
)
def test_determiners_go_unless_they_hang_on_be(text: str, left: str) -> None:
    assert apply(rules.remove_determiners, text) == [left]


def test_a_determiner_that_is_a_protected_phrase_stays() -> None:
    text = "both/DT @@1@@ and/CC @@2@@"
    assert apply(rules.remove_determiners, text, EVERY_PHRASE) == ["both @@1@@ and @@2@@"]
    assert apply(rules.remove_determiners, text) == ["@@1@@ and @@2@@"]
    assert apply(rules.remove_determiners, "are/BE any/DT>2 @@1@@", EVERY_PHRASE) == ["are any @@1@@"]
    assert apply(rules.remove_determiners, "are/BE any/DT>2 @@1@@") == ["are @@1@@"]
    # The blank in " any" asks for no word before it.
    assert apply(rules.remove_determiners, "any/DT cubes/NNS", EVERY_PHRASE) == ["any cubes"]
    # Of "for each" and "the same" the determiner alone is no phrase, but without it the phrase would be cut.
    assert apply(rules.remove_determiners, "for/IN each/DT @@1@@", EVERY_PHRASE) == ["for each @@1@@"]
    assert apply(rules.remove_determiners, "the/DT>1 same/JJ", EVERY_PHRASE) == ["the same"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@@1@@ cubes/NNS", ["FILTER(@@1@@,@@3@@)", "cubes"]),
        ("@@1@@ are/BE cubes/NNS", ["FILTER(@@1@@,@@3@@)", "cubes"]),
        ("@@1@@ that/WDT are/BE cubes/NNS", ["FILTER(@@1@@,@@3@@)", "cubes"]),
        ("@@1@@ that/WDT are/BE @@2@@", ["FILTER(@@1@@,@@2@@)"]),
        ("@@1@@ that/WDT are/BE red/JJ", ["@@1@@ that are red"]),
        ("@@1@@ that/IN are/BE cubes/NNS", ["@@1@@ that are cubes"]),
        ("cubes/NNS @@1@@", ["cubes @@1@@"]),
        ("@@1@@ that/WDT are/BE red/JJ cubes/NNS", ["@@1@@ that are red cubes"]),
        ("@@1@@", ["@@1@@"]),
    ],
)
def test_filter_by_noun(text: str, expected: list[str]) -> None:
    assert apply(rules.filter_by_noun, text) == [label.replace("@@3@@", _next(text)) for label in expected]


def _next(text: str) -> str:
    return f"@@{graph_of(text)[1] + 1}@@"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("color/NN of/IN metal/NN cubes/NNS", ["@@2@@ of @@3@@", "color", "metal cubes"]),
        ("metal/NN cubes/NNS", ["metal cubes"]),
        ("size/NN of/IN @@1@@", ["@@3@@ of @@1@@", "size"]),
        ("are/BE @@1@@ cubes/NNS", ["are @@3@@", "@@1@@ cubes"]),
        ("@@1@@ in/IN @@2@@", ["@@1@@ in @@2@@"]),
    ],
)
def test_every_run_of_nouns_becomes_a_node(text: str, expected: list[str]) -> None:
    assert apply(rules.extract_nouns, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@@1@@ in/IN @@2@@ on/IN @@3@@", ["@@5@@ on @@3@@", "@@1@@ in @@2@@"]),
        ("@@1@@ in/IN @@2@@ balls/NNS on/IN @@3@@", ["@@5@@ on @@3@@", "@@1@@ in @@2@@ balls"]),
        ("@@1@@ to/TO @@2@@ at/IN @@3@@ on/IN @@4@@", ["@@6@@ at @@3@@ on @@4@@", "@@1@@ to @@2@@"]),
        ("@@1@@ in/IN @@2@@", ["@@1@@ in @@2@@"]),
        ("@@1@@ in/IN", ["@@1@@ in"]),
        ("@@1@@ and/CC @@2@@ on/IN @@3@@", ["@@1@@ and @@2@@ on @@3@@"]),
    ],
)
def test_the_first_prepositional_phrase_becomes_a_node(text: str, expected: list[str]) -> None:
    assert apply(rules.extract_prepositional, text) == expected


def test_a_compound_is_split_word_by_word_from_the_left() -> None:
    text = "gold/NN:compound>2 metal/NN:compound>2 balls/NNS"
    assert apply(rules.split_compound, text) == ["gold @@2@@", "metal @@3@@", "balls"]
    assert apply(rules.split_compound, "gold/NN:compound>1 @@1@@") == ["gold @@1@@"]
    assert apply(rules.split_compound, "gold/NN:nsubj>1 balls/NNS") == ["gold balls"]
    assert apply(rules.split_compound, "@@1@@ balls/NNS") == ["@@1@@ balls"]
    assert apply(rules.split_compound, "big/JJ:amod>1 balls/NNS") == ["big balls"]


def test_a_compound_becomes_a_chain_of_filters() -> None:
    graph, _ = graph_of("gold/NN:compound>2 metal/NN:compound>2 balls/NNS")
    apply_rules(graph)
    labels = [shown(node) for node in graph.values()]
    assert labels == ["FILTER(@@2@@,@@4@@)", "FILTER(@@3@@,@@5@@)", "balls", "gold", "metal"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if/IN big/JJ @@1@@", ["if @@3@@", "big @@1@@"]),
        ("if/IN @@1@@ are/BE big/JJ", ["if @@3@@", "@@1@@ are big"]),
        ("if/IN @@1@@ that/WDT are/BE big/JJ", ["if @@3@@", "@@1@@ that are big"]),
        ("big/JJ red/JJ @@1@@", ["big @@3@@", "red @@1@@"]),
        ("big/JJ @@1@@", ["big @@1@@"]),
        ("big/JJ @@1@@ and/CC red/JJ @@2@@", ["@@4@@ and @@5@@", "big @@1@@", "red @@2@@"]),
        # Two that overlap: both are looked for before either is taken out.
        ("big/JJ @@1@@ are/BE red/JJ", ["@@3@@ @@4@@", "big @@1@@", "@@1@@ are red"]),
        ("are/BE @@1@@ big/JJ", ["are @@1@@ big"]),
        ("if/IN @@1@@ are/BE cubes/NNS", ["if @@1@@ are cubes"]),
        ("is/BE big/JJ", ["is big"]),
    ],
)
def test_an_adjective_and_its_reference(text: str, expected: list[str]) -> None:
    assert apply(rules.extract_adjectives, text) == expected


def test_a_noun_in_the_place_of_an_adjective() -> None:
    rule = rules.extract_adjective_like_nouns
    assert apply(rule, "if/IN @@1@@ are/BE metal/NN") == ["if @@3@@", "@@1@@ are metal"]
    assert apply(rule, "if/IN @@1@@ that/WDT are/BE metal/NNP") == ["if @@3@@", "@@1@@ that are metal"]
    assert apply(rule, "if/IN metal/NN @@1@@") == ["if metal @@1@@"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("big/JJ @@1@@", ["FILTER(@@1@@,@@3@@)", "big"]),
        ("@@1@@ are/BE big/JJ", ["FILTER(@@1@@,@@3@@)", "big"]),
        ("@@1@@ that/WDT are/BE big/JJ", ["FILTER(@@1@@,@@3@@)", "big"]),
        ("@@1@@ that/WP are/BE big/JJ", ["@@1@@ that are big"]),
        ("@@1@@ big/JJ", ["@@1@@ big"]),
        ("if/IN @@1@@ are/BE big/JJ", ["if @@1@@ are big"]),
    ],
)
def test_filter_by_adjective(text: str, expected: list[str]) -> None:
    assert apply(rules.filter_by_adjective, text) == expected


def test_filter_by_preposition_and_by_compound() -> None:
    assert apply(rules.filter_by_preposition, "@@1@@ in/IN @@2@@") == ["FILTER(@@1@@,@@4@@)", "in @@2@@"]
    assert apply(rules.filter_by_preposition, "@@1@@ in/IN front/NN") == ["FILTER(@@1@@,@@3@@)", "in front"]
    assert apply(rules.filter_by_preposition, "@@1@@ in/IN big/JJ @@2@@") == ["@@1@@ in big @@2@@"]
    assert apply(rules.filter_by_compound, "metal/NN @@1@@") == ["FILTER(@@1@@,@@3@@)", "metal"]
    assert apply(rules.filter_by_compound, "big/JJ @@1@@") == ["big @@1@@"]


def test_a_relation_is_protected_from_the_preposition_rule() -> None:
    text = "@@1@@ behind/IN @@2@@"
    assert apply(rules.filter_by_preposition, text, EVERY_PHRASE) == ["@@1@@ behind @@2@@"]
    graph, number = graph_of(text)
    apply_rules(graph)
    assert shown(graph[number]) == "FILTER[POS_BEHIND_OF](@@1@@,@@2@@)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@@1@@ touching/VBG>0 @@2@@", ["FILTER(@@1@@,@@4@@)", "touching @@2@@"]),
        ("@@1@@ that/WDT>2 touching/VBG>0 walls/NNS>2", ["FILTER(@@1@@,@@3@@)", "touching walls"]),
        ("@@1@@ are/BE>2 touching/VBG>0 walls/NNS>2", ["FILTER(@@1@@,@@3@@)", "touching walls"]),
        ("@@1@@ that/WDT>3 are/BE>3 touching/VBG>0 walls/NNS>3", ["FILTER(@@1@@,@@3@@)", "touching walls"]),
        ("@@1@@ often/RB>2 touching/VBG>0 walls/NNS>2", ["FILTER(@@1@@,@@3@@)", "often touching walls"]),
        # The head of the verb is not the word that the reference replaces.
        ("@@1@@ touching/VBG>2 walls/NNS", ["@@1@@ touching walls"]),
        # Not all following words depend on the verb.
        ("@@1@@ touching/VBG>0 walls/NNS>1 here/RB>0", ["@@1@@ touching walls here"]),
        ("if/IN @@1@@ touching/VBG>1", ["if @@1@@ touching"]),
    ],
)
def test_filter_by_condition(text: str, expected: list[str]) -> None:
    assert apply(rules.filter_by_condition, text) == expected


def test_the_condition_hangs_on_whatever_an_extracted_reference_stands_for() -> None:
    graph, number = graph_of("red/JJ>1 balls/NNS touching/VBG>1 walls/NNS>2")
    made = extract(graph, number, [(0, 2)], frozenset())
    rules.filter_by_condition(graph, number, frozenset())
    assert shown(graph[number]) == f"FILTER(@@{made[0]}@@,@@3@@)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("highest/JJS @@1@@", "AGGREGATE[MAX](@@1@@)"),
        ("last/JJ @@1@@", "AGGREGATE[MAX](@@1@@)"),
        ("@@1@@ that/WDT is/BE lowest/JJS", "AGGREGATE[MIN](@@1@@)"),
        # The phrase is "number of " with a blank behind it, which the words before a reference never are.
        ("number/NN of/IN @@1@@", "number of @@1@@"),
        ("average/JJ @@1@@", "average @@1@@"),
        ("total/JJ @@1@@", "AGGREGATE[SUM](@@1@@)"),
        ("true/JJ @@1@@", "true @@1@@"),
        ("number/NN of/IN big/JJ @@1@@", "number of big @@1@@"),
        ("@@1@@ that/WDT is/BE red/JJ", "@@1@@ that is red"),
        ("@@1@@", "@@1@@"),
    ],
)
def test_aggregates(text: str, expected: str) -> None:
    assert apply(rules.fix_aggregate, text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("are/BE there/EX any/DT @@1@@", "BOOLEAN[EXIST](@@1@@)"),
        ("if/IN @@1@@", "BOOLEAN[EXIST](@@1@@)"),
        ("if/IN there/EX is/BE a/DT @@1@@", "BOOLEAN[EXIST](@@1@@)"),
        ("if/IN two/CD @@1@@", "if two @@1@@"),
        ("if/IN @@1@@ exist/VBP", "if @@1@@ exist"),
        ("@@1@@", "@@1@@"),
    ],
)
def test_booleans(text: str, expected: str) -> None:
    assert apply(rules.fix_boolean, text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@@1@@ ,/, @@2@@", ["UNION(@@1@@,@@2@@)"]),
        ("which/WDT is/BE highest/JJS of/IN @@1@@ ,/, @@2@@", ["COMPARISON[MAX](@@1@@,@@2@@)"]),
        ("which/WDT of/IN @@1@@ ,/, @@2@@", ["which of @@1@@ , @@2@@"]),
        ("is/BE @@1@@ same/JJ as/IN @@2@@", ["BOOLEAN[=](@@1@@,@@2@@)"]),
        ("is/BE @@1@@ equal/JJ to/IN red/JJ", ["BOOLEAN[=](@@1@@,@@3@@)", "red"]),
        # The first word is no part of the condition, so that "are" compares nothing here.
        ("are/BE @@1@@ red/JJ", ["are @@1@@ red"]),
        ("are/BE @@1@@ all/DT different/JJ", ["are @@1@@ all different"]),
        ("is/BE @@1@@ higher/JJS than/IN @@2@@ here/RB", ["BOOLEAN[>](@@1@@,@@4@@)", "here"]),
        ("if/IN both/DT @@1@@ and/CC @@2@@ are/BE true/JJ", ["if both @@1@@ and @@2@@ are true"]),
        ("if/IN @@1@@ is/BE behind/IN @@2@@", ["BOOLEAN[POS_BEHIND_OF](@@1@@,@@2@@)"]),
        ("which/WDT is/BE total/JJ of/IN @@1@@ ,/, @@2@@", ["which is total of @@1@@ , @@2@@"]),
        ("@@1@@ where/RB @@2@@ is/BE red/JJ", ["COMPARATIVE[=](@@1@@,@@2@@,@@4@@)", "red"]),
        ("@@1@@ where/RB @@2@@ is/BE @@1@@ red/JJ", ["COMPARATIVE[=](@@1@@,@@2@@,@@4@@)", "red"]),
        ("@@1@@ where/RB @@2@@ has/VBP red/JJ one/CD", ["COMPARATIVE[FILTER](@@1@@,@@2@@,@@4@@)", "has red one"]),
        ("@@1@@ besides/IN @@2@@", ["DISCARD(@@1@@,@@2@@)"]),
        # What is left of a step once a marker is cut out begins or ends with a blank, and is found nowhere.
        ("@@1@@ sorted/VBN by/IN @@2@@", ["@@1@@ sorted by @@2@@"]),
        ("@@1@@ sorted/VBN by/IN @@2@@ down/RB", ["@@1@@ sorted by @@2@@ down"]),
        ("@@1@@ in/IN both/DT @@2@@ and/CC @@3@@", ["@@1@@ in both @@2@@ and @@3@@"]),
        ("@@1@@ here/RB", ["@@1@@ here"]),
        # Unless `return`, which goes with its blanks, is what stands there.
        ("@@1@@ return/NN here/RB", ["FILTER(@@1@@,@@3@@)", "here"]),
        ("@@1@@ where/RB @@2@@ return/NN chased/JJ", ["COMPARATIVE[FILTER](@@1@@,@@2@@,@@4@@)", "chased"]),
        ("@@1@@ where/RB @@2@@ is/BE ;/,", ["@@1@@ where @@2@@ is ;"]),
        ("@@1@@ near/IN @@2@@", ["FILTER[POS_NEAR](@@1@@,@@2@@)"]),
        # Any word of the letters of "and" and "or" joins.
        ("@@1@@ on/IN @@2@@", ["UNION(@@1@@,@@2@@)"]),
        ("@@01@@ ,/, @@2@@", ["@@01@@ , @@2@@"]),
        ("color/NN of/IN @@1@@", ["color of @@1@@"]),
        ("sum/NN of/IN @@1@@ and/CC @@2@@", ["sum of @@1@@ and @@2@@"]),
        ("number/NN of/IN @@1@@ for/IN each/DT @@2@@", ["number of @@1@@ for each @@2@@"]),
        ("size/NN for/IN each/DT @@1@@", ["size for each @@1@@"]),
        ("cubes/NNS", ["cubes"]),
    ],
)
def test_operators_become_operations(text: str, expected: list[str]) -> None:
    assert apply(wrap, text) == expected


def test_only_the_phrases_of_its_own_operator_are_open_to_the_wrapper() -> None:
    highest = "@@1@@ where/RB @@2@@ is/BE highest/JJS"
    assert apply(wrap, highest, EVERY_PHRASE) == ["@@1@@ where @@2@@ is highest"]
    assert apply(wrap, highest) == ["COMPARATIVE[=](@@1@@,@@2@@,@@4@@)", "highest"]
    lower = "@@1@@ where/RB @@2@@ is/BE lower/JJ"
    assert apply(wrap, lower, EVERY_PHRASE) == ["COMPARATIVE[<](@@1@@,@@2@@,@@4@@)", "lower"]
    assert "lower" in PRESERVED["AGGREGATE"] and "lower" not in without_own(EVERY_PHRASE, "COMPARATIVE")


@pytest.mark.parametrize(
    ("text", "span", "refused"),
    [
        ("@@1@@ left/NN of/IN @@2@@", (1, 2), True),
        ("@@1@@ in/IN front/NN of/IN @@2@@", (0, 3), True),
        ("@@1@@ in/IN front/NN of/IN @@2@@", (0, 4), False),
        ("number/NN of/IN cubes/NNS", (0, 1), True),
        ("number/NN of/IN cubes/NNS", (2, 3), False),
        ("@@1@@ that/WDT are/BE red/JJ", (3, 4), False),
        ("@@1@@ that/WDT are/BE red/JJ", (2, 4), True),
        ("highest/JJS of/IN @@1@@", (0, 1), True),
        # A blank at the end of "average " counts at a border only; as the whole span it is one all the same.
        ("@@1@@ average/NN", (1, 2), True),
        ("big/JJ average/NN", (0, 2), False),
        ("big/JJ average/NN @@1@@", (0, 2), True),
        # Whole words: "touch" is not cut out of "touching".
        ("@@1@@ touching/VBG @@2@@", (1, 3), False),
        ("@@1@@ touch/VBG @@2@@", (1, 3), True),
    ],
)
def test_a_span_may_neither_be_a_phrase_nor_cut_one(text: str, span: tuple[int, int], refused: bool) -> None:
    assert is_protected(tokens(text), *span, EVERY_PHRASE) is refused
    assert not is_protected(tokens(text), *span, frozenset())


def test_phrases_that_are_not_extracted() -> None:
    graph, number = graph_of("metal/NN @@1@@")
    assert extract(graph, number, [(0, 2), (1, 2)], frozenset()) == []
    assert len(graph) == number
    assert shown(graph[number]) == "metal @@1@@"


def test_the_first_run_of_equal_texts_is_found() -> None:
    assert find_run(["#1", "a", "b", "a", "b"], ["a", "b"]) == (1, 3)
    assert find_run(["#1"], ["#2"]) is None
    assert find_run(["#1"], [""]) is None


def test_rules_take_nothing_from_a_node_without_tokens() -> None:
    for rule in rules.RULES:
        graph, number = graph_of("the/DT")
        graph[number].tokens = []
        assert rule(graph, number, EVERY_PHRASE) == []
        assert graph[number].label is None
