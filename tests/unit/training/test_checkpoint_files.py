"""A damaged file of a checkpoint is found before training resumes from it, and no file runs code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import write_checkpoint, write_deepspeed_checkpoint
from safetensors.torch import save_file

from qdsft.errors import UserError
from qdsft.training.checkpoint_files import checkpoint_errors, checkpoint_fault

PICKLE = b"cposix\nsystem\n(S'touch executed'\ntR."
FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors", "adapter_config.json")


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_whole_checkpoint_has_no_fault(tmp_path: Path) -> None:
    assert checkpoint_fault(write_checkpoint(tmp_path, 2, ""), 1) is None
    assert checkpoint_fault(write_checkpoint(tmp_path, 4, "", processes=2), 2) is None
    assert checkpoint_fault(write_deepspeed_checkpoint(tmp_path, 6, ""), 1) is None


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", [b"", b"\0" * 999, b"PK\x03\x04", PICKLE, b"version https://git-lfs"])
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    folder = write_checkpoint(tmp_path, 2, "")
    (folder / file).write_bytes(content)
    assert (checkpoint_fault(folder, 1) or "").startswith(file)


@pytest.mark.parametrize("file", FILES[:4])
def test_a_cut_file_is_named(tmp_path: Path, file: str) -> None:
    folder = write_checkpoint(tmp_path, 2, "")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-10])
    assert (checkpoint_fault(folder, 1) or "").startswith(file)


@pytest.mark.parametrize("file", FILES[:3])
def test_a_hole_in_the_values_is_found(tmp_path: Path, file: str) -> None:
    folder = write_checkpoint(tmp_path, 2, "")
    content = bytearray((folder / file).read_bytes())
    middle = content.index(b"data.pkl") + 20
    content[middle : middle + 30] = bytes(30)
    (folder / file).write_bytes(content)
    assert (checkpoint_fault(folder, 1) or "").startswith(file)


def test_values_that_no_run_has(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 2, "")
    save_file({"lora_B": torch.full((2, 2), torch.nan)}, folder / "adapter_model.safetensors")
    assert "NaN or infinity" in (checkpoint_fault(folder, 1) or "")
    save_file({}, folder / "adapter_model.safetensors")
    assert "no weights" in (checkpoint_fault(folder, 1) or "")
    torch.save([], folder / "optimizer.pt")
    assert checkpoint_fault(folder, 1) == "optimizer.pt holds no state"


def test_each_process_needs_its_random_state(tmp_path: Path) -> None:
    assert checkpoint_fault(write_checkpoint(tmp_path, 2, ""), 2) == "rng_state_0.pth is missing"
    folder = write_checkpoint(tmp_path, 4, "", processes=2)
    (folder / "rng_state_1.pth").unlink()
    assert checkpoint_fault(folder, 2) == "rng_state_1.pth is missing"


def test_no_file_runs_code(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    folder = write_checkpoint(tmp_path, 2, "")
    torch.save({"state": Runs(marker)}, folder / "optimizer.pt")
    assert (checkpoint_fault(folder, 1) or "").startswith("optimizer.pt cannot be read")
    deepspeed = write_deepspeed_checkpoint(tmp_path, 4, "")
    torch.save({"module": Runs(marker)}, deepspeed / "global_step4" / "mp_rank_00_model_states.pt")
    assert checkpoint_fault(deepspeed, 1) is None  # DeepSpeed itself runs it: docs/SECURITY.md
    assert not marker.exists()


@pytest.mark.parametrize("file", ["zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"])
@pytest.mark.parametrize("content", [b"", PICKLE, b"\0" * 99])
def test_a_damaged_file_of_deepspeed_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    folder = write_deepspeed_checkpoint(tmp_path, 4, "")
    (folder / "global_step4" / file).write_bytes(content)
    assert (checkpoint_fault(folder, 1) or "").startswith(file)


@pytest.mark.parametrize("latest", [b"", b"global_step9", b"../global_step4", b"\xff"])
def test_deepspeed_is_told_a_folder_of_the_checkpoint(tmp_path: Path, latest: bytes) -> None:
    folder = write_deepspeed_checkpoint(tmp_path, 4, "")
    (folder / "latest").write_bytes(latest)
    assert (checkpoint_fault(folder, 1) or "").startswith("latest ")


@pytest.mark.parametrize(
    "file",
    [
        "zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "zero_pp_rank_1_mp_rank_00_optim_states.pt",
        "zero_pp_rank_1_mp_rank_00_model_states.pt",
    ],
)
def test_deepspeed_needs_a_file_of_each_process(tmp_path: Path, file: str) -> None:
    folder = write_deepspeed_checkpoint(tmp_path, 4, "", processes=2, shards_weights=True)
    assert checkpoint_fault(folder, 2) is None
    (folder / "global_step4" / file).unlink()
    assert checkpoint_fault(folder, 2) == f"{file} is missing"


def test_deepspeed_needs_weights_and_with_zero_the_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    folder = write_deepspeed_checkpoint(tmp_path, 4, "")
    inside = folder / "global_step4"
    assert checkpoint_fault(folder, 1) is None
    (inside / "zero_pp_rank_0_mp_rank_00_optim_states.pt").unlink()
    assert checkpoint_fault(folder, 1) == "global_step4 has no optim_states.pt"
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "0")
    assert checkpoint_fault(folder, 1) is None
    (inside / "mp_rank_00_model_states.pt").unlink()
    assert checkpoint_fault(folder, 1) == "global_step4 has no model_states.pt"


def test_the_optimizer_of_fsdp_is_read_too(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 2, "")
    (folder / "optimizer.pt").rename(folder / "optimizer.bin")
    assert checkpoint_fault(folder, 1) is None
    (folder / "optimizer.bin").write_bytes(b"x")
    assert (checkpoint_fault(folder, 1) or "").startswith("optimizer.bin")


@pytest.mark.parametrize("error", [KeyError("state"), ValueError("groups"), RuntimeError("x"), EOFError()])
def test_what_a_library_raises_names_the_checkpoint(error: Exception) -> None:
    message = r"^run/checkpoint-2: the optimizer cannot be loaded: .+; delete it to resume"
    with pytest.raises(UserError, match=message), checkpoint_errors("run/checkpoint-2", "optimizer"):
        raise error
    with pytest.raises(UserError, match=r"^kept$"), checkpoint_errors("x", "y"):
        raise UserError("kept")
