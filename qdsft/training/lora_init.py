"""Initial values of LoRA that are computed from the data (EVA) or taken out of the base model (PiSSA, OLoRA)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.eva import initialize_lora_eva_weights
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from qdsft.errors import UserError
from qdsft.files import new_directory
from qdsft.model.device import fork_rng
from qdsft.recipe import Recipe
from qdsft.recipe.lora_init_keys import changes_base
from qdsft.runs.layout import INITIAL_ADAPTER
from qdsft.strict_json import read_object
from qdsft.training.trainer import RecipeTrainer

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Tensors = dict[str, torch.Tensor]


def resumed_config(config: LoraConfig, checkpoint: Path) -> LoraConfig:
    """Return `config` for an adapter whose weights are those of a checkpoint: with its ranks, and default values."""
    if str(config.init_lora_weights).startswith(("eva", "pissa", "olora")):
        saved = read_object(checkpoint / CONFIG, "delete this checkpoint to resume from the one before it")
        config.init_lora_weights, config.eva_config = True, None
        config.rank_pattern, config.alpha_pattern = saved["rank_pattern"], saved["alpha_pattern"]
    return config


def finish_initialization(recipe: Recipe, trainer: RecipeTrainer, *, resumed: bool) -> None:
    """Compute what PEFT leaves to its caller: EVA's values, and the changes of the base model in a resumed run.

    Raises UserError if a resumed run has lost the adapter that it started from.
    """
    if (recipe.lora or {}).get("init_lora_weights") == "eva" and not resumed:
        _initialize_eva(trainer, recipe.seed)
    if changes_base(recipe):
        if resumed:
            trainer.initial_adapter = read_initial_adapter(recipe.run_dir)
            _subtract(trainer.model, trainer.initial_adapter)
        else:
            state = get_peft_model_state_dict(trainer.model)
            trainer.initial_adapter = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def write_initial_adapter(trainer: RecipeTrainer, run_dir: Path) -> None:
    """Keep the adapter that the base model was reduced by, which a resume subtracts again."""
    if trainer.initial_adapter is not None:
        with new_directory(run_dir / INITIAL_ADAPTER) as temporary:
            save_file(trainer.initial_adapter, temporary / WEIGHTS)


def read_initial_adapter(run_dir: Path) -> Tensors:
    """Return the adapter that the run started from. Raises UserError if it cannot be read."""
    path = run_dir / INITIAL_ADAPTER / WEIGHTS
    try:
        tensors: Tensors = load_file(path)
        return tensors
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: the adapter that this run started from cannot be read ({error}); put it back, or start again "
            "with --overwrite"
        ) from error


def plain_tensors(live: Mapping[str, torch.Tensor], initial: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the weights of a plain LoRA of twice the rank that does to the unchanged base model what `live` does.

    The base model was reduced by B0 A0, so that the adapter B A stands for B A - B0 A0 on the unchanged one. That is
    PEFT's own conversion (`path_initial_model_for_weight_conversion`), which however drops modules_to_save.
    """
    result = {}
    for name, tensor in live.items():
        before = initial[name].to(tensor)
        if "lora_A" in name or "lora_embedding_A" in name:
            tensor = torch.cat([tensor, before], dim=0)
        elif "lora_B" in name or "lora_embedding_B" in name:
            tensor = torch.cat([tensor, -before], dim=1)
        result[name] = tensor.detach().contiguous()
    return result


def write_plain_lora(folder: Path, tensors: Tensors | None) -> None:
    """Rewrite a saved adapter so that every program reads it as plain LoRA; `tensors` as `plain_tensors` returns them.

    The initial values have served, and a program that computed them again would change the base model.
    """
    path = folder / CONFIG
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config["init_lora_weights"], str):
        config |= {"init_lora_weights": True, "eva_config": None}
    if tensors is not None:
        config["r"] *= 2
        config["lora_alpha"] *= 2**0.5 if config["use_rslora"] else 2
        for key in ("rank_pattern", "alpha_pattern"):
            config[key] = {name: 2 * value for name, value in config[key].items()}
        save_file({name: tensor.cpu() for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
    path.write_text(json.dumps(config, indent=2, sort_keys=True, allow_nan=False), encoding="utf-8")


def _initialize_eva(trainer: RecipeTrainer, seed: int) -> None:
    """Run PEFT's EVA over batches of the training data, the same in every process."""
    model, device = trainer.model, trainer.args.device
    formats = {parameter.dtype for name, parameter in model.named_parameters() if ".lora_" in name}
    model.to(device)
    training = model.training
    model.eval()
    decoder = model.get_base_model().get_decoder()

    def forward(_: Any, inputs: dict[str, Any]) -> None:
        arguments = {key: value for key, value in inputs.items() if key != "labels"}
        with trainer.compute_loss_context_manager():
            decoder(**arguments, use_cache=False)

    with fork_rng():
        torch.manual_seed(seed)
        loader = DataLoader(
            trainer.train_dataset,
            batch_size=trainer.args.per_device_train_batch_size,
            shuffle=True,
            collate_fn=lambda rows: {
                key: value.to(device) if isinstance(value, torch.Tensor) else value
                for key, value in trainer.data_collator(rows).items()
            },
        )
        initialize_lora_eva_weights(model, loader, forward_fn=forward, gather_distributed_inputs=False)
    for name, parameter in model.named_parameters():
        if ".lora_" in name and len(formats) == 1:  # the new ranks came in the format of the base model
            parameter.data = parameter.data.to(next(iter(formats)))
    model.train(training)


@torch.no_grad()
def _subtract(model: Any, initial: Mapping[str, torch.Tensor]) -> None:
    """Reduce the base model by an initial adapter, with the arithmetic of PEFT's `pissa_init` and `olora_init`."""
    for name, layer in model.named_modules():
        a, b = (initial.get(f"{name}.lora_{part}.weight") for part in "AB")
        if isinstance(layer, LoraLayer) and a is not None and b is not None:
            weight = layer.get_base_layer().weight
            transposed = getattr(layer, "fan_in_fan_out", False)
            product = layer.scaling["default"] * b.to(weight.device) @ a.to(weight.device)
            weight.data = (weight.to(torch.float32) - (product.T if transposed else product)).to(weight.dtype)
