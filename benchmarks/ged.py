"""Measure the speed of BREAK's graph edit distance, and compare it with networkx's search.

    python benchmarks/ged.py [QDMR.csv]

Gold decompositions of BREAK are compared with perturbed copies (steps dropped, merged or exchanged, words shuffled)
and with the gold decomposition of another question. 3 in 100 copies have a step that refers to itself, as in BREAK's
official example; in one set all of them do. Without the file, the decompositions are synthetic chains and trees with
as many steps.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from qdsft.errors import UserError
from qdsft.metrics.break_official.break_scores import break_scores
from qdsft.metrics.break_official.english_model import load_english
from qdsft.metrics.break_official.ged import SECONDS, Distance, Graph, graph_edit_distance
from qdsft.metrics.break_official.lexical import match_ratio

Pair = tuple[list[str], list[str]]
Similarity = Callable[[str, str], float]
BREAK = Path(__file__).resolve().parents[2] / "shared" / "data" / "break" / "QDMR.csv"
SELF_REFERENCES = "with self references"
TEST_ROWS = 7760
"""Rows of BREAK's validation set, as in published evaluations."""
LENGTHS = {2: 734, 3: 1422, 4: 1151, 5: 904, 6: 525, 7: 359, 8: 199, 9: 147, 10: 92, 12: 125, 14: 89, 16: 59, 18: 45}
"""Number of steps -> number of BREAK's decompositions with about as many, for the synthetic ones."""


def decompositions(path: Path, chance: random.Random) -> list[list[str]]:
    if path.exists():
        from qdsft.data.formats.break_csv import break_steps
        from qdsft.data.readers import scan
        from qdsft.data.record import Record

        return [break_steps(row.row["decomposition"]) for row in scan(path) if isinstance(row, Record)]
    print(f"{path} is not there: synthetic decompositions")
    nouns = ["cubes", "flights", "rivers", "the number", "teams", "the height", "which", "papers"]
    lengths = chance.choices(list(LENGTHS), list(LENGTHS.values()), k=5000)
    return [
        [f" {chance.choice(nouns)}", *(f" {chance.choice(nouns)} of #{chance.randint(1, n)}" for n in range(1, length))]
        for length in lengths
    ]


def perturbed(steps: list[str], chance: random.Random, self_references: float) -> list[str]:
    steps = list(steps)
    for _ in range(chance.randint(1, 3)):
        at, other = chance.randrange(len(steps)), chance.randrange(len(steps))
        match chance.choice(("drop", "merge", "exchange", "shuffle")):
            case "drop" if len(steps) > 1:
                steps = without(steps, at)
            case "merge" if at != other:
                steps[at] += steps[other]
                steps = without(steps, other)
            case "exchange":
                steps = exchanged(steps, at, other)
            case _:
                steps[at] = " " + " ".join(chance.sample(words := steps[at].split(), len(words)))
    if chance.random() < self_references:
        at = chance.choice((len(steps), chance.randint(1, len(steps))))
        steps[at - 1] = re.sub(r"#\d+", f"#{at}", steps[at - 1], count=1)
    return steps


def exchanged(steps: list[str], one: int, other: int) -> list[str]:
    """Return the steps with two of them exchanged, and the references to them adapted."""
    new = {str(one + 1): other + 1, str(other + 1): one + 1}
    moved = [re.sub(r"#(\d+)", lambda match: f"#{new.get(match[1], match[1])}", step) for step in steps]
    moved[one], moved[other] = moved[other], moved[one]
    return moved


def without(steps: list[str], dropped: int) -> list[str]:
    """Return the other steps. References are renumbered; those to the dropped step go to the step before it."""

    def renumbered(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"#{max(number - 1, 1) if number > dropped else number}"

    return [re.sub(r"#(\d+)", renumbered, step) for at, step in enumerate(steps) if at != dropped]


def pairs(golds: list[list[str]], count: int, chance: random.Random) -> dict[str, list[Pair]]:
    """(predicted, gold) steps."""
    chosen = chance.sample(golds, min(count, len(golds)))
    return {
        "perturbed": [(perturbed(gold, chance, 0.03), gold) for gold in chosen],
        SELF_REFERENCES: [(perturbed(gold, chance, 1.0), gold) for gold in chosen],
        "another's gold": [(chance.choice(golds), gold) for gold in chosen],
    }


def words(predicted: str, gold: str) -> float:
    """Compute the lexical similarity without lemmas, so that only the search is timed."""
    return match_ratio(predicted.split(" "), gold.split(" "))


def same(predicted: str, gold: str) -> float:
    return 1.0


SIMILARITIES: dict[str, Similarity] = {"structural": same, "lexical": words}


def ours(pair: Pair, similarity: Similarity, seconds: float) -> tuple[Distance, float]:
    start = time.perf_counter()
    distance = graph_edit_distance(Graph.of(pair[0]), Graph.of(pair[1]), similarity, seconds)
    return distance, time.perf_counter() - start


def networkxs(pair: Pair, similarity: Similarity) -> tuple[float, float]:
    import networkx

    start = time.perf_counter()
    sides = []
    for graph in map(Graph.of, pair):
        sides.append(networkx.DiGraph())
        sides[-1].add_nodes_from((at, {"label": label}) for at, label in enumerate(graph.labels))
        sides[-1].add_edges_from(sorted(graph.edges))
    cost = 0.0
    for cost in networkx.optimize_graph_edit_distance(  # noqa: B007
        *sides, node_subst_cost=lambda one, other: 1 - similarity(one["label"], other["label"])
    ):
        pass
    return cost / max(Graph.of(steps).size for steps in pair), time.perf_counter() - start


def search_table(kinds: dict[str, list[Pair]], seconds: float) -> None:
    print("\n| pairs | cost | pairs | mean, ms | median, ms | 99 %, ms | worst, s | worst pair, steps | not exact |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind, some in kinds.items():
        for name, similarity in SIMILARITIES.items():
            found = [ours(pair, similarity, seconds) for pair in some]
            times = [spent for _, spent in found]
            worst = some[times.index(max(times))]
            ms = [1000 * value for value in (statistics.mean(times), statistics.median(times))]
            tail = 1000 * statistics.quantiles(times, n=100)[98]
            inexact = sum(not distance.exact for distance, _ in found)
            print(
                f"| {kind} | {name} | {len(some):,} | {ms[0]:.1f} | {ms[1]:.1f} | {tail:.0f} | {max(times):.2f} "
                f"| {len(worst[0])}, {len(worst[1])} | {inexact} |",
                flush=True,
            )


def comparison_table(kinds: dict[str, list[Pair]], longest: int, count: int) -> None:
    print(f"\n| pairs of at most {longest} steps | cost | pairs | ours, s | networkx, s | ratio | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for kind, some in kinds.items():
        small = [pair for pair in some if max(map(len, pair)) <= longest][:count]
        for name, similarity in SIMILARITIES.items():
            mine = [ours(pair, similarity, SECONDS) for pair in small]
            theirs = [networkxs(pair, similarity) for pair in small]
            spent = [sum(seconds for _, seconds in results) for results in (mine, theirs)]
            differs = max(abs(one.value - other) for (one, _), (other, _) in zip(mine, theirs, strict=True))
            print(
                f"| {kind} | {name} | {len(small)} | {spent[0]:.2f} | {spent[1]:.2f} | {spent[1] / spent[0]:.1f} "
                f"| {differs:.0e} |",
                flush=True,
            )


def scores_table(some: Iterable[Pair], seconds: float) -> None:
    """Score with lemmas, as an evaluation does."""
    rows = [("", gold, predicted) for predicted, gold in some]
    start = time.perf_counter()
    try:
        load_english()
    except UserError as error:
        print(f"\nno lemmas: {error}")
        return
    loaded = time.perf_counter()
    scores = break_scores(rows, lexical=True, seconds=seconds, workers=1)
    spent = time.perf_counter() - loaded
    print(
        "\n| rows | spaCy loaded, s | structural and lexical, one process, s | as BREAK's 7,760 rows, s | not exact |"
    )
    print("|---|---|---|---|---|")
    inexact = sum(row["ged_inexact"] or 0 for row in scores)
    whole = spent / len(rows) * TEST_ROWS
    print(f"| {len(rows):,} | {loaded - start:.1f} | {spent:.1f} | {whole:.0f} | {inexact:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=BREAK)
    parser.add_argument("--pairs", type=int, default=500, help="of each kind")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one pair")
    parser.add_argument("--longest", type=int, default=5, help="steps of the pairs given to networkx")
    parser.add_argument("--compared", type=int, default=100, help="pairs of each kind given to networkx")
    options = parser.parse_args()
    chance = random.Random(0)
    kinds = pairs(decompositions(options.data, chance), options.pairs, chance)
    ours((["a"], ["b #1"]), same, 1)  # loads numpy and scipy
    search_table(kinds, options.seconds)
    ours_alone = {kind: some for kind, some in kinds.items() if kind != SELF_REFERENCES}  # networkx searches those
    comparison_table(ours_alone, options.longest, options.compared)
    scores_table(kinds["perturbed"], options.seconds)


if __name__ == "__main__":
    main()
