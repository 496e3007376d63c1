"""Every key of the schema changes something, and a key of a new release fails here until it is placed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
import trl
from helpers.paths import ROOT
from helpers.tiny_recipe import MakeRecipe, recipe_maker
from helpers.tiny_trainer import make_trainer
from trl import SFTConfig

from qdsft.model.device import Machine
from qdsft.model.quantization import quantization_config
from qdsft.recipe import Recipe
from qdsft.recipe.schema import section_schema
from qdsft.recipe.sections import AUTO
from qdsft.training.build import build_arguments

CPU = Machine("cpu", "CPU", torch.float32)
GPU = Machine("cuda", "GPU", torch.bfloat16)
OWN = ("model", "data", "prompt", "evaluation", "publish")
VALUES: dict[str, Any] = {
    # training: values that do not follow from the schema
    "training.lr_scheduler_kwargs": {"num_cycles": 0.25},
    "training.lr_scheduler_type": "cosine",
    "training.optim": "sgd",
    "training.optim_args": "momentum=0.5",
    "training.optim_target_modules": ["mlp"],
    "training.activation_checkpointing": False,
    "training.activation_checkpointing_kwargs": {"use_reentrant": False},
    "training.liger_kernel_config": {"rope": False},
    "training.completion_only_loss": True,  # its only value
    "training.report_to": ["wandb"],
    "training.global_batch_size": 4,
    "training.pad_to_multiple_of": 8,
    "training.load_best_model_at_end": True,
    "training.metric_for_best_model": "entropy",
    "training.eval_strategy": "steps",
    "training.save_strategy": "no",
    "training.tf32": False,
    "training.trackio_static_space_id": "me/x",
    "training.debug": "underflow_overflow",
    "quantization.bnb_4bit_compute_dtype": "float32",
    # lora
    "lora.target_modules": ["q_proj", "up_proj"],
    "lora.exclude_modules": ["layers.0.self_attn.q_proj"],
    "lora.modules_to_save": ["lm_head"],
    "lora.init_lora_weights": "olora",
    "lora.layers_to_transform": [1],
    "lora.layers_pattern": ["layers"],
    "lora.rank_pattern": {"q_proj": 2},
    "lora.alpha_pattern": {"q_proj": 2},
    "lora.trainable_token_indices": [5],
    "lora.eva_config": {"rho": 1.0},
    "lora.velora_config": {"num_groups": 4},
    "lora.use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 2},
    "lora.target_parameters": ["mlp.up_proj.weight"],
}
BESIDE: dict[str, list[str]] = {
    # What a key needs beside it to be read.
    "training.lr_scheduler_kwargs": ["training.lr_scheduler_type=cosine"],
    "training.optim_args": ["training.optim=sgd"],
    "training.optim_target_modules": ["training.optim=galore_adamw"],
    "training.activation_checkpointing_kwargs": ["training.activation_checkpointing=true"],
    "training.liger_kernel_config": ["training.use_liger_kernel=true"],
    "training.load_best_model_at_end": ["training.eval_strategy=steps", "training.save_strategy=steps"],
    "training.early_stopping_patience": ["training.eval_strategy=steps", "training.save_strategy=steps"],
    "training.packing_strategy": ["training.packing=true"],
    "training.label_smoothing_factor": ["training.loss_type=nll"],
    **{
        f"training.{key}": ["training.eval_strategy=steps", "training.metric_for_best_model=loss"]
        for key in ("greater_is_better", "metric_for_best_model")
    },
    **{f"training.{key}": ["training.eval_strategy=steps"] for key in ("eval_steps", "eval_delay")},
    **{f"training.{key}": [f"training.{key.split('_')[0]}_strategy=steps"] for key in ("save_steps", "logging_steps")},
    **{
        f"training.dataloader_{key}": ["training.dataloader_num_workers=1"]
        for key in ("prefetch_factor", "persistent_workers", "multiprocessing_context", "in_order")
    },
    **{
        f"training.{key}": ["training.report_to=trackio"]
        for key in ("project", "run_name", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id")
    },
    "lora.layers_pattern": ["lora.layers_to_transform=[1]"],
    "lora.ensure_weight_tying": ["lora.modules_to_save=[embed_tokens]"],
    "lora.eva_config": ["lora.init_lora_weights=eva"],
}
CHECKED_HERE = {
    "training.global_batch_size",
    "training.early_stopping_patience",
    "training.output_dir",
    "training.activation_checkpointing",
}
"""Keys that qdsft reads itself and hands on under another name or value."""
IN_POST_INIT = {
    "training.torch_compile_backend",
    "training.tf32",
    "training.log_level",
    "training.log_level_replica",
    "training.log_on_each_node",
    "training.save_on_each_node",
    "training.ddp_timeout",
}
"""Keys that a method of the arguments itself acts on."""


def keys(*sections: str) -> list[str]:
    return [f"{section}.{key}" for section in sections for key in section_schema(section)]


def other_value(name: str) -> Any:
    """Return a value of the key that differs from its default."""
    if name in VALUES:
        return VALUES[name]
    section, key = name.split(".")
    schema = section_schema(section)[key]
    default = schema.get("default")
    for part in [schema, *schema.get("anyOf", ())]:
        for option in part.get("enum", ()):
            if option != default and option not in {"", None}:
                return option
        if part.get("type") == "boolean":
            return not default
        if part.get("type") == "integer":
            return (default or 0) + 2 if default != -1 else 3
        if part.get("type") == "number":
            return (default or 0.0) / 2 or 0.25
        if part.get("type") == "string":
            return "some/name"
    raise AssertionError(f"{name}: give a value in VALUES")


def overrides(name: str) -> list[str]:
    return [*BESIDE.get(name, ()), f"{name}={json.dumps(other_value(name))}"]


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    make = recipe_maker(tmp_path, tiny_model)

    def with_plain_training(*values: str, name: str = "mistral/lora") -> Recipe:
        plain = ["training={per_device_train_batch_size: 1, max_steps: 2}", f"training.output_dir={tmp_path / 'run'}"]
        return make(*plain, *values, name=name)

    return with_plain_training


# training


@pytest.fixture(scope="module")
def upstream_source() -> str:
    """What reads the arguments of a trainer: the code of transformers and TRL without the arguments' own classes."""
    folders = (Path(transformers.__file__).parent, Path(trl.__file__).parent / "trainer")
    files = [
        *folders[0].glob("trainer*.py"),
        *(folders[0] / "integrations").glob("*.py"),
        *(folders[1] / name for name in ("sft_trainer.py", "base_trainer.py")),
    ]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("name", [key for key in keys("training") if key not in CHECKED_HERE])
def test_a_training_key_reaches_an_argument_that_upstream_reads(
    name: str, make_recipe: MakeRecipe, upstream_source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SFTConfig, "__post_init__", lambda _: None)
    key = name.partition(".")[2]
    machine = GPU if key == "activation_offloading" else CPU
    value = getattr(build_arguments(make_recipe(*overrides(name)), machine), key)
    assert value == other_value(name)
    if key != "completion_only_loss":
        assert value != getattr(build_arguments(make_recipe(*BESIDE.get(name, ())), CPU), key)
    read = re.search(rf"\b(?:args|training_args|self)\.{key}\b", upstream_source)
    assert read or name in IN_POST_INIT | keys_of_properties(), f"nothing reads {name}: reserve it, with the reason"


def keys_of_properties() -> set[str]:
    """Return the keys that are read through a property or method of the arguments, such as train_batch_size."""
    source = Path(sys.modules[transformers.TrainingArguments.__module__].__file__ or "").read_text(encoding="utf-8")
    methods = source[source.index("    def __post_init__") :]
    return {name for name in keys("training") if re.search(rf"self\.{name.partition('.')[2]}\b", methods)}


def test_the_keys_that_qdsft_hands_on_change_the_arguments(make_recipe: MakeRecipe) -> None:
    config = build_arguments(make_recipe("training.global_batch_size=4"), CPU)
    assert config.gradient_accumulation_steps == 4
    assert build_arguments(make_recipe("training.activation_checkpointing=false"), CPU).gradient_checkpointing is False
    assert make_recipe().training_value("activation_checkpointing") == AUTO
    assert build_arguments(make_recipe(), CPU).output_dir.endswith("run")


# lora


def fingerprint(recipe: Recipe) -> list[tuple[Any, ...]]:
    """Return what the lora section decides: weights, what of them is trained, scaling, dropout and variants."""
    trainer = make_trainer(recipe)
    found: list[tuple[Any, ...]] = [
        (name, tuple(weight.shape), weight.requires_grad, float(weight.detach().float().abs().sum()))
        for name, weight in trainer.model.named_parameters(remove_duplicate=False)
    ]
    found.append(("layers_pattern", trainer.model.peft_config["default"].layers_pattern))  # which PEFT matches with
    for name, module in trainer.model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            dropout = [getattr(part, "p", 0) for part in module.lora_dropout.values()]
            variants = [type(part).__name__ for part in module.lora_variant.values()]
            found.append((name, module.scaling, dropout, variants))
    return found


BIASED = {"lora.bias": ("gpt_neox", "query_key_value"), "lora.ensure_weight_tying": ("qwen3", "q_proj")}
"""Keys that act on models with bias terms or tied embeddings: the model, and a module to adapt in it."""


@pytest.mark.parametrize("name", keys("lora"))
def test_a_lora_key_changes_the_adapted_model(
    name: str, make_recipe: MakeRecipe, tiny_model: Callable[[str], Path]
) -> None:
    architecture, target = BIASED.get(name, ("mistral", "q_proj"))
    fixed = [f"model.name_or_path={tiny_model(architecture)}", f"lora={{r: 4, target_modules: [{target}]}}"]
    beside = [*fixed, *BESIDE.get(name, ())]
    value = f"{name}={json.dumps(other_value(name))}"
    assert fingerprint(make_recipe(*beside, value)) != fingerprint(make_recipe(*beside))


# quantization


@pytest.mark.parametrize("name", keys("quantization"))
def test_a_quantization_key_reaches_bitsandbytes(name: str, make_recipe: MakeRecipe) -> None:
    bits = "load_in_8bit" if "int8" in name or "8bit" in name else "load_in_4bit"
    other = "load_in_4bit" if bits == "load_in_8bit" else "load_in_8bit"
    value = ["lm_head"] if name.endswith("skip_modules") else other_value(name)
    with_key = {bits: True, name.partition(".")[2]: value}
    without = {bits: True} if name.partition(".")[2] != bits else {other: True}
    configs = [
        quantization_config(make_recipe(f"quantization={json.dumps(values)}"), GPU).to_dict()
        for values in (with_key, without)
    ]
    assert configs[0] != configs[1]


# qdsft's own sections


def readers() -> Iterator[str]:
    for path in (ROOT / "qdsft").rglob("*.py"):
        if path.name not in {"sections.py", "idle_keys.py", "upstream_keys.py"}:
            yield path.read_text(encoding="utf-8")


def is_read(name: str) -> bool:
    section, key = name.split(".")
    read = re.compile(rf"(?<![\"'.\w])(?:\w+\.)*{section}\.{key}\b(?![\"'])")
    return any(read.search(source) for source in readers())


@pytest.mark.parametrize("name", keys(*OWN))
def test_a_key_of_an_own_section_is_read(name: str) -> None:
    assert is_read(name), f"nothing reads {name}: reserve it, with the reason"


def test_a_key_that_nothing_reads_is_found() -> None:
    assert not is_read("publish.private") and not is_read("data.colour")
