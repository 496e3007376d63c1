"""Check loaded weights: every weight comes from a file, every file's weight is used, and all values are finite.

transformers and PEFT only warn about weights that are missing or left over. Missing weights of a model are random, and
an adapter whose weights are missing answers as the base model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict

from qdsft.console import say
from qdsft.errors import UserError

BASE_REMEDY = "download the model again, or give the folder that save_pretrained wrote"
ADAPTER_REMEDY = "put the adapter's files back or train again"
_UNTRAINED = "lora_B"
"""LoRA's B matrices start as zeros: an adapter with no other value in them changes no answer."""


def check_model(where: str, model: Any, info: Mapping[str, Any]) -> None:
    """Raise UserError unless every weight of a loaded model was read from its files and holds usable values.

    `info` is what transformers returns with output_loading_info. Tensors of modules that the model does not have, such
    as the vision tower of a model that is loaded for text, are reported and not used.
    """
    apart = of_other_modules(model, info["unexpected_keys"])
    check_tensor_names(where, info["missing_keys"], set(info["unexpected_keys"]) - apart, BASE_REMEDY)
    if apart:
        say(f"{where}: {len(apart)} tensors of modules that this model does not have are not used ({min(apart)}, ...)")
    if info["mismatched_keys"]:
        name, stored, wanted = sorted(info["mismatched_keys"])[0]
        raise UserError(f"{where}: {name} has the shape {tuple(stored)}, not {tuple(wanted)}; {BASE_REMEDY}")
    for name, weight in model.named_parameters():
        part = getattr(weight, "ds_tensor", None)  # DeepSpeed ZeRO-3: the part of this process
        if part is None:
            check_weight(where, name, weight)
        else:
            check_finite(where, name, part, BASE_REMEDY)
        for scale in _scales(weight):
            check_finite(where, f"{name} (quantized)", scale, BASE_REMEDY)


def check_adapter(folder: Path, model: Any, name: str, result: Any) -> None:
    """Raise UserError unless the adapter `name` of a PeftModel was read whole from `folder`.

    `result` is what PEFT's load_adapter returns.
    """
    check_tensor_names(str(folder), result.missing_keys, result.unexpected_keys, ADAPTER_REMEDY)
    check_adapter_tensors(folder, get_peft_model_state_dict(model, adapter_name=name).items())


def check_adapter_tensors(folder: Path, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise UserError for an adapter without tensors, with a value that is not finite, or that was never trained."""
    names: list[str] = []
    untrained: list[bool] = []
    for name, tensor in tensors:
        check_finite(str(folder), name, tensor, ADAPTER_REMEDY)
        names.append(name)
        if _UNTRAINED in name:
            untrained.append(is_zero(tensor))
    if not names:
        raise UserError(f"{folder}: the adapter has no tensors; {ADAPTER_REMEDY}")
    if untrained and all(untrained):
        raise UserError(f"{folder}: every LoRA B matrix is zero, so the adapter changes no answer; {ADAPTER_REMEDY}")


def check_tensor_names(where: str, missing: Collection[str], unexpected: Collection[str], remedy: str) -> None:
    """Raise UserError, naming the first, for weights that no file has and for tensors that the model does not have."""
    if missing:
        raise UserError(f"{where}: {_first_of(missing)} missing from the files; {remedy}")
    if unexpected:
        raise UserError(f"{where}: {_first_of(unexpected)} in the files and not in the model; {remedy}")


def check_weight(where: str, name: str, tensor: torch.Tensor) -> None:
    """Raise UserError for NaN or infinity, and for a matrix of zeros, such as a hole in a file.

    Norms and biases may start as zeros. Visits the values once.
    """
    extremes = _extremes(tensor)
    if not _are_finite(extremes):
        raise UserError(f"{where}: {name} holds NaN or infinity; {BASE_REMEDY}")
    if tensor.dim() > 1 and not name.endswith("bias") and _are_zero(extremes):
        raise UserError(f"{where}: {name} holds nothing but zeros; {BASE_REMEDY}")


def check_finite(where: str, name: str, tensor: torch.Tensor, remedy: str) -> None:
    """Raise UserError for a tensor with NaN or infinity. Weights on the meta device hold no values."""
    if not is_finite(tensor):
        raise UserError(f"{where}: {name} holds NaN or infinity; {remedy}")


def is_finite(tensor: torch.Tensor) -> bool:
    """Return whether all values are finite. Allocates no second tensor, unlike torch.isfinite on large weights."""
    return _are_finite(_extremes(tensor))


def is_zero(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds nothing but zeros."""
    return _are_zero(_extremes(tensor))


Extremes = tuple[torch.Tensor, torch.Tensor]


def _extremes(tensor: torch.Tensor) -> Extremes | None:
    """Return the lowest and the highest value, NaN if any is; None for a tensor without floating-point values."""
    if tensor.is_meta or not tensor.numel() or not tensor.is_floating_point():
        return None
    low, high = torch.aminmax(tensor.detach())
    return low, high


def _are_finite(extremes: Extremes | None) -> bool:
    return extremes is None or bool(torch.isfinite(extremes[0]) & torch.isfinite(extremes[1]))


def _are_zero(extremes: Extremes | None) -> bool:
    return extremes is not None and bool((extremes[0] == 0) & (extremes[1] == 0))


def _scales(weight: Any) -> list[torch.Tensor]:
    """Return the scales of a weight that bitsandbytes quantized: NaN in the weight shows there."""
    state = getattr(weight, "quant_state", None)
    nested = getattr(state, "state2", None)
    found = [getattr(state, "absmax", None), getattr(state, "offset", None), getattr(nested, "absmax", None)]
    return [scale for scale in [*found, getattr(weight, "SCB", None)] if isinstance(scale, torch.Tensor)]


def of_other_modules(model: Any, names: Collection[str]) -> set[str]:
    """Return the names of tensors that belong to no module of the model but the outermost ones."""
    modules = {name for name, _ in model.named_modules()}
    outer = {"", getattr(model, "base_model_prefix", "")}
    return {name for name in names if _nearest(name, modules) in outer}


def _nearest(name: str, modules: Collection[str]) -> str:
    """Return the longest prefix of a tensor's name that is a module of the model."""
    while name:
        name = name.rpartition(".")[0]
        if name in modules:
            return name
    return ""


def _first_of(names: Collection[str]) -> str:
    others = len(names) - 1
    return f"{min(names)} and {others} other weights are" if others else f"{min(names)} is"
