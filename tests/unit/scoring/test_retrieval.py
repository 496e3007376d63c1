"""Rows scored by what a search finds: references filled with answers, evidence by id or text, and faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import TEST_DATA

from qdsft.cli.main import main
from qdsft.data.decomposition import Decomposition
from qdsft.data.formats.convert import convert
from qdsft.data.prediction import PredictedSteps
from qdsft.data.readers import stream_records
from qdsft.errors import UserError
from qdsft.metrics.prediction_rows import prediction_row
from qdsft.metrics.summary import summarise
from qdsft.scoring.compare import compare
from qdsft.scoring.retrieval import RetrievalScorer
from qdsft.scoring.score_files import score_files

pytest.importorskip("bm25s")
STRATEGYQA = TEST_DATA / "strategyqa" / "train.json"
PASSAGES = {
    "wrote": "The Silent Tide was written by Mira Voss.",
    "born": "Mira Voss comes from Ketra.",
    **{f"n{number}": f"The Silent Tide sold {number} copies." for number in range(20)},
    **{f"m{number}": f"Nobody from town {number} comes here." for number in range(30)},
}
QUESTION = "Where does the author of The Silent Tide come from?"
GOLD = ["Who wrote The Silent Tide?", "Where does #1 come from?"]
ROW = {
    "question": QUESTION,
    "sub_questions": GOLD,
    "evidence": ["wrote", "born"],
    "step_answers": ["Mira Voss", "Ketra"],
}


@pytest.fixture(autouse=True)
def in_a_folder_with_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("c.jsonl", *({"id": name, "text": text} for name, text in PASSAGES.items()))


def write(name: str, *rows: dict[str, Any]) -> Path:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Path(name)


def scores(steps: list[str], row: dict[str, Any] = ROW, *, answers: bool = False) -> dict[str, float | None]:
    scorer = RetrievalScorer(Path("c.jsonl"), [row], answers=answers)
    return scorer(
        PredictedSteps(row["question"], tuple(row["sub_questions"]), Decomposition(tuple(steps)), True, None, row)
    )


def test_answers_in_place_of_references_find_more() -> None:
    removed, filled = scores(GOLD), scores(GOLD, answers=True)
    assert filled["retrieval_all_found_steps"] == 1.0 == filled["retrieval_all_found_gold"]
    assert removed["retrieval_all_found_steps"] == 0.0
    assert removed["retrieval_recall_question"] == filled["retrieval_recall_question"]


def test_a_predicted_step_has_the_answer_of_the_gold_step_like_it() -> None:
    renumbered = ["Is the tide silent?", "Who wrote The Silent Tide?", "Where does #2 come from?"]
    assert scores(renumbered, answers=True)["retrieval_all_found_steps"] == 1.0
    wrong = ["Is the tide silent?", "Who wrote The Silent Tide?", "Where does #1 come from?"]
    assert scores(wrong, answers=True)["retrieval_all_found_steps"] == 0.0


def test_the_answers_of_a_reader_replace_those_of_gold() -> None:
    scorer = RetrievalScorer(Path("c.jsonl"), [ROW], answers=True)
    plain = RetrievalScorer(Path("c.jsonl"), [ROW])
    decomposition = Decomposition(("Is the tide silent?", "Who wrote The Silent Tide?", "Where does #2 come from?"))
    for answers, found in ((("yes", "Mira Voss", ""), 1.0), (("Mira Voss", "nobody", ""), 0.0), (("", "", ""), 0.0)):
        row = PredictedSteps(QUESTION, tuple(GOLD), decomposition, True, None, ROW, answers)
        assert scorer(row)["retrieval_all_found_steps"] == found
        assert scorer(row)["retrieval_all_found_gold"] == 1.0
        assert plain(row)["retrieval_all_found_steps"] == 0.0


@pytest.mark.parametrize("steps", [[], [""], ["#7 #0 #1"], ["#99999999999999999999"], ["?"]])
def test_steps_without_terms_find_nothing_and_do_no_harm(steps: list[str]) -> None:
    found = scores(steps)
    assert found["retrieval_recall_steps"] == 0.0
    assert found["retrieval_recall"] == found["retrieval_recall_question"]


def test_evidence_may_be_texts() -> None:
    by_text = {**ROW, "evidence": [PASSAGES["wrote"], " " + PASSAGES["born"]]}
    assert scores(GOLD, by_text) == scores(GOLD)


def test_a_row_without_evidence_has_no_scores() -> None:
    scorer = RetrievalScorer(Path("c.jsonl"), [ROW, {**ROW, "evidence": []}])
    without = scorer(
        PredictedSteps(QUESTION, tuple(GOLD), Decomposition(tuple(GOLD)), True, None, {"question": QUESTION})
    )
    assert set(without.values()) == {None} and scorer.facts["rows"] == 1


@pytest.mark.parametrize(
    ("row", "answers", "reason"),
    [
        ({}, False, "no row has evidence"),
        ({"evidence": []}, False, "no row has evidence"),
        ({"evidence": ["gone"]}, False, f'the row "{QUESTION}": the evidence "gone" is no id and no text in c.jsonl'),
        ({"evidence": "born"}, False, f'the row "{QUESTION}": evidence must be a list of ids or texts of passages'),
        ({"evidence": ["born"]}, True, "no row has step_answers"),
    ],
)
def test_unusable_rows_are_one_line(row: dict[str, Any], answers: bool, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        RetrievalScorer(Path("c.jsonl"), [{"question": QUESTION, **row}], answers=answers)
    assert str(caught.value).startswith(reason)


def test_files_carry_the_scores_and_their_differences(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**ROW, "question": f"{QUESTION} ({number})"} for number in range(3)]
    gold = write("g.jsonl", *rows)
    write("p.jsonl", *({**row, "sub_questions": ["What is tea?"]} for row in rows))
    common = ["evaluate", "--gold", "g.jsonl", "--retrieval", "c.jsonl", "--answers", "--output"]
    assert main([*common, "good", "--predictions", "g.jsonl"]) == 0
    assert "question and predicted steps" in capsys.readouterr().out
    content = json.loads(Path("good/metrics.json").read_text(encoding="utf-8"))
    assert content["retrieval"]["passages"] == len(PASSAGES) and content["retrieval"]["corpus"] == "c.jsonl"
    tuned = content["tuned"]
    difference = tuned["retrieval_recall_steps"] - tuned["retrieval_recall_question"]
    assert tuned["differences"]["retrieval_recall_steps"] == {"mean": difference, "interval": [difference, difference]}
    assert "retrieval_recall_question" not in tuned["differences"]
    assert '<section id="retrieval">' in Path("good/report.html").read_text(encoding="utf-8")
    assert main([*common, "bad", "--predictions", "p.jsonl"]) == 0
    [comparison] = compare([Path("good"), Path("bad")]).comparisons
    assert comparison.metrics["retrieval_all_found_steps"].difference == -1.0
    assert "retrieval_recall_question" not in comparison.metrics
    score_files(Path("g.jsonl"), gold, output=Path("plain"))
    write("c.jsonl", *({"id": name, "text": text} for name, text in list(PASSAGES.items())[:5]))
    score_files(Path("g.jsonl"), gold, output=Path("other"), retrieval="c.jsonl")
    for other, reason in (("plain", "plain lacks the metrics"), ("other", "were evaluated with another corpus")):
        with pytest.raises(UserError, match=reason):
            compare([Path("good"), Path(other)])


def test_answers_need_a_retrieval(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "run", "--answers"]) == 1
    assert capsys.readouterr().err.startswith("error: --answers works with --retrieval only")


@pytest.mark.slow
@pytest.mark.skipif(not STRATEGYQA.is_file(), reason=f"{STRATEGYQA} is missing")
def test_the_figures_of_the_page() -> None:
    report = convert("strategyqa", "jsonl", STRATEGYQA, Path("rows.jsonl"), corpus=Path("facts.jsonl"))
    assert (report.written, report.passages) == (2061, 5515)
    rows = [record.row for record in stream_records(Path("rows.jsonl"))]
    scorer = RetrievalScorer(Path("facts.jsonl"), rows)
    predictions = []
    for row in rows:
        steps = PredictedSteps(
            row["question"], tuple(row["sub_questions"]), Decomposition(tuple(row["sub_questions"])), None
        )
        predicted = prediction_row(steps)
        predicted.scores.update(scorer(PredictedSteps(steps.question, steps.gold, steps.answer, None, None, row)))
        predictions.append(predicted)
    means = summarise(predictions).means
    table = {
        "question": (0.720, 0.779, 0.441, 0.531),
        "steps": (0.744, 0.804, 0.481, 0.575),
        "gold": (0.783, 0.841, 0.530, 0.630),
    }
    for queries, expected in table.items():
        keys = [f"retrieval_{name}_{queries}" for name in ("recall", "recall_20", "all_found", "all_found_20")]
        assert [means[name] for name in keys] == pytest.approx(expected, abs=6e-4), queries
