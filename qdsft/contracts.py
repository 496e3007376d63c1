"""What must hold of a run before its first step and of what it saved: checked on the user's own stack."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers.core_model_loading import revert_weight_conversion

from qdsft.errors import UserError
from qdsft.files import disk_errors
from qdsft.recipe import Recipe
from qdsft.recipe_trainer import RecipeTrainer

PROBE_TOKENS = 64
ISOLATION_TOLERANCE = 1e-3
"""Largest change of a packed sample's logits, relative to their spread, when its neighbour changes."""


def check_isolation(trainer: RecipeTrainer, samples: Sequence[Sequence[int]], recipe: Recipe) -> float:
    """Change one packed sample and compare the logits of the next: they must not move.

    Returns the largest change relative to the logits' standard deviation. Raises UserError if it is
    more than ISOLATION_TOLERANCE. Two forward passes over the beginnings of two samples (token ids).
    """
    first, second = (list(sample[:PROBE_TOKENS]) for sample in (samples[0], samples[-1]))
    other = list(reversed(first))
    logits = [_second_logits(trainer, [sample, second]) for sample in (first, other)]
    change = float((logits[0] - logits[1]).abs().max() / logits[0].std().clamp(min=1e-6))
    if change > ISOLATION_TOLERANCE:
        raise UserError(
            f"{recipe.where('training.packing')}: packed samples see each other with attention "
            f"{recipe.model.attn_implementation!r} on this machine (logits move by {change:.2g} of their spread); set "
            "model.attn_implementation: sdpa, or training.packing: false"
        )
    return change


def _second_logits(trainer: RecipeTrainer, samples: list[list[int]]) -> torch.Tensor:
    packed = [token for sample in samples for token in sample]
    batch = trainer.data_collator(
        [{"input_ids": packed, "labels": packed, "seq_lengths": [len(sample) for sample in samples]}]
    )
    inputs = {key: value for key, value in trainer._prepare_inputs(batch).items() if key != "labels"}
    was_training = trainer.model.training
    trainer.model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        logits: torch.Tensor = trainer.model(**inputs, use_cache=False).logits
    trainer.model.train(was_training)
    start = len(samples[0])
    return logits[0, start : start + len(samples[1])].float()


def check_disk(run_dir: Path, trainer: RecipeTrainer, recipe: Recipe) -> tuple[int, int]:
    """(needed, free) bytes on the run's disk; raises UserError unless the checkpoints and the result fit.

    Needed: 4 a trained weight and 8 for its two AdamW moments, for each kept checkpoint and the one being
    written, and 4 a weight for the result.
    """
    weights = sum(getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters() if p.requires_grad)
    kept = (recipe.training_value("save_total_limit") or 1) + 1
    needed = weights * (12 * kept + 4)
    with disk_errors(run_dir):
        free = shutil.disk_usage(run_dir).free
    if needed > free:
        raise UserError(
            f"{run_dir}: {size(needed)} are needed for {kept} checkpoints and the result, and {size(free)} are "
            "free; free some space, lower training.save_total_limit, or choose another disk with training.output_dir"
        )
    return needed, free


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def expected_tensors(trainer: RecipeTrainer) -> dict[str, torch.Tensor] | None:
    """What a save must hold: name -> live weight; None where the weights are sharded over processes."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if any(hasattr(parameter, "ds_shape") for parameter in model.parameters()) or trainer.is_fsdp_enabled:
        return None
    if isinstance(model, PeftModel):
        state = get_peft_model_state_dict(model)
    else:
        # Some architectures have other names for their weights on disk than in memory.
        state = revert_weight_conversion(model, model.state_dict())
    return {name: tensor.detach() for name, tensor in state.items()}


def check_saved(folder: Path, expected: Mapping[str, torch.Tensor] | None, *, trained: bool) -> int:
    """Reopen saved weights: readable, finite, of the right names, shapes and values, and not all zero.

    `trained` asks that no LoRA B matrix is still at its initial zero everywhere. Tensors are read one by
    one. Returns their number. Raises UserError naming the first that fails.
    """
    names: set[str] = set()
    untouched: list[bool] = []
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as reader:
                for name in reader.keys():  # noqa: SIM118 - not a mapping
                    tensor = reader.get_tensor(name)
                    _check_tensor(f"{folder}: {name}", tensor, (expected or {}).get(name))
                    names.add(name)
                    if "lora_B" in name:
                        untouched.append(not tensor.any())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: the saved weights cannot be read back: {error}; is the disk full?") from error
    if not names:
        raise UserError(f"{folder}: no weights were saved; with DeepSpeed ZeRO-3 set zero3_save_16bit_model: true")
    if trained and untouched and all(untouched):
        raise UserError(f"{folder}: every LoRA B matrix is zero: nothing was trained; take more steps than the warm-up")
    if missing := _missing(names, expected or {}):
        raise UserError(f"{folder}: {missing[0]} and {len(missing) - 1} other weights were not saved")
    return len(names)


def _check_tensor(where: str, saved: torch.Tensor, live: torch.Tensor | None) -> None:
    if saved.numel() == 0:
        raise UserError(f"{where} was saved empty; with DeepSpeed ZeRO-3 set zero3_save_16bit_model: true")
    if saved.is_floating_point() and not torch.isfinite(saved).all():
        raise UserError(f"{where} holds NaN or infinity; lower training.learning_rate and train again")
    if live is not None and saved.shape != live.shape:
        raise UserError(f"{where} was saved as {tuple(saved.shape)}, not {tuple(live.shape)}")
    if live is not None and not torch.equal(saved.to(live.dtype), live.cpu()):
        raise UserError(f"{where} was saved with other values than it has in memory")


def _missing(saved: Set[str], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """Names that were not saved, less those whose storage was saved under another name (tied weights)."""
    stored = {tensor.data_ptr() for name, tensor in expected.items() if name in saved}
    return [name for name, tensor in expected.items() if name not in saved and tensor.data_ptr() not in stored]
