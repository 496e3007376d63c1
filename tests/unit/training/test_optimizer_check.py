"""An optimizer or schedule that cannot be built is refused before data and weights are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT

from qdsft.errors import UserError
from qdsft.model.device import Machine
from qdsft.recipe import load_recipe
from qdsft.training import optimizer_check
from qdsft.training.build import build_arguments
from qdsft.training.optimizer_check import check_offload, check_optimizer

CPU = Machine("cpu", "CPU", torch.float32)


def check(tmp_path: Path, *overrides: str) -> None:
    places = [f"training.output_dir={tmp_path / 'run'}", "training.report_to=none"]
    recipe = load_recipe(ROOT / "recipes/tiny/full.yaml", [*places, *overrides])
    check_optimizer(recipe, build_arguments(recipe, CPU))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.optim=galore_adamw"], r"training\.optim: galore_adamw is refused: .*galore_torch"),
        (["training.optim=adamw_torch_xla"], "failed to import syncfree AdamW"),
        (["training.optim=schedule_free_adamw"], "schedulefree"),
        (["training.optim=sgd", "training.optim_args=momentum=high"], r"training\.optim_args: .*could not convert"),
        (["training.optim=sgd", "training.optim_args=nesterov=true"], "Nesterov momentum requires"),
        (["training.optim=ademamix", "training.optim_args=t_alpha=1.5"], "invalid literal for int"),
        (["training.lr_scheduler_type=warmup_stable_decay"], r"training\.lr_scheduler_type: .*num_decay_steps"),
        (["training.lr_scheduler_type=cosine_with_min_lr"], "One of min_lr or min_lr_rate should be set"),
        (
            [
                "training.lr_scheduler_type=warmup_stable_decay",
                "training.lr_scheduler_kwargs={num_decay_steps: 2, decay_type: fast}",
            ],
            "Unknown decay type: fast",
        ),
    ],
)
def test_optimizers_that_cannot_be_built_are_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(tmp_path, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.optim=adamw_torch_fused"],
        ["training.optim=paged_adamw_8bit"],
        ["training.optim=adafactor"],
        ["training.optim=sgd", "training.optim_args=momentum=0.9,nesterov=true"],
        ["training.lr_scheduler_type=cosine_with_min_lr", "training.lr_scheduler_kwargs={min_lr: 1e-6}"],
        ["training.lr_scheduler_type=warmup_stable_decay", "training.lr_scheduler_kwargs={num_decay_steps: 2}"],
    ],
)
def test_optimizers_that_can_be_built_are_accepted(tmp_path: Path, overrides: list[str]) -> None:
    check(tmp_path, *overrides)


@pytest.mark.parametrize("optim", ["adamw_8bit", "paged_adamw_32bit", "sgd", "lion_32bit"])
def test_an_optimizer_that_deepspeed_would_exchange_is_refused(
    optim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    check(tmp_path, f"training.optim={optim}")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu")
    with pytest.raises(UserError, match=rf"{optim} cannot keep its states in main memory.*optim=adamw_torch"):
        check(tmp_path, f"training.optim={optim}")
    check(tmp_path, "training.optim=adamw_torch_fused")


def test_an_optimizer_in_main_memory_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_check, "missing_build_tools", lambda: ["g++", "ninja"])
    check_offload()
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    check_offload()
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu")
    with pytest.raises(UserError, match=r"g\+\+, ninja is missing; .*apt-get install g\+\+.*zero3\.yaml"):
        check_offload()
    monkeypatch.setattr(optimizer_check, "missing_build_tools", list)
    check_offload()
