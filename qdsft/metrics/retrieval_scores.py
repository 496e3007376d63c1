"""Recall and all-evidence-found of the passages that a question, or its steps, retrieve."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

DEPTHS = (10, 20)
"""Passages that are looked at."""
MEASURES = {"recall": "gold passages found", "all_found": "rows whose gold passages are all found"}
QUERIES = {
    "question": "question alone",
    "steps": "predicted steps",
    "both": "question and predicted steps",
    "gold": "question and gold steps",
}
"""Queries whose results are merged -> their name."""
FIXED = ("question", "gold")
"""Those that do not depend on the prediction."""


def key(measure: str, depth: int = DEPTHS[0], queries: str = "both") -> str:
    """Return the key of a metric: `retrieval_all_found` is that of question and predicted steps at the first depth."""
    at = "" if depth == DEPTHS[0] else f"_{depth}"
    return f"retrieval_{measure}{at}{'' if queries == 'both' else f'_{queries}'}"


KEYS = tuple(key(measure, depth, queries) for measure in MEASURES for depth in DEPTHS for queries in QUERIES)


def retrieval_scores(found: Mapping[str, Sequence[int]], gold: Collection[int]) -> dict[str, float]:
    """Return every metric of a row. `found` is QUERIES -> places of passages, best first; `gold` has at least one."""
    scores = {}
    for queries, places in found.items():
        for depth in DEPTHS:
            hits = len(set(places[:depth]) & set(gold))
            scores[key("recall", depth, queries)] = hits / len(gold)
            scores[key("all_found", depth, queries)] = float(hits == len(gold))
    return {name: scores[name] for name in KEYS}


def round_robin(lists: Sequence[Sequence[int]]) -> list[int]:
    """Return the first entries of all lists, then the second ones, and so on, each entry once."""
    longest = max(map(len, lists), default=0)
    return list(dict.fromkeys(one[rank] for rank in range(longest) for one in lists if rank < len(one)))
