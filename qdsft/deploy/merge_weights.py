"""Merge an adapter into its base model on disk: tensor by tensor, in float32, cast once at the end."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from qdsft.errors import UserError
from qdsft.model.checked_weights import ADAPTER_REMEDY, BASE_REMEDY, check_tensor_names
from qdsft.model.file_check import ADAPTER_WEIGHTS, adapter_shapes
from qdsft.model.foreign_files import foreign_errors
from qdsft.model.weight_files import BaseWeights, missing_weights, module_names

SHARD_BYTES = 2 * 2**30
"""Largest size of a written file in bytes; this much is held in memory, beside one tensor."""
PREFIX = "base_model.model."

SCALES = re.compile(r"(.*)\.(?:weight\.(?:(?:nested_)?absmax|(?:nested_)?quant_map|quant_state\..*)|SCB|weight_format)")
"""Names of what bitsandbytes saves beside a quantized weight."""

Dequantized = Mapping[str, Callable[[], torch.Tensor]]
"""Weight name in the model -> reader of its dequantized value."""


@dataclass(frozen=True)
class Change:
    """The change that an adapter makes to one parameter of the model."""

    apply: Callable[[Callable[[str], torch.Tensor]], torch.Tensor]
    """Takes a reader of the base model's parameters by name (float32) and returns the parameter's new value."""


class Merge:
    """The changes that an adapter makes to a model of this config.

    PEFT itself computes each change: its layers are built on the meta device, given one layer's weights, and merged.
    So LoRA, rsLoRA, DoRA, rank and alpha patterns, embeddings and modules_to_save are merged exactly as PEFT does it.
    Raises UserError for an adapter that cannot be read or cannot be merged.
    """

    def __init__(self, adapter: Path, config: PretrainedConfig, *, trust_remote_code: bool = False) -> None:
        self.adapter = adapter
        peft_config = _read_config(adapter)
        self.config = config
        self._tensors = adapter_shapes(adapter)
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")  # about tied weights, which are handled below
            with foreign_errors("config.json", config.name_or_path):
                self.model: PreTrainedModel = AutoModelForCausalLM.from_config(
                    config, dtype=torch.float32, trust_remote_code=trust_remote_code
                )
            self._known = {name: tuple(weight.shape) for name, weight in self.model.state_dict().items()}
            self._tied = dict(getattr(self.model, "_tied_weights_keys", None) or {})
            with foreign_errors("adapter", adapter, remedy=lambda _: ADAPTER_REMEDY):
                wrapped = get_peft_model(self.model, peft_config)
        self.changes = self._find_changes(wrapped.base_model.model)
        touched = self.changes.keys() & (self._tied.keys() | set(self._tied.values()))
        self.unties = bool(touched) and config.get_text_config().tie_word_embeddings
        """Whether one of two tied matrices changes. The merged model then saves both."""

    def _find_changes(self, model: Any) -> dict[str, Change]:
        changes: dict[str, Change] = {}
        used: set[str] = set()
        wrappers: list[str] = []
        for name, module in model.named_modules():
            if any(name.startswith(f"{wrapper}.") for wrapper in wrappers):
                continue
            own = {
                key: key.removeprefix(f"{PREFIX}{name}.") for key in self._tensors if key.startswith(f"{PREFIX}{name}.")
            }
            if isinstance(module, ModulesToSaveWrapper):
                wrappers.append(name)
                wanted = {
                    key.removeprefix("original_module.") for key in module.state_dict() if key.startswith("original_")
                }
                check_tensor_names(f"{self.adapter}: {name}", wanted - set(own.values()), set(), ADAPTER_REMEDY)
                changes |= {f"{name}.{short}": self._replacement(key) for key, short in own.items()}
                used |= own.keys()
            elif isinstance(module, AuxiliaryTrainingWrapper):
                raise UserError(f"{self.adapter}: single trained tokens cannot be merged; use the adapter as it is")
            elif isinstance(module, LoraLayer):
                changes |= self._layer_changes(name, module, own)
                used |= own.keys()
        check_tensor_names(str(self.adapter), set(), self._tensors.keys() - used, ADAPTER_REMEDY)
        return changes

    def _replacement(self, key: str) -> Change:
        return Change(lambda _: self._read(key).float())

    def _layer_changes(self, name: str, layer: Any, own: dict[str, str]) -> dict[str, Change]:
        wanted = {key for key in layer.state_dict() if not key.startswith("base_layer.")}
        # PEFT saves a copy of the base embedding beside an adapter on it. The base model's own is read instead.
        added = {key: short for key, short in own.items() if not short.startswith("base_layer.")}
        given = {_with_adapter_name(short, wanted): key for key, short in added.items()}
        if given.keys() != wanted:
            odd = sorted(given.keys() ^ wanted)[0]
            raise UserError(f"{self.adapter}: {name}.{odd} is missing or unknown; put the adapter's files back")
        for short, key in given.items():
            if tuple(self._tensors[key]) != tuple(layer.state_dict()[short].shape):
                raise UserError(
                    f"{self.adapter}: {key} has another shape than the base model's; put the adapter's files back"
                )
        parts = ["weight", *(["bias"] if any(layer.lora_bias.values()) else [])]

        def change(part: str) -> Change:
            return Change(lambda read: self._merge_layer(name, layer, given, parts, read)[part])

        return {f"{name}.{part}": change(part) for part in parts}

    def _merge_layer(
        self, name: str, layer: Any, given: dict[str, str], parts: list[str], read: Callable[[str], torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        base = layer.get_base_layer()
        for part in parts:
            setattr(base, part, torch.nn.Parameter(read(f"{name}.{part}"), requires_grad=False))
        values = {short: self._read(key).float() for short, key in given.items()}
        layer.load_state_dict(values, strict=False, assign=True)
        try:
            layer.merge(safe_merge=True)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"{self.adapter}: {name} cannot be merged: {error}; use the adapter as it is") from error
        merged = {part: getattr(base, part).data for part in parts}
        layer.merged_adapters.clear()
        layer.to("meta")
        return merged

    def _read(self, key: str) -> torch.Tensor:
        with safe_open(self.adapter / ADAPTER_WEIGHTS, framework="pt") as reader:
            tensor: torch.Tensor = reader.get_tensor(key)
            return tensor

    def shapes(self, base: BaseWeights) -> dict[str, tuple[int, ...]]:
        """Return name -> shape of the weights in the files, as they are without quantization."""
        shapes = base.shapes()
        names = module_names(self.model, list(shapes))
        scales = {name: match[1] for name, (module, _) in names.items() if (match := SCALES.fullmatch(module))}
        packed = {f"{owner}.weight" for owner in scales.values()}
        return {
            name: self._known.get(names[name][0], shape) if names[name][0] in packed else shape
            for name, shape in shapes.items()
            if name not in scales
        }

    def write(self, base: BaseWeights, folder: Path, dtype: torch.dtype, dequantized: Dequantized | None = None) -> int:
        """Write the merged weights to `folder` as safetensors files of at most SHARD_BYTES; returns their total size.

        `dequantized` replaces weights of the base model's files. Raises UserError if a changed weight is in no file.
        """
        shapes = self.shapes(base)
        names = module_names(self.model, list(shapes))
        files = {module: name for name, (module, _) in names.items()}
        if converted := sorted(
            module for module, is_converted in names.values() if is_converted and module in self.changes
        ):
            raise UserError(f"{converted[0]}: is saved in parts; an adapter cannot be merged into it")

        def read(module: str) -> torch.Tensor:
            if dequantized and module in dequantized:
                return dequantized[module]().detach().to("cpu", torch.float32)
            file = files.get(module) or files.get(self._tied.get(module, ""))
            if file is None:
                raise UserError(f"the base model has no weights of the name {module}; put its files back")
            return base.read(file).to(torch.float32, copy=True)

        def make(name: str) -> torch.Tensor:
            module = names[name][0] if name in names else name
            if change := self.changes.get(module):
                return change.apply(read)
            if (dequantized and module in dequantized) or name not in names:
                return read(module)
            return base.read(name)

        if self.unties:
            apart = {module: files[source] for module, source in self._tied.items() if module not in files}
            shapes |= {module: shapes[source] for module, source in apart.items()}
        placed = {names[name][0] if name in names else name for name in shapes}
        missing = missing_weights(self._known, placed, self._tied)
        check_tensor_names("the base model", missing | (self.changes.keys() - placed), set(), BASE_REMEDY)
        return _write_shards(folder, shapes, make, dtype)


def _write_shards(
    folder: Path, shapes: dict[str, tuple[int, ...]], make: Callable[[str], torch.Tensor], dtype: torch.dtype
) -> int:
    shards = list(_plan(shapes, dtype.itemsize))
    total = 0
    places: dict[str, str] = {}
    with tqdm(total=len(shapes), desc="merging", unit="tensor", disable=None) as bar:
        for number, names in enumerate(shards, 1):
            single = "model.safetensors"
            file = single if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            tensors = {}
            for name in names:
                tensor = make(name)
                tensors[name] = (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
                total += tensors[name].nbytes
                bar.update()
            try:
                save_file(tensors, folder / file, metadata={"format": "pt"})
            except SafetensorError as error:  # safetensors reports a full disk so
                raise OSError(str(error)) from error
            places |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return total


def _plan(shapes: dict[str, tuple[int, ...]], width: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        needed = prod(shape) * width
        if names and size + needed > SHARD_BYTES:
            yield names
            names, size = [], 0
        names.append(name)
        size += needed
    yield names


def _read_config(adapter: Path) -> LoraConfig:
    with foreign_errors("adapter", adapter, remedy=lambda _: ADAPTER_REMEDY):
        config = PeftConfig.from_pretrained(str(adapter))
    if not isinstance(config, LoraConfig):
        raise UserError(f"{adapter}: only LoRA adapters can be merged; this is {config.peft_type}")
    for key in ("target_parameters", "layer_replication", "megatron_config"):
        if getattr(config, key, None):
            raise UserError(f"{adapter}: an adapter with {key} cannot be merged; use it as it is")
    if config.bias != "none":
        raise UserError(f"{adapter}: an adapter with bias: {config.bias} cannot be merged; use it as it is")
    config.inference_mode = True
    return config


def _with_adapter_name(short: str, wanted: set[str]) -> str:
    """Return the name in memory, such as lora_A.default.weight, of a saved name, such as lora_A.weight."""
    kind, _, rest = short.partition(".")
    for candidate in (f"{kind}.default.{rest}" if rest else f"{kind}.default", f"{kind}.default.weight"):
        if candidate in wanted:
            return candidate
    return short
