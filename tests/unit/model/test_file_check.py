"""The files of a run that another program loads are refused as a load would refuse them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.tiny_run import make_run
from safetensors.torch import load_file, save_file

from qdsft.errors import UserError
from qdsft.inference.loaded_run import check_weight_files, load_prompts

TINY = Callable[[str], Path]
Tensors = dict[str, torch.Tensor]
NAN = float("nan")
ARCHITECTURES = ("llama", "mistral", "gpt_neox", "gemma3_text", "qwen3")


def weights(run: Path) -> Path:
    (path,) = run.glob("*/*.safetensors")
    return path


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_good_files_pass(tiny_model: TINY, tmp_path: Path, architecture: str, adapter: bool) -> None:
    overrides = ["lora.r=4"] if adapter else []
    run = make_run(tmp_path / "run", tiny_model(architecture), "tiny/full", *overrides, lora_scale=0.1 * adapter)
    check_weight_files(load_prompts(run))


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: {name: tensor for name, tensor in t.items() if "layers.1.mlp.up" not in name}, "missing"),
        (lambda t: t | {next(iter(t)).replace("layers.0", "layers.7") + ".more": torch.ones(3, 3)}, "in the files"),
        (lambda t: {name.replace("layers.0", "layers.7"): tensor for name, tensor in t.items()}, "missing"),
        (lambda t: {name: torch.cat([tensor, tensor]) for name, tensor in t.items()}, "has the shape"),
        (lambda t: {name: torch.full_like(tensor, NAN) for name, tensor in t.items()}, "holds NaN or infinity"),
        (lambda t: {name: torch.zeros_like(tensor) for name, tensor in t.items()}, "zero"),
        (lambda t: {}, "missing|no tensors"),
    ],
)
def test_bad_files_are_refused(
    tiny_model: TINY, tmp_path: Path, damage: Callable[[Tensors], Tensors], message: str, adapter: bool
) -> None:
    overrides = ["lora.r=4"] if adapter else []
    run = make_run(tmp_path / "run", tiny_model("llama"), "tiny/full", *overrides, lora_scale=0.1 * adapter)
    path = weights(run)
    save_file(damage(load_file(path)), path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=message):
        check_weight_files(load_prompts(run))
