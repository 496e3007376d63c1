"""Score decompositions by the passages that a search finds with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from qdsft.data.passages import EVIDENCE, evidence_of, read_corpus
from qdsft.data.prediction import PredictedSteps
from qdsft.data.record import short_json
from qdsft.data.references import fill_references
from qdsft.errors import UserError
from qdsft.hashing import file_sha256
from qdsft.metrics.alignment import paired
from qdsft.metrics.retrieval_scores import DEPTHS, KEYS, retrieval_scores, round_robin
from qdsft.metrics.scores import Scores
from qdsft.scoring.search import Index, korean_terms

STEP_ANSWERS = "step_answers"
"""Column with the answers of the gold steps."""


class RetrievalScorer:
    """Search a corpus with the question and the steps of each row, and compare with the row's evidence."""

    def __init__(self, corpus: Path, rows: Sequence[Mapping[str, Any]], *, answers: bool = False) -> None:
        """Index the corpus, and check that it has the evidence of `rows`, the columns of the rows to score.

        With `answers`, `#n` in a step is replaced by the answer of step n: the gold answer, or for predicted steps the
        prediction's `reader_answers` if it has them. Otherwise `#n` is removed.

        Raises UserError if it does not, if no row has evidence or with `answers` none has `step_answers`, if the
        corpus cannot be read, and if bm25s is not installed.
        """
        passages = read_corpus(corpus)
        self._corpus, self._answers = corpus, answers
        self._by_text = {passage.text.strip(): place for place, passage in enumerate(passages)}
        self._by_id = {passage.id: place for place, passage in enumerate(passages)}
        scored = sum(bool(self._gold(row)) for row in rows)
        if not scored:
            raise UserError(f"no row has {EVIDENCE}, the ids or texts of its gold passages; add it")
        if answers and not any(isinstance(row.get(STEP_ANSWERS), list) for row in rows):
            raise UserError(f"no row has {STEP_ANSWERS}, the answers of its gold steps; leave out --answers")
        self._index = Index([passage.text for passage in passages])
        self._search = lru_cache(maxsize=100_000)(lambda query: tuple(self._index.search(query, DEPTHS[-1])))
        self.facts = {
            "corpus": corpus.name,
            "sha256": file_sha256(corpus),
            "passages": len(passages),
            "rows": scored,
            "references": "replaced by gold answers" if answers else "removed",
            "korean": korean_terms(),
        }
        """What the results depend on, for metrics.json."""

    def __call__(self, row: PredictedSteps) -> Scores:
        """Return the retrieval metrics of a row, all None for a row without evidence."""
        gold = self._gold(row.columns)
        if not gold:
            return dict.fromkeys(KEYS)
        question = [row.question]
        predicted, golden = self._queries(row)
        found = {
            "question": self._merged(question),
            "steps": self._merged(predicted),
            "both": self._merged(question + predicted),
            "gold": self._merged(question + golden),
        }
        return {**retrieval_scores(found, gold)}

    def _queries(self, row: PredictedSteps) -> tuple[list[str], list[str]]:
        """Return the predicted and the gold steps as queries."""
        golden = self._gold_answers(row)
        if self._answers and row.reader_answers is not None:
            predicted = {number: one for number, one in enumerate(row.reader_answers, start=1) if one.strip()}
        else:  # a predicted step has the answer of the gold step that it is paired with
            predicted = {own: golden[gold] for own, gold in paired(row).items() if gold in golden} if golden else {}
        return (
            [fill_references(step, predicted) for step in row.answer.steps],
            [fill_references(step, golden) for step in row.gold],
        )

    def _gold_answers(self, row: PredictedSteps) -> dict[int, str]:
        """Return gold step -> its answer, both as in `#n`; empty without `answers`."""
        answers = row.columns.get(STEP_ANSWERS)
        if not self._answers or not isinstance(answers, list):
            return {}
        return {number: one for number, one in enumerate(answers, start=1) if isinstance(one, str) and one.strip()}

    def _merged(self, queries: list[str]) -> list[int]:
        return round_robin([self._search(query) for query in queries])

    def _gold(self, row: Mapping[str, Any]) -> set[int]:
        """Return the places of a row's evidence. Raises UserError if it is not in the corpus."""
        where = f"the row {short_json(row.get('question'))}"
        found = set()
        for entry in evidence_of(row, where) or ():
            place = self._by_id.get(entry, self._by_text.get(entry.strip()))
            if place is None:
                raise UserError(
                    f"{where}: the evidence {short_json(entry)} is no id and no text in {self._corpus}; give the "
                    "corpus that belongs to the rows"
                )
            found.add(place)
        return found
