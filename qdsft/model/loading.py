"""Load the tokenizer, config and base model of a recipe, and build its LoRA config."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from datetime import date
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME, cached_file

from qdsft.console import say
from qdsft.errors import UserError, reason
from qdsft.hashing import file_sha256
from qdsft.launch import uses_deepspeed, uses_fsdp, zero_stage
from qdsft.model.attention import Attention, choose_attention, decoding_attention
from qdsft.model.checked_weights import check_model
from qdsft.model.device import Machine
from qdsft.model.device_errors import FREE_DEVICE, device_errors, smaller_weights
from qdsft.model.float16 import check_range
from qdsft.model.foreign_files import PUT_BACK, Part, foreign_errors
from qdsft.model.quantization import keep_quantized_weights, quantization_config
from qdsft.model.template import name_template, with_fixed_date
from qdsft.recipe import Recipe
from qdsft.recipe.load import read_text
from qdsft.recipe.saved_quantization import is_saved_quantized

_QUIETLY = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
"""Options of transformers' cached_file: a file that is not there is None."""
CODE_REMEDY = (
    "it comes with Python code; if you trust its author, train with model.trust_remote_code=true and give other "
    "commands --trust-remote-code"
)


def load_tokenizer(recipe: Recipe, day: date | None = None) -> PreTrainedTokenizerBase:
    """Return the base model's tokenizer with the recipe's chat template and a padding token.

    A template that writes the date always writes `day`, by default today. Raises UserError if the tokenizer cannot be
    loaded, or if neither the recipe nor the model has a chat template.
    """
    path = recipe.chat_template_path()
    tokenizer = load_own_tokenizer(recipe)
    template = read_text(path) if path else _own_template(recipe, tokenizer)
    tokenizer.chat_template = with_fixed_date(template, day or date.today())
    if path:
        name_template(tokenizer, path)
    return tokenizer


def load_own_tokenizer(recipe: Recipe) -> PreTrainedTokenizerBase:
    """Return the base model's tokenizer with its own chat template, which may be None, and a padding token.

    Raises UserError if it cannot be loaded, or has no end-of-sequence token.
    """
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(AutoTokenizer, recipe, what="tokenizer")
    if len(tokenizer) <= len(tokenizer.added_tokens_decoder):  # transformers makes an empty one without its file
        raise UserError(
            f"{recipe.where('model.name_or_path')}: {recipe.model.name_or_path} has a tokenizer without a vocabulary "
            f"(tokenizer.json is missing); {PUT_BACK}"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{recipe.where('model.name_or_path')}: the tokenizer of {recipe.model.name_or_path} has no "
            f"end-of-sequence token to stop at (eos_token in tokenizer_config.json); {PUT_BACK}"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _own_template(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the tokenizer's chat template, of several the one named default."""
    where = f"{recipe.where('model.name_or_path')}: {recipe.model.name_or_path}"
    remedy = "set model.chat_template to a Jinja file beside the recipe"
    template: str | dict[str, str] | None = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            raise UserError(f"{where} has the chat templates {', '.join(template)} and none named default; {remedy}")
        template = template["default"]
    if not template:
        raise UserError(f"{where} has no chat template; {remedy}")
    return template


def load_config(recipe: Recipe) -> PretrainedConfig:
    """Return the base model's config. Raises UserError if it cannot be loaded or is too short for max_length."""
    config = _from_pretrained(AutoConfig, recipe, what="config.json")
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit and recipe.max_length and recipe.max_length > limit:
        raise UserError(
            f"{recipe.where('training.max_length')}: training.max_length {recipe.max_length} is more than the "
            f"{limit} positions of {recipe.model.name_or_path}; lower it"
        )
    return config


def stop_token_ids(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> list[int]:
    """Return the token ids at which generation stops, of the tokenizer and the generation config, sorted."""
    name, revision = recipe.model.name_or_path, recipe.model.revision or "main"
    found = config.get_text_config().eos_token_id
    with foreign_errors("generation config", name, where=recipe.where("model.name_or_path")):
        # Without the file, transformers raises the same OSError as for a damaged one.
        if cached_file(name, GENERATION_CONFIG_NAME, revision=revision, **_QUIETLY):
            found = GenerationConfig.from_pretrained(name, revision=revision).eos_token_id
    ids = {tokenizer.eos_token_id, *(found if isinstance(found, list) else [found])}
    return sorted(int(token) for token in ids if token is not None)


def load_model(
    recipe: Recipe, machine: Machine, *, trainable: bool, config: PretrainedConfig | None = None
) -> PreTrainedModel:
    """Return the base model, quantized if the recipe has a quantization section.

    `trainable` chooses dtype and attention kernel for training. `config` avoids reading config.json again.

    Full fine-tuning uses float32 master weights (DeepSpeed has its own), because bfloat16 has 8 bits of mantissa and
    rounds away updates at usual learning rates. On a GPU the weights are read straight into its memory, except under
    ZeRO-3 and FSDP, which shard them as they load: no process holds the whole model in main memory. Raises UserError as
    `check_model` and `check_range` do.
    """
    config = config or load_config(recipe)
    check_range(recipe, config, machine)
    dtype = machine.choose_dtype(recipe.model.dtype)
    if trainable and recipe.lora is None and not uses_deepspeed() and dtype != torch.float32:
        say(f"full fine-tuning: float32 weights, {_name(dtype)} arithmetic")
        dtype = torch.float32
    wanted = recipe.model.attn_implementation
    if trainable:
        attention = choose_attention(wanted, config, machine, dtype)
    else:
        attention = Attention(decoding_attention(wanted), "for decoding")
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": attention.name}
    if recipe.quantization:
        options["device_map"] = {"": machine.own()}
        if not is_saved_quantized(config.to_dict()):  # else its own config applies
            options["quantization_config"] = quantization_config(recipe, machine)
    elif machine.device_type == "cuda" and not uses_fsdp() and zero_stage() < 3:
        options["device_map"] = {"": machine.own()}
    model: PreTrainedModel
    model, info = _from_pretrained(
        AutoModelForCausalLM,
        recipe,
        what="weights",
        output_loading_info=True,
        remedy=smaller_weights(recipe) if trainable else FREE_DEVICE,
        **options,
    )
    if not recipe.quantization:
        vars(model).pop("hf_device_map", None)  # with it, transformers warns of several devices and moves no adapter
    check_model(f"{recipe.where('model.name_or_path')}: {recipe.model.name_or_path}", model, info)
    if trainable:
        say(f"attention: {model.config._attn_implementation} ({attention.reason})")
    _fix_generation_config(model)
    keep_quantized_weights(model)
    return model


def lora_config(recipe: Recipe) -> LoraConfig | None:
    """Return the recipe's LoraConfig; None for full fine-tuning. Raises UserError for values that PEFT refuses."""
    if recipe.lora is None:
        return None
    hints = typing.get_type_hints(LoraConfig)
    try:
        values = {key: _as_dataclass(hints[key], value) for key, value in recipe.lora.items()}
        return LoraConfig(task_type="CAUSAL_LM", **values)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"{recipe.where('lora')}: lora: {reason(error)}") from error


def base_model_facts(recipe: Recipe, config: PretrainedConfig) -> dict[str, Any]:
    """Return the name, the Hub commit and the hash of the config, which identify the base model later."""
    return {
        "name_or_path": recipe.model.name_or_path,
        "revision": getattr(config, "_commit_hash", None),
        "config_sha256": config_sha256(config),
        **_code_facts(recipe),
    }


def config_sha256(config: PretrainedConfig) -> str:
    """Return the hash of a config, without what depends on where and how it was loaded."""
    # Keys that begin with _ hold the path that the model was loaded from.
    volatile = {"transformers_version", "dtype"}
    values = {key: value for key, value in config.to_dict().items() if key not in volatile and key[0] != "_"}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode("utf-8")).hexdigest()


def code_hashes(folder: Path) -> dict[str, str]:
    """Return file -> SHA-256 of the config.json and the Python files in a model's folder."""
    files = [*sorted(folder.rglob("*.py")), folder / "config.json"]
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def _code_facts(recipe: Recipe) -> dict[str, Any]:
    folder = Path(recipe.model.name_or_path)
    return {"code_sha256": code_hashes(folder)} if recipe.model.trust_remote_code and folder.is_dir() else {}


def _from_pretrained(factory: Any, recipe: Recipe, *, what: Part, remedy: str = FREE_DEVICE, **options: Any) -> Any:
    name = recipe.model.name_or_path
    recipe.check_local_model()
    with (
        foreign_errors(what, name, where=recipe.where("model.name_or_path"), remedy=lambda error: _remedy(error, name)),
        device_errors(f"loading the {what} of {name}", remedy),
    ):
        return factory.from_pretrained(
            name,
            revision=recipe.model.revision or "main",
            trust_remote_code=recipe.model.trust_remote_code,
            **options,
        )


def _remedy(error: Exception, name: str) -> str:
    text = str(error).lower()
    if "gated" in text or "401" in text or "403" in text:
        return "accept the model's licence on its Hub page and set HF_TOKEN"
    if "trust_remote_code" in text:
        return CODE_REMEDY
    if any(
        part in text for part in ("attn_implementation", "attention implementation", "flash attention", "flash_attn")
    ):
        return "set model.attn_implementation=auto"
    if Path(name).is_dir():
        return PUT_BACK
    return "give a folder that exists here, or a Hub model id and a connection"


def _as_dataclass(hint: Any, value: Any) -> Any:
    """Turn a mapping of the recipe into the dataclass that PEFT requires for some nested configs."""
    kinds = [part for part in (hint, *typing.get_args(hint)) if isinstance(part, type)]
    nested = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
    return nested(**value) if nested and isinstance(value, dict) else value


def _fix_generation_config(model: PreTrainedModel) -> None:
    """Set do_sample beside sampling values; otherwise save_pretrained fails at the end of the training."""
    generation = model.generation_config
    if generation is not None and not generation.do_sample and (generation.temperature or generation.top_p):
        generation.do_sample = True


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
