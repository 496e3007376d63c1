"""BREAK's graph edit distances of many predictions, in several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import cache, partial
from multiprocessing import get_context

from qdsft.console import is_main_process
from qdsft.errors import UserError
from qdsft.metrics.break_official.ged import SECONDS, Distance, Graph, lexical_ged, structural_ged
from qdsft.metrics.break_official.lexical import Lemmatizer
from qdsft.metrics.break_official.normal_form import normalized_exact_match

BreakRow = tuple[str, Sequence[str], Sequence[str]]
"""(question, gold steps, predicted steps)."""

CHUNK = 64
"""Rows per task of a process: spaCy parses their texts together."""
FEW = 1000
"""Rows per process below which another process costs more than it saves: each process loads spaCy and torch."""


def break_scores(
    rows: Sequence[BreakRow], *, lexical: bool, seconds: float = SECONDS, workers: int | None = None
) -> list[dict[str, float | None]]:
    """Return the graph edit distances of each row, in the order of the rows.

    A row's scores are `structural_ged`, with `lexical` also `ged` and `normalized_exact_match` (None where a side
    has no normal form), and `ged_inexact`: how many of the distances are only the best found in the `seconds`
    allowed for each, which may be above the distance. `workers` processes share the rows, unless given as many as
    the machine has cores and the rows are worth; they are spawned, so a script that calls this needs its
    `if __name__ == "__main__"`. For official values the steps must come from `formats.break_steps`.

    Raises UserError if `seconds` or `workers` is not positive, or if `lexical` lacks spaCy or its English model.
    """
    from tqdm import tqdm

    if seconds <= 0 or (workers is not None and workers < 1):
        raise UserError(f"seconds ({seconds}) and workers ({workers}) must be positive")
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    workers = min(workers or min(_cpus(), len(rows) // FEW), len(chunks))
    scores: list[dict[str, float | None]] = []
    score = partial(_score, lexical=lexical, seconds=seconds)
    with (
        # Not fork: the caller may hold a GPU, or threads.
        ProcessPoolExecutor(workers, get_context("spawn")) if workers > 1 else nullcontext() as pool,
        tqdm(total=len(rows), desc="graph edit distance", unit="row", delay=2, disable=not is_main_process()) as bar,
    ):
        for found in map(score, chunks) if pool is None else pool.map(score, chunks):
            scores += found
            bar.update(len(found))
    return scores


def _score(rows: Sequence[BreakRow], *, lexical: bool, seconds: float) -> list[dict[str, float | None]]:
    if lexical:
        _lemmatizer().read(label for _, *both in rows for steps in both for label in Graph.of(steps).labels)
    scores = []
    for _, gold, predicted in rows:
        found = _row_scores(dict(_distances(gold, predicted, lexical, seconds)))
        if lexical:
            found["normalized_exact_match"] = normalized_exact_match(predicted, gold)
        scores.append(found)
    return scores


def _distances(
    gold: Sequence[str], predicted: Sequence[str], lexical: bool, seconds: float
) -> Iterator[tuple[str, Distance]]:
    yield "structural_ged", structural_ged(predicted, gold, seconds)
    if lexical:
        yield "ged", lexical_ged(predicted, gold, _lemmatizer().similarity, seconds)


def _row_scores(distances: dict[str, Distance]) -> dict[str, float | None]:
    values: dict[str, float | None] = {name: distance.value for name, distance in distances.items()}
    return values | {"ged_inexact": float(sum(not distance.exact for distance in distances.values()))}


def _cpus() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _lemmatizer() -> Lemmatizer:
    """Return the lemmatizer of this process, so that a text of several chunks is parsed once."""
    return Lemmatizer()
