"""The rules that take a step apart until every part is a word, or an operation on other parts.

A rule changes the graph and returns the numbers of the nodes it made. `RULES` has them in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qdsft.metrics.normal_form.graph import Graph, Operation
from qdsft.metrics.normal_form.operators import is_aggregate, value_of
from qdsft.metrics.normal_form.patterns import condition_start, described, is_adposition, is_below, is_copula, is_noun
from qdsft.metrics.normal_form.phrases import Phrases, is_phrase
from qdsft.metrics.normal_form.spans import Span, extract, make_operation
from qdsft.metrics.normal_form.tokens import Ref, Token, Word
from qdsft.metrics.normal_form.wrapper import wrap

Rule = Callable[[Graph, int, Phrases], list[int]]
"""(graph, number of the node, phrases protected from the rule) -> numbers of new nodes."""


def remove_determiners(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """The cubes -> cubes; but not where the determiner hangs on a form of "be" (@@1@@ that are red)."""
    tokens = graph[number].tokens
    graph[number].tokens = [
        token
        for place, token in enumerate(tokens)
        if isinstance(token, Ref)
        or token.pos != "DET"
        or token.head_lemma == "be"
        or is_phrase(tokens, place, place + 1, protected)
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
    """Every run of nouns, as long as it goes, becomes a node: color of metal cubes -> @@2@@ of @@3@@."""
    made: list[int] = []
    start = 0
    while start < len(tokens := graph[number].tokens):
        if not is_noun(tokens[start]):
            start += 1
            continue
        end = _end_of_nouns(tokens, start)
        found = extract(graph, number, (start, end), protected)
        made += found
        start = start + 1 if found else end
    return made


def extract_prepositional(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """@@1@@ in @@2@@ on @@3@@ -> @@4@@ on @@3@@, from the left, for as long as there is more."""
    made: list[int] = []
    while len(tokens := graph[number].tokens) >= 3 and isinstance(tokens[0], Ref) and is_adposition(tokens[1]):
        found = extract(graph, number, (0, _end_of_nouns(tokens, 3)), protected)
        if not found:
            break
        made += found
    return made


def split_compound(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """gold metal cubes -> gold @@2@@, with metal cubes to be split when its turn comes."""
    tokens = graph[number].tokens
    modifiers = all(isinstance(token, Word) and token.dep in ("compound", "amod") for token in tokens[:-1])
    if len(tokens) >= 2 and modifiers and all(map(is_noun, tokens)):
        return extract(graph, number, (1, len(tokens)), protected)
    return []


def extract_adjectives(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """An adjective with the reference it describes: big @@1@@, @@1@@ are big, @@1@@ that are big."""

    def find(tokens: Sequence[Token], place: int) -> Span | None:
        if tokens[place].pos != "ADJ":
            return None
        if place + 1 < len(tokens) and isinstance(tokens[place + 1], Ref):
            return place, place + 2
        return described(tokens, place)

    return _extract_all(graph, number, protected, find)


def extract_adjective_like_nouns(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """The same with a noun for the adjective: @@1@@ are metal, @@1@@ that are metal."""

    def find(tokens: Sequence[Token], place: int) -> Span | None:
        return described(tokens, place) if is_noun(tokens[place]) else None

    return _extract_all(graph, number, protected, find)


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

    The verb must hang on what the reference stands for, and all that follows must hang on the verb.
    """
    tokens = graph[number].tokens
    if not tokens or not isinstance(tokens[0], Ref):
        return []
    subject = range(tokens[0].start, tokens[0].end)
    for place, verb in enumerate(tokens):
        if isinstance(verb, Word) and verb.pos == "VERB" and verb.lemma != "be" and verb.head in subject:
            if all(is_below(token, verb) for token in tokens[place + 1 :]):
                return _make_filter(graph, number, condition_start(tokens), protected)
            break
    return []


def fix_aggregate(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """Number of @@1@@ -> AGGREGATE[COUNT](@@1@@); @@1@@ that is highest -> AGGREGATE[MAX](@@1@@)."""
    tokens = graph[number].tokens
    reference, phrase = (tokens[-1], tokens[:-1]) if tokens else (None, [])
    if len(tokens) > 3 and tokens[1].text == "that" and tokens[2].lemma == "be" and isinstance(tokens[0], Ref):
        reference, phrase = tokens[0], tokens[3:]
    text = " ".join(token.text for token in phrase)
    if isinstance(reference, Ref) and is_aggregate(text):
        _apply(graph, number, "AGGREGATE", value_of(text), reference)
    return []


def fix_boolean(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """Are there any @@1@@, if @@1@@ -> BOOLEAN[EXIST](@@1@@)."""
    tokens = graph[number].tokens
    if len(tokens) < 2 or not isinstance(reference := tokens[-1], Ref) or tokens[0].lemma not in ("be", "if"):
        return []
    if all(token.lemma in ("there", "be", "a", "an", "any") for token in tokens[1:-1]):
        _apply(graph, number, "BOOLEAN", ["EXIST"], reference)
    return []


def _apply(graph: Graph, number: int, name: str, meta: Sequence[str], argument: Ref) -> None:
    """Make the node an operation on a single reference, unless what it does (max, count) is not known."""
    if meta:
        graph[number].operation = Operation(name, tuple(meta), (argument.number,))
        graph[number].refresh_successors()


def _make_filter(graph: Graph, number: int, start: int, protected: Phrases) -> list[int]:
    """FILTER(the first token, which is a reference; all from `start` on)."""
    spans = [(0, 1), (start, len(graph[number].tokens))]
    return make_operation(graph, number, "FILTER", (), spans, protected)


def _end_of_nouns(tokens: Sequence[Token], start: int) -> int:
    end = start
    while end < len(tokens) and is_noun(tokens[end]):
        end += 1
    return end


def _extract_all(
    graph: Graph, number: int, protected: Phrases, find: Callable[[Sequence[Token], int], Span | None]
) -> list[int]:
    """Extract what `find` gives for a place in the tokens, from the left, until nothing more can be extracted."""
    made: list[int] = []
    place = 0
    while place < len(tokens := graph[number].tokens):
        span = find(tokens, place)
        found = extract(graph, number, span, protected) if span else []
        made += found
        place = 0 if found else place + 1
    return made


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
"""In order. Only the last one, which speaks for all operators, has protected phrases of its own."""
