"""Save the adapter or model, reopen it, and check that it holds what was trained."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers.core_model_loading import revert_weight_conversion

from qdsft.errors import UserError
from qdsft.files import new_directory
from qdsft.model.checked_weights import check_finite, check_tensor_names, is_finite, is_zero
from qdsft.runs.layout import CARD
from qdsft.training.lora_init import CONFIG, plain_tensors, write_plain_lora
from qdsft.training.trainer import RecipeTrainer


def live_tensors(trainer: RecipeTrainer) -> dict[str, torch.Tensor] | None:
    """Return name -> live weight of what a checkpoint must hold; None if the weights are sharded over processes."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if any(hasattr(parameter, "ds_shape") for parameter in model.parameters()) or trainer.is_fsdp_enabled:
        return None
    if isinstance(model, PeftModel):
        state = get_peft_model_state_dict(model)
    else:
        # Some architectures store their weights under other names than they have in memory.
        state = revert_weight_conversion(model, model.state_dict())
    return {name: tensor.detach() for name, tensor in state.items()}


def expected_tensors(trainer: RecipeTrainer) -> dict[str, torch.Tensor] | None:
    """Return name -> weight of what the final save must hold; None if the weights are sharded over processes."""
    live = live_tensors(trainer)
    if live is None or trainer.initial_adapter is None:
        return live
    return {name: tensor.detach() for name, tensor in plain_tensors(live, trainer.initial_adapter).items()}


def check_saved(
    folder: Path,
    expected: Mapping[str, torch.Tensor] | None,
    *,
    trained: bool,
    initial: Mapping[str, torch.Tensor] | None = None,
) -> int:
    """Reopen saved weights and return the number of tensors. Raises UserError for the first that is wrong.

    Checks names, shapes, values and that every tensor is finite. `trained` requires that at least one LoRA B matrix
    differs from its initial zeros, or from `initial`. Reads one tensor at a time.
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
                        untouched.append(_is_untouched(name, tensor, initial))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: the saved weights cannot be read back: {error}; is the disk full?") from error
    if not names:
        raise UserError(f"{folder}: no weights were saved; with DeepSpeed ZeRO-3 set zero3_save_16bit_model: true")
    if trained and untouched and all(untouched):
        state = "zero" if initial is None else "as it was initialized"
        raise UserError(
            f"{folder}: every LoRA B matrix is {state}: nothing was trained; take more steps than the warm-up"
        )
    if missing := _missing(names, expected or {}):
        raise UserError(f"{folder}: {missing[0]} and {len(missing) - 1} other weights were not saved")
    return len(names)


def _is_untouched(name: str, saved: torch.Tensor, initial: Mapping[str, torch.Tensor] | None) -> bool:
    if initial is None:
        return is_zero(saved)
    before = initial[name]  # `saved` is the adapter beside its negated initial values
    return torch.equal(saved[:, : before.shape[1]], before.to(saved.dtype))


def check_checkpoint(folder: Path, trainer: RecipeTrainer) -> None:
    """Raise UserError unless a checkpoint holds exactly the weights that the trainer has, all finite.

    transformers and PEFT load a checkpoint with other names without an error, and training would continue with the
    weights that it started with. Sharded weights are checked by the library that gathers them.
    """
    expected = live_tensors(trainer)
    files = sorted(folder.glob("*.safetensors"))
    if expected is None or not files:
        return
    remedy = "delete this checkpoint to resume from the one before it"
    names: set[str] = set()
    for file in files:
        try:
            with safe_open(file, framework="pt") as reader:
                for name in reader.keys():  # noqa: SIM118 - not a mapping
                    tensor = reader.get_tensor(name)
                    check_finite(str(folder), name, tensor, remedy)
                    if name in expected and tensor.shape != expected[name].shape:
                        shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
                        raise UserError(f"{folder}: {name} has the shape {shapes}; {remedy}")
                    names.add(name)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: cannot be read: {error}; {remedy}") from error
    check_tensor_names(str(folder), _missing(names, expected), names - expected.keys(), remedy)


def _check_tensor(where: str, saved: torch.Tensor, live: torch.Tensor | None) -> None:
    if saved.numel() == 0:
        raise UserError(f"{where} was saved empty; with DeepSpeed ZeRO-3 set zero3_save_16bit_model: true")
    if not is_finite(saved):
        raise UserError(f"{where} holds NaN or infinity; lower training.learning_rate and train again")
    if live is not None and saved.shape != live.shape:
        raise UserError(f"{where} was saved as {tuple(saved.shape)}, not {tuple(live.shape)}")
    if live is not None and not torch.equal(saved.to(live.dtype), live.cpu()):
        raise UserError(f"{where} was saved with other values than it has in memory")


def _missing(saved: Set[str], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names that were not saved, without tied weights that were saved under another name."""
    stored = {tensor.data_ptr() for name, tensor in expected.items() if name in saved}
    return [name for name, tensor in expected.items() if name not in saved and tensor.data_ptr() not in stored]


def save_weights(trainer: RecipeTrainer, folder: Path, *, trained: bool) -> int:
    """Save the adapter or model with its tokenizer and template, check it, and rename it to `folder`.

    Returns the number of tensors; 0 in other processes than the first, which only help to gather sharded weights.
    `trained` is that of `check_saved`: False for a trial save. Raises UserError as `check_saved` does.
    """
    if not trainer.is_world_process_zero():
        trainer.save_model(str(folder.with_name(f".{folder.name}.tmp")))
        return 0
    with new_directory(folder) as temporary:
        trainer.save_model(str(temporary))
        # training_args.bin is a pickle with local paths, and PEFT's card names the base model's local path.
        for name in ("training_args.bin", CARD):
            (temporary / name).unlink(missing_ok=True)
        expected = expected_tensors(trainer)
        if (temporary / CONFIG).exists():
            write_plain_lora(temporary, expected if trainer.initial_adapter is not None else None)
        return check_saved(temporary, expected, trained=trained, initial=trainer.initial_adapter)
