"""Training stops at the first step that is not finite, and keeps what was good before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_recipe import MakeRecipe, recipe_maker
from helpers.tiny_trainer import make_trainer
from safetensors.torch import load_file, save_file

from qdsft.errors import UserError
from qdsft.runs.checkpoints import complete_checkpoints
from qdsft.runs.manifest import read_manifest
from qdsft.training.non_finite import FLOAT16_SKIPS, NonFiniteStop
from qdsft.training.train import train

NAN, INF = float("nan"), float("inf")
SAVES = ("training.save_strategy=steps", "training.save_steps=1", "training.packing=false", "training.logging_steps=1")


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def fake_trainer(*, fp16: bool = False, step: int = 4) -> Any:
    arguments = SimpleNamespace(fp16=fp16, world_size=1, output_dir="none", learning_rate=0.5)
    return SimpleNamespace(args=arguments, state=SimpleNamespace(global_step=step))


@pytest.mark.parametrize(
    ("losses", "norm", "found"),
    [
        ([1.0, NAN], 1.0, "step 5: the loss is nan"),
        ([INF, -INF], 1.0, "step 5: the loss is nan"),
        ([1.0], INF, "step 5: the gradient norm is inf"),
        ([1.0], torch.tensor(NAN), "step 5: the gradient norm is nan"),
    ],
)
def test_the_first_one_stops(losses: list[float], norm: Any, found: str) -> None:
    watch, trainer = NonFiniteStop(), fake_trainer()
    watch.add_loss(torch.tensor(2.0))
    watch.check_step(trainer, 1.0)
    for loss in losses:
        watch.add_loss(torch.tensor(loss))
    with pytest.raises(UserError, match=found) as caught:
        watch.check_step(trainer, norm)
    assert "try a lower training.learning_rate (now 0.5)" in str(caught.value)


def test_float16_may_skip_steps_in_a_row_and_no_more() -> None:
    watch, trainer = NonFiniteStop(), fake_trainer(fp16=True)
    for _ in range(FLOAT16_SKIPS):
        watch.check_step(trainer, INF)
    watch.check_step(trainer, 1.0)  # a good step: counted from the start again
    for _ in range(FLOAT16_SKIPS):
        watch.check_step(trainer, INF)
    with pytest.raises(UserError, match=f"and {FLOAT16_SKIPS} steps before it were skipped"):
        watch.check_step(trainer, INF)


def test_a_learning_rate_without_measure_ends_with_the_last_good_checkpoint(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(*SAVES, "training.learning_rate=1e300", "training.warmup_steps=1", "training.max_steps=9")
    with pytest.raises(UserError, match=r"step \d: .*; try a lower training.learning_rate \(now 1e\+300\)") as caught:
        train(recipe)
    complete, _ = complete_checkpoints(recipe.run_dir)
    assert complete and f"{complete[-1]} is the last good checkpoint" in str(caught.value)
    for path in complete:
        assert all(torch.isfinite(tensor).all() for tensor in load_file(path / "adapter_model.safetensors").values())
    assert read_manifest(recipe.run_dir).state == "running" and not (recipe.run_dir / "adapter").exists()


def test_a_weight_that_is_not_finite_is_never_saved(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("training.packing=false")
    recipe.run_dir.mkdir()
    trainer = make_trainer(recipe)
    next(weight for weight in trainer.model.parameters() if weight.requires_grad).data.fill_(NAN)
    with pytest.raises(UserError, match="holds NaN or infinity; try a lower"):
        trainer._save_checkpoint(trainer.model, None)
    assert not list(recipe.run_dir.iterdir())


Tensors = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: {name.replace("layers.0", "layers.9"): value for name, value in t.items()}, "missing"),
        (lambda t: t | {"extra": torch.ones(1)}, "extra is in the files and not in the model"),
        (lambda t: {name: value[1:].clone() for name, value in t.items()}, "has the shape"),
    ],
)
def test_a_damaged_checkpoint_is_not_resumed_from(
    make_recipe: MakeRecipe, damage: Callable[[Tensors], Tensors], message: str
) -> None:
    recipe = make_recipe(*SAVES, "training.max_steps=2")
    train(recipe)
    manifest = read_manifest(recipe.run_dir)
    manifest.state = "running"
    (recipe.run_dir / "run.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    path = complete_checkpoints(recipe.run_dir)[0][-1] / "adapter_model.safetensors"
    save_file(damage(load_file(path)), path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=message):
        train(recipe, resume=True)
