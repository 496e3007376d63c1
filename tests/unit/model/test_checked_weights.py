"""Weights that are missing, left over, of another model, not finite or zero are refused by every load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_run import make_run
from safetensors.torch import load_file, save_file

from qdsft.deploy.merge_weights import Merge
from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_run
from qdsft.inference.side_by_side import load_beside
from qdsft.model import checked_weights
from qdsft.model.device import Machine
from qdsft.model.loading import load_config, load_model
from qdsft.recipe import Recipe
from qdsft.runs.manifest import read_manifest

TINY = Callable[[str], Path]
Tensors = dict[str, torch.Tensor]
Damage = Callable[[Tensors], Tensors]
CPU = Machine("cpu", "CPU", torch.float32)


def change(path: Path, damage: Damage) -> None:
    changed = {name: tensor.clone() for name, tensor in damage(load_file(path)).items()}
    save_file(changed, path, metadata={"format": "pt"})


def first(tensors: Tensors, part: str) -> str:
    return next(name for name in sorted(tensors) if part in name)


def filled(part: str, value: float, everywhere: bool = False) -> Damage:
    """Return a damage that fills the first tensor, or every tensor, whose name has `part`."""

    def damage(tensors: Tensors) -> Tensors:
        names = [name for name in sorted(tensors) if part in name]
        for name in names if everywhere else names[:1]:
            tensors[name] = torch.full_like(tensors[name], value)
        return tensors

    return damage


def without(part: str) -> Damage:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != first(tensors, part)}


def renamed(old: str, new: str) -> Damage:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


ADAPTER_FAULTS: dict[str, tuple[Damage, str]] = {
    "renamed keys": (renamed("base_model.model.", "other.model."), "missing"),
    "one renamed key": (
        lambda t: {n.replace("layers.0.mlp.up", "layers.0.mlp.op"): v for n, v in t.items()},
        "missing",
    ),
    "no tensors": (lambda _: {}, "missing|no tensors"),
    "one missing": (without("layers.1.self_attn.q_proj.lora_B"), "missing"),
    "of a deeper model": (lambda t: t | renamed("layers.0", "layers.77")(t), "in the files and not in the model"),
    "of a wider model": (
        lambda t: {n: torch.cat([v, v], 1 if "lora_A" in n else 0) for n, v in t.items()},
        "cannot be loaded|another shape",
    ),
    "NaN": (filled("lora_A", float("nan")), "holds NaN or infinity"),
    "infinity": (filled("lora_B", float("inf")), "holds NaN or infinity"),
    "never trained": (filled("lora_B", 0.0, everywhere=True), "every LoRA B matrix is zero"),
}


@pytest.fixture(scope="module")
def adapter(tiny_model: TINY, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    return make_run(folder / "run", tiny_model("llama"), "tiny/full", "lora.r=4", lora_scale=0.1)


@pytest.mark.parametrize("fault", ADAPTER_FAULTS)
def test_a_damaged_adapter_never_answers_as_the_base_model(adapter: Path, tmp_path: Path, fault: str) -> None:
    damage, message = ADAPTER_FAULTS[fault]
    bad = Path(shutil.copytree(adapter, tmp_path / "bad"))
    change(bad / "adapter" / "adapter_model.safetensors", damage)
    with pytest.raises(UserError, match=message):
        load_run(bad)
    run = load_run(adapter)
    with pytest.raises(UserError, match=message):
        load_beside(run, "other", bad)
    assert list(run.model.peft_config) == ["default"], "the good adapter stays alone"
    config = load_config(read_manifest(bad).load_recipe())
    with pytest.raises(UserError, match=f"{message}|is missing or unknown"):
        Merge(bad / "adapter", config)


def test_an_adapter_for_fewer_modules_is_refused(adapter: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(adapter, tmp_path / "bad"))
    path = bad / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"target_modules": ["q_proj"]}), encoding="utf-8")
    with pytest.raises(UserError, match="in the files and not in the model"):
        load_run(bad)


MODEL_FAULTS: dict[str, tuple[Damage, str]] = {
    "a tensor missing": (without("layers.1.mlp.down_proj"), "missing"),
    "the embedding missing": (without("embed"), "missing"),
    "a norm missing": (without("norm"), "missing"),
    "renamed": (renamed("layers.0.", "layers.7."), "missing"),
    "a deeper model": (lambda t: t | renamed("layers.0.", "layers.7.")(t), "in the files and not in the model"),
    "a bias that the config denies": (
        lambda t: t | {"model.layers.0.self_attn.q_proj.bias": torch.ones(t[first(t, "q_proj")].shape[0])},
        "in the files and not in the model",
    ),
    "another shape": (lambda t: t | {first(t, "up_proj"): t[first(t, "up_proj")][:-2].clone()}, "cannot be loaded"),
    "NaN": (filled("down_proj", float("nan")), "holds NaN or infinity"),
    "NaN in a norm": (filled("norm", float("nan")), "holds NaN or infinity"),
    "a hole of zeros": (filled("gate_proj", 0.0), "nothing but zeros"),
}


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_a_damaged_model_is_neither_trained_nor_asked(
    tiny_model: TINY, tmp_path: Path, fault: str, trainable: bool
) -> None:
    damage, message = MODEL_FAULTS[fault]
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    change(run_dir / "model" / "model.safetensors", damage)
    with pytest.raises(UserError, match=message):
        load_run(run_dir)
    with pytest.raises(UserError, match=message):
        load_model(own(run_dir), CPU, trainable=trainable)


def own(run_dir: Path) -> Recipe:
    recipe = read_manifest(run_dir).load_recipe()
    section = recipe.model.model_copy(update={"name_or_path": str(run_dir / "model")})
    return recipe.model_copy(update={"model": section})


def test_a_quantized_model_of_nan_is_refused(tiny_model: TINY, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    change(run_dir / "model" / "model.safetensors", filled("down_proj", float("nan")))
    for nested in (False, True):
        values = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": nested}
        recipe = own(run_dir).model_copy(update={"quantization": values})
        with pytest.raises(UserError, match="holds NaN or infinity"):
            load_model(recipe, CPU, trainable=False)


def test_tensors_of_a_tower_that_is_not_loaded_are_reported(
    tiny_model: TINY, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    change(run_dir / "model" / "model.safetensors", lambda t: t | {"vision_tower.conv.weight": torch.ones(2, 2)})
    load_run(run_dir)
    assert "1 tensors of modules that this model does not have are not used (vision_tower." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "finite", "zero"),
    [
        ([0.0, 0.0], True, True),
        ([0.0, 1e30], True, False),
        ([float("nan"), 0.0], False, False),
        ([-float("inf"), 1.0], False, False),
        ([], True, False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values(values: list[float], finite: bool, zero: bool, dtype: torch.dtype) -> None:
    tensor: Any = torch.tensor(values, dtype=dtype)
    assert (checked_weights.is_finite(tensor), checked_weights.is_zero(tensor)) == (finite, zero)
