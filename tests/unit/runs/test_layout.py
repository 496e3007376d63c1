"""Which names in a run directory are qdsft's own: only those are ever deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdsft.runs.layout import (
    answer_log_path,
    decoded_log_path,
    decoded_log_paths,
    foreign_files,
    is_own_name,
    predictions_file,
)

WRITTEN = """
run.json log.jsonl loss.png eval.jsonl metrics.json predictions.jsonl predictions_baseline.jsonl
predictions_constrained.jsonl report.html README.md adapter model checkpoint-12 .checkpoint-12.old .saving trial-save
.writable .predictions_tuned.0.partial.jsonl .run.json.123.tmp .adapter.tmp initial_adapter runs merged
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


INSIDE = """
checkpoint-4/global_step4/mp_rank_00_model_states.pt checkpoint-4/latest checkpoint-4/zero_to_fp32.py
checkpoint-4/zero_to_torch.py checkpoint-4/rng_state_0.pth checkpoint-4/run.sha256 checkpoint-4/training_args.bin
checkpoint-4/pytorch_model_fsdp_0/.metadata checkpoint-4/pytorch_model_fsdp_0/__0_0.distcp checkpoint-4/README.md
model/model-00001-of-00002.safetensors model/model.safetensors.index.json model/tokenizer.model model/merges.txt
model/modeling_x.py model/chat_template.jinja runs/Nov28_pod/events.out.tfevents.1.pod.2.0 merged/merge.json run.json
"""


def test_files_inside_a_run_are_known_and_others_are_listed(tmp_path: Path) -> None:
    others = ["checkpoint-4/global_step4/notes.pdf", "data", "model/a b.json", "model/plot.png", "runs/run.py"]
    for name in [*INSIDE.split(), *others[:1], "data/x.json", *others[2:]]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert foreign_files(tmp_path) == others


def test_logs_are_own_names(tmp_path: Path) -> None:
    path = decoded_log_path(tmp_path, "tuned", 3)
    path.touch()
    assert is_own_name(path.name) and decoded_log_paths(tmp_path, "tuned") == [path]
    assert is_own_name(predictions_file("tuned")) and is_own_name(predictions_file("baseline"))
    assert answer_log_path(tmp_path / "out.jsonl").name == ".out.jsonl.answers"
