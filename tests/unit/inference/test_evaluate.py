"""Results of an earlier evaluation beside those of a new one. tests/integration/test_evaluate.py evaluates runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdsft.inference.evaluate import _earlier
from qdsft.metrics.model_metrics import ModelMetrics
from qdsft.runs.results import to_json

NEW = {"tuned": ModelMetrics(4, {"sari": 0.5})}
BASELINE = ModelMetrics(4, {"sari": 0.25})
IDENTITIES = {"tuned": "t", "constrained": "c", "baseline": "b"}

Capture = pytest.CaptureFixture[str]


def write(folder: Path, results: dict[str, ModelMetrics], identities: dict[str, str]) -> None:
    content = {**to_json(results), "identities": identities}
    (folder / "metrics.json").write_text(json.dumps(content), encoding="utf-8")


def test_without_an_earlier_evaluation_nothing_is_kept(tmp_path: Path, capsys: Capture) -> None:
    assert _earlier(tmp_path, IDENTITIES, NEW) == {} and capsys.readouterr().err == ""


def test_other_models_on_the_same_rows_and_weights_are_kept(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path, {"tuned": BASELINE, "baseline": BASELINE}, IDENTITIES)
    assert _earlier(tmp_path, IDENTITIES, NEW) == {"baseline": BASELINE} and capsys.readouterr().err == ""


def test_results_of_other_rows_are_discarded_and_named(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path, {"baseline": BASELINE}, {"baseline": "another"})
    assert _earlier(tmp_path, IDENTITIES, NEW) == {}
    expected = "the results of baseline are of other rows or weights and are discarded; add --baseline for new ones\n"
    assert capsys.readouterr().err == expected


def test_metrics_that_an_option_adds_are_named_when_they_are_lost(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path, {"tuned": ModelMetrics(4, {"sari": 0.5, "ged": 0.1, "normalized_exact_match": 0.5})}, IDENTITIES)
    assert _earlier(tmp_path, IDENTITIES, NEW) == {}
    expected = "tuned: ged, normalized_exact_match of an earlier evaluation are discarded; add --break-metrics\n"
    assert capsys.readouterr().err == expected


def test_retrieval_metrics_of_another_corpus_are_discarded(tmp_path: Path, capsys: Capture) -> None:
    before = ModelMetrics(4, {"sari": 0.5, "retrieval_recall": 0.5}, {"retrieval_recall": (0.0, 1.0)})
    write(tmp_path, {"baseline": before}, IDENTITIES)
    assert _earlier(tmp_path, IDENTITIES, NEW, None) == {"baseline": before}
    assert _earlier(tmp_path, IDENTITIES, NEW, {"sha256": "x"}) == {"baseline": ModelMetrics(4, {"sari": 0.5})}
    error = capsys.readouterr().err
    assert error.startswith("the retrieval metrics of baseline are of another corpus and are discarded")


@pytest.mark.parametrize("content", ["{", "[]", '{"tuned": 3}', '{"other": 1}'])
def test_a_damaged_file_is_named_and_replaced(tmp_path: Path, content: str, capsys: Capture) -> None:
    (tmp_path / "metrics.json").write_text(content, encoding="utf-8")
    assert _earlier(tmp_path, IDENTITIES, NEW) == {}
    error = capsys.readouterr().err
    assert error.startswith(f"{tmp_path / 'metrics.json'}: ") and error.endswith("; it is replaced now\n")
    assert error.count("\n") == 1
