"""Write token lists by hand, so that the parses do not depend on the version of spaCy."""

from __future__ import annotations

import re
from dataclasses import replace

from qdsft.metrics.break_official.normal_form.graph import Graph, Node
from qdsft.metrics.break_official.normal_form.phrases import Phrases
from qdsft.metrics.break_official.normal_form.rules import Rule
from qdsft.metrics.break_official.normal_form.tokens import Ref, Token, Word

_LEMMAS = {"are": "be", "is": "be", "was": "be", "cubes": "cube", "balls": "ball", "touching": "touch"}
_POS = {"NN": "NOUN", "NNS": "NOUN", "NNP": "PROPN", "JJ": "ADJ", "JJS": "ADJ", "DT": "DET", "WDT": "DET"} | {
    **{
        "IN": "ADP",
        "TO": "PART",
        "CC": "CCONJ",
        "RB": "ADV",
        "EX": "PRON",
        "VBP": "VERB",
        "VBG": "VERB",
        "VBN": "VERB",
    },
    **{"BE": "AUX", ",": "PUNCT", "WP": "PRON", "CD": "NUM"},
}


def tokens(text: str) -> list[Token]:
    """Return tokens from items `text/TAG`, optionally followed by `:dep` and `>index of the head`.

    `@@n@@` is a reference; a word without a head is its own.
    """
    items = [re.fullmatch(r"(.+?)(?:/([A-Z,]+))?(?::(\w+))?(?:>(\d+))?", item) for item in text.split(" ")]
    made: list[Token] = []
    for place, item in enumerate(items):
        assert item
        if re.fullmatch(r"@@\d+@@", item[1]):
            made.append(Ref(item[1], place, place + 1))
            continue
        head = int(item[4] or place)
        tag = item[2] or "NN"
        lemma = _LEMMAS.get(item[1], item[1])
        made.append(Word(item[1], lemma, _POS[tag], tag, item[3] or "", place, head, "", frozenset()))
    heads = {token.index: token.head for token in made if isinstance(token, Word)}
    return [
        replace(token, head_lemma=made[token.head].lemma, above=_above(token.index, heads))
        if isinstance(token, Word)
        else token
        for token in made
    ]


def _above(index: int, heads: dict[int, int]) -> frozenset[int]:
    found: set[int] = set()
    while heads.get(index, index) != index:
        index = heads[index]
        found.add(index)
    return frozenset(found)


def graph_of(text: str) -> tuple[Graph, int]:
    """Return a graph of empty nodes for the references and a last node with the tokens, and the last node's number."""
    made = tokens(text)
    last = max((token.number for token in made if isinstance(token, Ref)), default=0) + 1
    graph = Graph({number: Node() for number in range(1, last)} | {last: Node(tokens=made)})
    graph.refer(last, made)
    return graph, last


def made_graph(**labels: str) -> Graph:
    """Return nodes `_1`, `_2`, ...: `NAME(...)` is the label of an operation, anything else a list of tokens."""
    graph = Graph({int(name[1:]): Node() for name in labels})
    for name, label in labels.items():
        number = int(name[1:])
        if re.fullmatch(r"[A-Z]+(\[.*\])?\(.*\)", label):
            graph[number].label = label
            graph[number].is_filter = label.startswith("FILTER(")
            graph.refer(number, tokens(" ".join(re.findall(r"@@\d+@@", label))))
        else:
            graph[number].tokens = tokens(label)
            graph.refer(number, graph[number].tokens)
    return graph


def apply(rule: Rule, text: str, protected: Phrases = frozenset()) -> list[str]:
    """Return the texts or operations after the rule: of the node itself, then of the new nodes in order."""
    graph, number = graph_of(text)
    made = rule(graph, number, protected)
    assert made == list(range(number + 1, len(graph) + 1))
    for other, node in graph.items():
        before = dict(node.successors)
        graph.refer(other, node.tokens)
        assert node.successors == before
    return [shown(graph[n]) for n in (number, *made)]


def shown(node: Node) -> str:
    return node.label or " ".join(token.text for token in node.tokens)
