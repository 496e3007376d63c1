"""Rules that split a step until every part is a word or an operation on other parts.

A rule changes the graph and returns the numbers of the nodes it made. `RULES` has them in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qdsft.metrics.break_official.normal_form.graph import Graph
from qdsft.metrics.break_official.normal_form.operators import value_of
from qdsft.metrics.break_official.normal_form.patterns import (
    condition_start,
    described,
    is_adposition,
    is_below,
    is_copula,
    is_noun,
)
from qdsft.metrics.break_official.normal_form.phrases import AGGREGATES, Phrases, is_protected
from qdsft.metrics.break_official.normal_form.spans import Span, extract, extract_all, make_operation
from qdsft.metrics.break_official.normal_form.tokens import Ref, Token, Word
from qdsft.metrics.break_official.normal_form.wrapper import wrap

Rule = Callable[[Graph, int, Phrases], list[int]]
"""(graph, number of the node, phrases protected from the rule) -> numbers of new nodes."""


def remove_determiners(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """The cubes -> cubes; unless the determiner depends on a form of "be" (@@1@@ that are red)."""
    tokens = graph[number].tokens
    graph[number].tokens = [
        token
        for place, token in enumerate(tokens)
        if isinstance(token, Ref)
        or token.pos != "DET"
        or token.head_lemma == "be"
        or is_protected(tokens, place, place + 1, protected)
    ]
    return []


def filter_by_noun(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """@@1@@ cubes, @@1@@ are cubes, @@1@@ that are cubes -> FILTER(@@1@@, cubes)."""
    tokens = graph[number].tokens
    bare = len(tokens) == 2 and isinstance(tokens[0], Ref)
    if (bare or is_copula(tokens[:-1])) and tokens[-1].pos == "NOUN":
        return _make_filter(graph, number, len(tokens) - 1, protected)
    return []


def extract_nouns(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """Every longest run of nouns becomes a node: color of metal cubes -> @@2@@ of @@3@@."""
    tokens = graph[number].tokens
    starts = [n for n in range(len(tokens)) if is_noun(tokens[n]) and not (n and is_noun(tokens[n - 1]))]
    return extract(graph, number, [(start, _end_of_nouns(tokens, start)) for start in starts], protected)


def extract_prepositional(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """@@1@@ in @@2@@ on @@3@@ -> @@4@@ on @@3@@."""
    tokens = graph[number].tokens
    if len(tokens) >= 3 and isinstance(tokens[0], Ref) and is_adposition(tokens[1]):
        return extract(graph, number, [(0, _end_of_nouns(tokens, 3))], protected)
    return []


def split_compound(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """gold metal cubes -> gold @@2@@ with metal @@3@@ with cubes."""
    tokens = graph[number].tokens
    modifiers = all(isinstance(token, Word) and token.dep in ("compound", "amod") for token in tokens[:-1])
    made: list[int] = []
    if modifiers and all(map(is_noun, tokens)):
        while len(tokens) > 1 and (found := extract_all(graph, number, tokens, [(1, len(tokens))], protected)):
            references, new = found
            made += new
            number = references[0].number
            tokens = tokens[1:]
    return made


def extract_adjectives(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """An adjective with the reference it describes: big @@1@@, @@1@@ are big, @@1@@ that are big."""
    tokens = graph[number].tokens
    spans: list[Span | None] = []
    for place, token in enumerate(tokens):
        if token.pos == "ADJ":
            is_before = place + 1 < len(tokens) and isinstance(tokens[place + 1], Ref)
            spans.append((place, place + 2) if is_before else described(tokens, place))
    return extract(graph, number, [span for span in spans if span], protected)


def extract_adjective_like_nouns(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """The same with a noun for the adjective: @@1@@ are metal, @@1@@ that are metal."""
    tokens = graph[number].tokens
    spans = [described(tokens, place) for place, token in enumerate(tokens) if is_noun(token)]
    return extract(graph, number, [span for span in spans if span], protected)


def filter_by_adjective(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """Big @@1@@, @@1@@ are big, @@1@@ that are big -> FILTER(@@1@@, big)."""
    tokens = graph[number].tokens
    if len(tokens) == 2 and tokens[0].pos == "ADJ" and isinstance(tokens[1], Ref):
        return make_operation(graph, number, "FILTER", (), [(1, 2), (0, 1)], protected)
    if is_copula(tokens[:-1]) and tokens[-1].pos == "ADJ":
        return _make_filter(graph, number, len(tokens) - 1, protected)
    return []


def filter_by_preposition(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """@@1@@ in @@2@@ -> FILTER(@@1@@, in @@2@@)."""
    tokens = graph[number].tokens
    if len(tokens) == 3 and isinstance(tokens[0], Ref) and is_adposition(tokens[1]):
        return _make_filter(graph, number, 1, protected)
    return []


def filter_by_compound(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """Metal @@1@@ -> FILTER(@@1@@, metal)."""
    tokens = graph[number].tokens
    if len(tokens) == 2 and is_noun(tokens[0]) and isinstance(tokens[1], Ref):
        return make_operation(graph, number, "FILTER", (), [(1, 2), (0, 1)], protected)
    return []


def filter_by_condition(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """@@1@@ (that) (are) touching @@2@@ -> FILTER(@@1@@, touching @@2@@).

    The verb must depend on the reference, and everything after the verb must depend on the verb.
    """
    tokens = graph[number].tokens
    if not tokens or not isinstance(tokens[0], Ref):
        return []
    subject = range(tokens[0].start, tokens[0].end)
    for place, verb in enumerate(tokens):
        if isinstance(verb, Word) and verb.pos == "VERB" and verb.lemma != "be" and verb.head in subject:
            start = condition_start(tokens)
            if start < len(tokens) and all(is_below(token, verb) for token in tokens[place + 1 :]):
                # One beyond the end, as in the evaluator: what is only a reference becomes a node too.
                spans = [(0, 1), (start, len(tokens) + 1)]
                return make_operation(graph, number, "FILTER", (), spans, protected)
            break
    return []


def fix_aggregate(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """Highest @@1@@, @@1@@ that is highest -> AGGREGATE[MAX](@@1@@).

    The phrase must be one of AGGREGATES as it stands there, so none that ends with a blank ("number of ").
    """
    tokens = graph[number].tokens
    texts = [token.text for token in tokens]
    if not tokens:
        return []
    is_described = isinstance(tokens[0], Ref) and [token.lemma for token in tokens[1:3]] == ["that", "be"]
    if is_described and " ".join(texts[3:]) in AGGREGATES:
        place = 0
    elif isinstance(tokens[-1], Ref) and " ".join(texts[:-1]) in AGGREGATES:
        place = len(tokens) - 1
    else:
        return []
    value = value_of(" ".join(texts))
    return make_operation(graph, number, "AGGREGATE", value, [(place, place + 1)], protected) if value else []


def fix_boolean(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """Are there any @@1@@, if @@1@@ -> BOOLEAN[EXIST](@@1@@)."""
    tokens = graph[number].tokens
    if len(tokens) < 2 or not isinstance(tokens[-1], Ref) or tokens[0].lemma not in ("be", "if"):
        return []
    if any(token.lemma not in ("there", "be", "a", "an", "any") for token in tokens[1:-1]):
        return []
    return make_operation(graph, number, "BOOLEAN", ["EXIST"], [(len(tokens) - 1, len(tokens))], protected)


def _make_filter(graph: Graph, number: int, start: int, protected: Phrases) -> list[int]:
    """FILTER(the first token, which is a reference; all from `start` on)."""
    spans = [(0, 1), (start, len(graph[number].tokens))]
    return make_operation(graph, number, "FILTER", (), spans, protected)


def _end_of_nouns(tokens: Sequence[Token], start: int) -> int:
    end = start
    while end < len(tokens) and is_noun(tokens[end]):
        end += 1
    return end


RULES: tuple[Rule, ...] = (
    remove_determiners,
    filter_by_noun,
    extract_nouns,
    extract_prepositional,
    split_compound,
    extract_adjectives,
    extract_adjective_like_nouns,
    filter_by_adjective,
    filter_by_preposition,
    filter_by_compound,
    filter_by_condition,
    fix_aggregate,
    fix_boolean,
    wrap,
)
"""In order. Only the last rule, which builds all operators, chooses its protected phrases itself."""
