"""Put LoRA on the text decoder of a model alone, and see that every layer of it has an adapter."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.other import TrainableTokensWrapper
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.pytorch_utils import Conv1D

from qdsft.errors import UserError
from qdsft.model.adapter_names import check_patterns_match, check_targets
from qdsft.model.loading import lora_config
from qdsft.recipe import Recipe
from qdsft.recipe.lora_init_keys import READS_WEIGHTS

PREFIX = "base_model.model."
MOST_NAMES = 8
"""So many names of linear layers an error lists."""


@dataclass(frozen=True)
class Coverage:
    """Where the adapters of a model sit."""

    modules: int
    layers: int
    """Layers of the text decoder that have an adapter."""
    all_layers: int
    without: list[str]
    """Parts of a layer with linear layers, such as mlp, in which no layer has an adapter."""

    def describe(self) -> str:
        """Return the line that a run prints."""
        none = f"; none in {', '.join(self.without)}" if self.without else ""
        return f"LoRA: {self.modules} modules in {self.layers} of {self.all_layers} layers{none}"


def check_adapters(recipe: Recipe, config: PretrainedConfig) -> Coverage | None:
    """Return where the adapters of a recipe will sit, by a model without weights; None for full fine-tuning.

    Raises UserError as `decoder_lora_config` and `find_coverage` do, and for modules that PEFT cannot adapt.
    """
    if recipe.lora is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said again for the model with weights
        model = _without_weights(recipe, config)
        if model is None:
            return None
        peft_config = decoder_lora_config(recipe, model)
        try:
            # Such initial values are computed from the weights.
            if str(peft_config.init_lora_weights).startswith(READS_WEIGHTS):
                peft_config = dataclasses.replace(peft_config, init_lora_weights=True, eva_config=None)
            wrapped = get_peft_model(model, peft_config)
        except Exception as error:
            raise UserError(f"{recipe.where('lora')}: lora: {' '.join(str(error).split())[:300]}") from error
    return find_coverage(recipe, wrapped)


def decoder_targets(recipe: Recipe, config: PretrainedConfig) -> list[str]:
    """Return the names of the linear layers in the text decoder, as lora.target_modules takes them.

    Raises UserError for a model without such layers, and for one that cannot be built without weights.
    """
    model = _without_weights(recipe, config)
    decoder = _decoder_prefix(model) if model is not None else ""
    head = model.get_output_embeddings() if model is not None else None
    names = [
        name.rpartition(".")[2]
        for name, module in (model.named_modules() if model is not None else ())
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head and name.startswith(decoder)
    ]
    if not names:
        name = recipe.model.name_or_path
        raise UserError(f"{name}: no linear layer of a text decoder is found; copy a recipe and edit it")
    return list(dict.fromkeys(names))


def _without_weights(recipe: Recipe, config: PretrainedConfig) -> Any | None:
    """Return the model on the meta device; None if the code of the model cannot be built without weights."""
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=recipe.model.trust_remote_code)
    except Exception:  # also of a damaged config, which is refused when the weights are loaded
        return None


def decoder_lora_config(recipe: Recipe, model: Any) -> LoraConfig:
    """Return the recipe's LoraConfig, confined to the text decoder of `model`.

    Raises UserError for an entry that matches nothing in it.
    """
    config = lora_config(recipe)
    assert config is not None
    decoder = _decoder_prefix(model)
    check_targets(recipe, model, decoder)
    head = model.get_output_embeddings()
    outside = (
        module is not head and isinstance(module, torch.nn.Linear | Conv1D) and not name.startswith(decoder)
        for name, module in model.named_modules()
    )
    if any(outside):
        config.exclude_modules = _excluded(decoder, config.exclude_modules)
    return config


def base_model(model: Any) -> Any:
    """Return the model inside of a PeftModel; any other model is returned as it is."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def find_coverage(recipe: Recipe, model: Any) -> Coverage:
    """Return where the adapters of a PeftModel sit.

    Raises UserError if one sits outside of the text decoder, if a layer has none though the recipe does not choose
    layers, and if a rank_pattern, alpha_pattern or layer of the recipe matches no adapter.
    """
    base = model.get_base_model()
    decoder = _decoder_prefix(base)
    adapted = [
        *model.base_model.targeted_module_names,
        *getattr(model.base_model, "targeted_parameter_names", ()),
    ]
    if stray := [name for name in adapted if not name.startswith(decoder) and "." in name]:
        raise UserError(
            f"{recipe.where('lora')}: lora: an adapter would sit on {stray[0]}, outside of the text decoder; name "
            "modules of the decoder"
        )
    if isinstance(base.get_output_embeddings(), TrainableTokensWrapper):
        key = "lora.trainable_token_indices"
        raise UserError(
            f"{recipe.where(key)}: {key}: TRL's loss needs an unchanged output layer, and this wraps it, as it always "
            "does in a model with tied embeddings; remove it"
        )
    _check_bias_and_ties(recipe, base)
    check_patterns_match(recipe, adapted)
    layers = _layers(base, decoder)
    place = re.compile(rf"{re.escape(layers.prefix)}(\d+)\.([^.]+)")
    found = [match for name in adapted if (match := place.match(name))]
    covered = {int(match[1]) for match in found}
    _check_layers(recipe, base, layers, covered)
    linear = {match[2] for name in _linear_names(base) if (match := place.match(name))}
    return Coverage(len(adapted), len(covered), layers.count, sorted(linear - {match[2] for match in found}))


def _check_bias_and_ties(recipe: Recipe, base: Any) -> None:
    """Raise UserError for options that have nothing to act on in this model."""
    given = recipe.lora or {}
    biases = (name for name, _ in base.named_parameters() if name.endswith(".bias") and ".lora_" not in name)
    if given.get("bias", "none") != "none" and not any(biases):
        raise UserError(f"{recipe.where('lora.bias')}: lora.bias: the model has no bias terms to train; remove it")
    if given.get("ensure_weight_tying") and not base.config.get_text_config().tie_word_embeddings:
        key = "lora.ensure_weight_tying"
        raise UserError(f"{recipe.where(key)}: {key}: the model's embeddings are not tied; remove it")


@dataclass(frozen=True)
class _Layers:
    prefix: str
    """Name of the list of decoder layers and a dot; "" if the model has none."""
    count: int


def _layers(model: Any, decoder: str) -> _Layers:
    lists = [
        _Layers(f"{name}.", len(module))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and name.startswith(decoder)
    ]
    wanted = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    fitting = [layers for layers in lists if layers.count == wanted]
    return (fitting or sorted(lists, key=lambda layers: -layers.count) or [_Layers("", 0)])[0]


def _check_layers(recipe: Recipe, model: Any, layers: _Layers, covered: set[int]) -> None:
    given = recipe.lora or {}
    chosen = given.get("layers_to_transform")
    chosen = [chosen] if isinstance(chosen, int) else chosen
    if missing := [layer for layer in chosen or [] if layer not in covered]:
        key = "lora.layers_to_transform"
        where = f"{recipe.where(key)}: {key}"
        raise UserError(f"{where}: layer {missing[0]} of {layers.count} has none of the target modules; correct it")
    bare = sorted(set(range(layers.count)) - covered)
    if not bare or chosen or _names_layers(given.get("target_modules")) or _names_layers(given.get("exclude_modules")):
        return
    place = rf"{re.escape(layers.prefix)}{bare[0]}\.(.*)"
    names = [match[1] for name in _linear_names(model) if (match := re.match(place, name))]
    key = "lora.target_modules"
    raise UserError(
        f"{recipe.where(key)}: {key}: {len(bare)} of {layers.count} layers, the first is {bare[0]}, get no adapter; "
        f"their linear layers are {', '.join(names[:MOST_NAMES])}: add some of these, set {key}: all-linear, or choose "
        "layers with lora.layers_to_transform"
    )


def _names_layers(targets: Any) -> bool:
    """Return whether targets choose layers themselves: a regular expression, or names with a layer's number."""
    if isinstance(targets, str):
        return targets != "all-linear"
    return any(re.search(r"(^|\.)\d+\.", name) for name in targets or ())


def _linear_names(model: Any) -> list[str]:
    """Return the names of the linear layers, adapted or not, as the base model has them."""
    names = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D | LoraLayer) and ".lora_" not in name:
            names.append(name.removesuffix(".base_layer"))
    return list(dict.fromkeys(names))


def _decoder_prefix(model: Any) -> str:
    """Return the name of the text decoder in the model and a dot; "" if the model is the decoder."""
    decoder = model.get_decoder()
    name = next((name for name, module in model.named_modules() if module is decoder), "")
    return f"{name}." if name else ""


def _excluded(decoder: str, also: Any) -> str:
    """Return a regular expression of every module outside of the decoder and of those that are excluded already."""
    parts: Sequence[str] = [also] if isinstance(also, str) else [rf"(?:.*\.)?{re.escape(name)}" for name in also or ()]
    return "|".join([rf"(?!{re.escape(decoder)}).*", *parts])


def decoder_layers(model: Any) -> str:
    """Return the name of the list of decoder layers in a model without adapters; "" if there is none."""
    return _layers(model, _decoder_prefix(model)).prefix.removesuffix(".")
