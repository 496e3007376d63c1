"""Checkpoints of an adapter run with tiny files, as the trainer writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig
from safetensors.torch import save_file

from qdsft.runs.checkpoints import RUN_DIGEST


def trainer_state(step: int) -> str:
    """The trainer_state.json of a checkpoint."""
    return json.dumps({"global_step": step, "max_steps": 99, "epoch": 0.5, "log_history": []})


def write_checkpoint(run_dir: Path, step: int, digest: str, *, processes: int = 1) -> Path:
    """Write checkpoint-STEP of the run with this digest, and return its folder."""
    folder = run_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(trainer_state(step), encoding="utf-8")
    torch.save({"state": {0: torch.ones(8)}, "param_groups": [{"lr": 1.0}]}, folder / "optimizer.pt")
    torch.save({"last_epoch": step}, folder / "scheduler.pt")
    random = {"numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    for name in ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]:
        torch.save(random, folder / name)
    LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path="base").save_pretrained(str(folder))
    save_file({"lora_B": torch.ones(2, 2)}, folder / "adapter_model.safetensors")
    (folder / RUN_DIGEST).write_text(digest, encoding="utf-8")
    return folder


def write_deepspeed_checkpoint(
    run_dir: Path, step: int, digest: str, *, processes: int = 1, shards_weights: bool = False
) -> Path:
    """Write a checkpoint of DeepSpeed's ZeRO-2, or of ZeRO-3, which shards the weights too."""
    folder = write_checkpoint(run_dir, step, digest, processes=processes)
    for name in ("optimizer.pt", "scheduler.pt", "adapter_model.safetensors"):
        (folder / name).unlink()
    inside = folder / f"global_step{step}"
    inside.mkdir()
    for rank in range(processes):
        shard = f"zero_pp_rank_{rank}_mp_rank_00"
        torch.save({"optimizer_state_dict": {}}, inside / f"{shard}_optim_states.pt")
        torch.save({"module": {}}, inside / f"{shard if shards_weights else 'mp_rank_00'}_model_states.pt")
    (folder / "latest").write_text(inside.name, encoding="utf-8")
    return folder
