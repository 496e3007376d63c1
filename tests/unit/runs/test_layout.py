"""Which names in a run directory are qdsft's own: only those are ever deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdsft.runs.layout import answer_log_path, decoded_log_path, decoded_log_paths, is_own_name, predictions_file

WRITTEN = """
run.json log.jsonl loss.png eval.jsonl metrics.json predictions.jsonl predictions_baseline.jsonl
predictions_constrained.jsonl report.html README.md adapter model checkpoint-12 .checkpoint-12.old .saving trial-save
.writable .predictions_tuned.0.partial.jsonl .run.json.123.tmp .adapter.tmp initial_adapter runs
"""


def test_every_name_that_is_written_is_known() -> None:
    assert [name for name in WRITTEN.split() if not is_own_name(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        *("notes.txt", "Model", "model2", "checkpoint-", "checkpoint-1a", "checkpoint-1.bak", "run.json.bak"),
        *("xrun.json", "predictions_.txt", ".tmp", "data.jsonl", "adapter/x", "README.md\n", "run_json", ""),
    ],
)
def test_no_other_name_is(name: str) -> None:
    assert not is_own_name(name)


def test_logs_are_own_names(tmp_path: Path) -> None:
    path = decoded_log_path(tmp_path, "tuned", 3)
    path.touch()
    assert is_own_name(path.name) and decoded_log_paths(tmp_path, "tuned") == [path]
    assert is_own_name(predictions_file("tuned")) and is_own_name(predictions_file("baseline"))
    assert answer_log_path(tmp_path / "out.jsonl").name == ".out.jsonl.answers"
