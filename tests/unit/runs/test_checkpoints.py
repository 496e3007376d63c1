"""Which checkpoints count, and what becomes of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdsft.hashing import json_sha256
from qdsft.runs.checkpoints import (
    RUN_DIGEST,
    SAVING,
    complete_checkpoints,
    is_of_run,
    remove_checkpoint,
    remove_leftovers,
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


WHOLE = {"trainer_state.json": "", "optimizer.pt": "x", "scheduler.pt": "x", "model.safetensors": "x"}


def checkpoint(step: str, files: dict[str, str]) -> Path:
    folder = Path("run") / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name, text in files.items():
        state = f'{{"global_step": {step}, "max_steps": 100}}'
        (folder / name).write_text(text or state, encoding="utf-8")
    return folder


def test_checkpoints_are_listed_oldest_first_by_number() -> None:
    folders = [checkpoint(step, WHOLE) for step in ("20", "100", "3")]
    assert complete_checkpoints(Path("run")) == ([folders[2], folders[0], folders[1]], [])
    assert complete_checkpoints(Path("none")) == ([], [])


@pytest.mark.parametrize("missing", ["trainer_state.json", "optimizer.pt", "scheduler.pt", "model.safetensors"])
def test_a_checkpoint_without_one_of_its_files_is_incomplete(missing: str) -> None:
    good = checkpoint("5", WHOLE)
    bad = checkpoint("10", {name: text for name, text in WHOLE.items() if name != missing})
    assert complete_checkpoints(Path("run")) == ([good], [bad])


@pytest.mark.parametrize("state", [" ", '{"global_step": 10, "log_his', "\0" * 100])
def test_a_checkpoint_with_half_a_state_is_incomplete(state: str) -> None:
    bad = checkpoint("10", {**WHOLE, "trainer_state.json": state})
    assert complete_checkpoints(Path("run")) == ([], [bad])


@pytest.mark.parametrize(
    "change",
    [
        {"global_step": "10"},
        {"global_step": 99},
        {"global_step": None},
        {"max_steps": -1},
        {"epoch": []},
        {"log_history": 3},
        {"log_history": [3]},
        {"best_model_checkpoint": 1},
        {"stateful_callbacks": []},
    ],
)
def test_a_state_of_other_types_or_of_another_step_is_not_used(change: dict[str, object]) -> None:
    state = {"global_step": 10, "max_steps": 100, "a_later_key": 1, **change}
    bad = checkpoint("10", {**WHOLE, "trainer_state.json": json.dumps(state)})
    assert complete_checkpoints(Path("run")) == ([], [bad])


def test_deepspeed_keeps_the_optimizer_in_a_folder_of_its_own() -> None:
    folder = checkpoint("10", {"trainer_state.json": ""})
    assert complete_checkpoints(Path("run")) == ([], [folder])
    (folder / "global_step10").mkdir()
    assert complete_checkpoints(Path("run")) == ([folder], [])


@pytest.mark.parametrize("step", ["5-backup", "best", "²", "", "5.tmp"])
def test_folders_that_only_look_like_checkpoints_are_left_alone(step: str) -> None:
    checkpoint(step, WHOLE)
    assert complete_checkpoints(Path("run")) == ([], [])


def test_a_file_named_like_a_checkpoint_is_incomplete() -> None:
    Path("run").mkdir()
    Path("run/checkpoint-5").touch()
    assert complete_checkpoints(Path("run")) == ([], [Path("run/checkpoint-5")])


def test_a_checkpoint_says_which_run_it_is_of() -> None:
    folder = checkpoint("5", WHOLE)
    assert not is_of_run(folder, json_sha256({"seed": 1}))
    (folder / RUN_DIGEST).write_text(json_sha256({"seed": 1}), encoding="utf-8")
    assert is_of_run(folder, json_sha256({"seed": 1})) and not is_of_run(folder, json_sha256({"seed": 2}))
    (folder / RUN_DIGEST).write_bytes(b"\xff")
    assert not is_of_run(folder, json_sha256({"seed": 1}))


def test_incomplete_checkpoints_are_removed_and_named() -> None:
    kept = checkpoint("5", WHOLE)
    (Path("run") / SAVING / "checkpoint-10").mkdir(parents=True)
    (Path("run") / ".checkpoint-3.old").mkdir()
    assert remove_leftovers(Path("run")) == ["checkpoint-10"]
    assert list(Path("run").iterdir()) == [kept]
    assert remove_leftovers(Path("run")) == []
    remove_checkpoint(kept)
    assert list(Path("run").iterdir()) == []
