"""Differences of evaluations: none where there is none, the right rows where there is one, refusals with reasons."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qdsft.cli.main import main
from qdsft.data.prediction import PredictedSteps
from qdsft.data.synth import generate_mixed
from qdsft.errors import UserError
from qdsft.metrics.prediction_rows import PredictionRow, json_lines, prediction_row
from qdsft.scoring.compare import ChangedRow, compare

CORPUS = list(generate_mixed(["en", "ko"], 60, 4))
Change = Callable[[int, list[str]], list[str]]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(change: Change = lambda n, steps: steps) -> list[PredictionRow]:
    found = []
    for n, row in enumerate(CORPUS):
        text = "\n".join(f"{k}. {step}" for k, step in enumerate(change(n, row["sub_questions"]), start=1))
        found.append(prediction_row(PredictedSteps.parse(row["question"], row["sub_questions"], text, True, row)))
    return found


def write(name: str, found: list[PredictionRow]) -> Path:
    Path(name).mkdir()
    Path(name, "predictions.jsonl").write_text(json_lines(found), encoding="utf-8")
    return Path(name)


def drop_last(n: int, steps: list[str]) -> list[str]:
    return steps[:-1] if n % 2 == 0 else steps


def test_equal_predictions_do_not_differ() -> None:
    found = compare([write("a", rows(drop_last)), write("b", rows(drop_last))])
    (comparison,) = found.comparisons
    assert found.rows == 60 and comparison.metrics.keys() == rows()[0].scores.keys() - {"restraint"}
    for values in comparison.metrics.values():
        assert (values.difference, values.interval, values.p_value) == (0.0, (0.0, 0.0), 1.0)
        assert not values.significant and (values.wins, values.ties, values.losses) == (0, 60, 0)
    assert comparison.gained == comparison.lost == []


def test_a_difference_is_seen_with_its_rows() -> None:
    (comparison,) = compare([write("a", rows(drop_last)), write("b", rows())]).comparisons
    exact = comparison.metrics["exact_match"]
    assert (exact.first, exact.second, exact.difference) == (0.5, 1.0, 0.5)
    assert (exact.wins, exact.ties, exact.losses) == (30, 30, 0)
    assert exact.significant and exact.p_value < 0.001 and 0.3 < exact.interval[0] < 0.5
    assert comparison.gained == [ChangedRow(n + 1, CORPUS[n]["question"]) for n in range(0, 60, 2)]
    assert comparison.lost == []


def test_less_of_a_fault_is_a_win() -> None:
    copied = rows(lambda n, steps: [CORPUS[n]["question"]] if n < 10 else steps)
    (comparison,) = compare([write("a", copied), write("b", rows())]).comparisons
    fault = comparison.metrics["copied_question"]
    assert fault.difference == pytest.approx(-10 / 60) and (fault.wins, fault.losses) == (10, 0)
    (comparison,) = compare([Path("b"), Path("a")]).comparisons
    assert comparison.metrics["copied_question"].losses == 10 and len(comparison.lost) == 10


def test_one_lucky_row_is_not_called_significant() -> None:
    (comparison,) = compare([write("a", rows(lambda n, s: s[:-1] if n < 3 else s)), write("b", rows())]).comparisons
    assert not any(values.significant for values in comparison.metrics.values())


def test_rows_are_matched_by_question_and_repeated_ones_in_order() -> None:
    repeated = [*rows(), *rows(drop_last)[:1]]
    write("a", repeated)
    write("b", [*repeated[1:60], repeated[0], repeated[60]])
    (comparison,) = compare([Path("a"), Path("b")]).comparisons
    assert comparison.metrics["sari"].ties == 61


def test_metrics_that_one_lacks_are_left_out() -> None:
    unknown = rows()
    for row in unknown:
        row.scores["stopped"] = None
    (comparison,) = compare([write("a", rows()), write("b", unknown)]).comparisons
    assert "stopped" not in comparison.metrics and "valid" in comparison.metrics


def test_an_impossible_comparison_names_the_difference() -> None:
    write("a", rows())
    write("fewer", rows()[:58])
    lost = json.dumps(CORPUS[58]["question"], ensure_ascii=False)
    with pytest.raises(UserError) as caught:
        compare([Path("a"), Path("fewer")])
    assert str(caught.value).startswith("fewer lacks 2 of the 60 questions of a, such as ") and lost[:20] in str(
        caught.value
    )
    with pytest.raises(UserError, match=r"^fewer lacks 2 of the 60 questions of a"):
        compare([Path("fewer"), Path("a")])

    other_gold = rows()
    other_gold[3] = other_gold[3].model_copy(update={"gold": ["x"]})
    with pytest.raises(UserError, match=r"^the gold answer to .* is not the same in a and gold; evaluate both on the"):
        compare([Path("a"), write("gold", other_gold)])

    more = rows()
    for row in more:
        row.scores["ged"] = 0.5
    with pytest.raises(UserError, match=r"^a lacks the metrics ged of more; evaluate both with the same version and"):
        compare([Path("a"), write("more", more)])
    mixed = [*more[:5], *rows()[5:]]
    with pytest.raises(UserError, match=r"^mixed/predictions\.jsonl: row 6 has other metrics than the rows before"):
        compare([Path("a"), write("mixed", mixed)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["compare", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error.removeprefix("error: ").rstrip("\n")


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write("a", rows()[:3])
    Path("empty").mkdir()
    Path("t.jsonl").write_text('{"question": "x"}\n', encoding="utf-8")
    Path("s.jsonl").write_text('{"question": "x", "gold": [], "scores": {"sari": "1"}}\n', encoding="utf-8")
    assert refused(capsys, "a") == "a alone cannot be compared; give another evaluation after it"
    assert refused(capsys, "a", "nope").startswith("nope: there is no such folder or file; give a run directory or")
    assert refused(capsys, "a", "empty") == "empty: predictions.jsonl is missing; write it with qdsft evaluate"
    assert refused(capsys, "a", "t.jsonl").startswith("t.jsonl:1: no row of a predictions.jsonl with question, gold")
    assert refused(capsys, "a", "s.jsonl") == 's.jsonl:1: scores: sari must be a number, not "1"'
    assert refused(capsys, "a", "a", "--output", "t.jsonl") == "t.jsonl exists; delete it or choose another name"


def test_the_command_prints_a_table_json_and_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = rows(drop_last), rows()
    for found in (first, second):
        found[0] = found[0].model_copy(update={"question": "<script>alert(1)</script>?"})
    write("a", first), write("b", second)
    assert main(["compare", "a", "b", "a", "--output", "new/c.html"]) == 0
    out, err = capsys.readouterr()
    assert err == "page: new/c.html\n"
    lines = out.splitlines()
    assert lines[:2] == ["first: a, 60 rows", "second: b"]
    (exact,) = [line for line in lines if line.startswith("exact match  ") and line.endswith("*")]
    assert exact.split()[2:5] == ["0.500", "1.000", "+0.500"]
    assert "exact match gained by b: 30 rows" in lines and "exact match lost by a: 0 rows" in lines
    assert "  and 20 more; --json and --output have all" in lines
    page = Path("new/c.html").read_text(encoding="utf-8")
    assert page.count("<li ") == 30 and "<script" not in page and "&lt;script&gt;" in page
    assert "http" not in page.replace("<!doctype html>", "")

    assert main(["compare", "--json", "a", "b"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(compare([Path("a"), Path("b")]).to_json()))
