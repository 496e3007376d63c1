"""The results of a run read back, and damaged or foreign files refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.manifests import RECIPE, manifest_of

from qdsft.data.prediction import PredictedSteps
from qdsft.errors import UserError
from qdsft.metrics.model_metrics import Decoding, GroupMetrics, ModelMetrics
from qdsft.metrics.prediction_rows import json_lines, prediction_row
from qdsft.recipe import load_recipe
from qdsft.runs.results import (
    MetricsFile,
    brief_metrics,
    method,
    parse_results,
    read_example,
    read_metrics,
    read_metrics_file,
    to_json,
    tuned_numbers,
)

TUNED = ModelMetrics(
    samples=4,
    means={"sari": 0.75, "own_metric": 1.0},
    intervals={"sari": (0.5, 1.0)},
    groups={"language": {"ko": GroupMetrics(4, {"sari": 0.75})}, "steps": {"2": GroupMetrics(4)}},
    decoding=Decoding(0.5, 1.0, 10, 10.0),
)


def write(folder: Path, content: object) -> None:
    (folder / "metrics.json").write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def test_metrics_are_read_back(tmp_path: Path) -> None:
    assert read_metrics_file(tmp_path) == MetricsFile() and tuned_numbers(tmp_path) == {}
    results = {"tuned": TUNED, "baseline": ModelMetrics(4, {"sari": 0.25})}
    write(tmp_path, {**to_json(results), "versions": {}, "device": "CPU", "identities": {"tuned": "a"}})
    assert read_metrics_file(tmp_path) == MetricsFile(results, {"tuned": "a"})
    assert list(read_metrics(tmp_path)) == ["tuned", "baseline"]
    assert tuned_numbers(tmp_path)["sari"] == 0.75 and tuned_numbers(tmp_path)["samples"] == 4


def test_a_card_has_known_metrics_and_the_languages(tmp_path: Path) -> None:
    write(tmp_path, to_json({"tuned": TUNED}))
    brief = brief_metrics(tmp_path)["tuned"]
    assert brief.means == {"sari": 0.75} and brief.decoding == TUNED.decoding
    assert to_json({"tuned": brief})["tuned"].keys().isdisjoint({"intervals", "own_metric"})
    assert brief.groups == {"language": {"ko": GroupMetrics(4)}}
    assert parse_results(to_json({"tuned": brief}), "merge.json") == {"tuned": brief}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", ": not valid JSON; delete it and evaluate again"),
        ("[" * 100_000, ": not valid JSON; delete it and evaluate again"),
        ([1], ": not a JSON object; evaluate again"),
        ({"accuracy": 0.5}, ": not a file of qdsft evaluate; move it away and evaluate again"),
        ({"tuned": None}, ": tuned: 'None' is not an object; evaluate again"),
        ({"tuned": {"samples": 1, "sari": "x"}}, ": tuned: sari is not a number; evaluate again"),
        ({"tuned": {"samples": 1}, "identities": 3}, ": identities is not an object; evaluate again"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_line(
    tmp_path: Path, content: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, content)
    expected = f"{tmp_path / 'metrics.json'}{message}"
    for read in (read_metrics, brief_metrics):
        with pytest.raises(UserError) as caught:
            read(tmp_path)
        assert str(caught.value) == expected
    assert tuned_numbers(tmp_path) == {}
    assert capsys.readouterr().err == f"{expected}\n"


def test_a_metrics_file_that_is_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(UserError, match=r"metrics\.json: Is a directory; make it readable, or delete it"):
        read_metrics(tmp_path)


def test_the_example_is_the_first_right_answer(tmp_path: Path) -> None:
    assert read_example(tmp_path) is None
    rows = [
        prediction_row(PredictedSteps.parse(f"q{n}?", ["a"], text, True))
        for n, text in enumerate(["1. b", "1. a", "1. a"])
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text(json_lines(rows[:1]), encoding="utf-8")
    assert read_example(tmp_path) is None
    path.write_text(json_lines(rows), encoding="utf-8")
    assert read_example(tmp_path) == {"question": "q1?", "sub_questions": ["a"]}
    path.write_text(json_lines(rows[:1]) + '{"question": "q"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"predictions\.jsonl:2: no row of a predictions\.jsonl with question, gold"):
        read_example(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "full fine-tuning"),
        (["lora={}"], "LoRA, rank 8"),
        (["lora.r=4", "quantization.load_in_4bit=true"], "QLoRA, rank 4"),
    ],
)
def test_the_method_in_words(tmp_path: Path, overrides: list[str], words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    assert method(manifest_of(load_recipe(path, overrides))) == words
