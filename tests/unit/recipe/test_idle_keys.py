"""A key that another value of the recipe switches off is refused, unless the switch is an override."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe
from qdsft.recipe.idle_keys import LORA, QUANTIZATION, TRAINING
from qdsft.recipe.schema import section_schema

FOUR_BIT: dict[str, Any] = {"load_in_4bit": True}


@pytest.fixture
def recipe_of(tmp_path: Path) -> Any:
    """Return a function that loads a recipe of these sections and overrides."""

    def load(*overrides: str, **sections: Any) -> Recipe:
        path = tmp_path / "r.yaml"
        base: dict[str, Any] = {"model": {"name_or_path": "m"}, "data": {"train": "t.jsonl"}}
        for name, content in sections.items():
            base[name] = {**base.get(name, {}), **content}
        path.write_text(yaml.safe_dump(base), encoding="utf-8")
        return load_recipe(path, overrides)

    return load


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"eval_steps": 50}}, 'training.eval_steps has no effect while training.eval_strategy is "no"'),
        ({"training": {"early_stopping_patience": 3}}, "set evaluation.every_steps or eval_strategy, or remove it"),
        ({"evaluation": {"retrieval": "c.jsonl"}}, "evaluation.retrieval has no effect while evaluation.every_steps"),
        ({"training": {"metric_for_best_model": "step_f1"}}, "set eval_strategy, or remove it"),
        ({"training": {"save_steps": 5, "save_strategy": "epoch"}}, "set save_strategy: steps"),
        ({"training": {"dataloader_prefetch_factor": 2}}, "set dataloader_num_workers"),
        ({"training": {"dataloader_persistent_workers": True}}, "training.dataloader_num_workers is 0"),
        ({"training": {"project": "mine"}}, "set report_to: trackio"),
        ({"training": {"run_name": "mine"}}, "such as wandb"),
        ({"training": {"optim_target_modules": ["mlp"]}}, "choose a GaLore or APOLLO optimizer"),
        ({"training": {"adam_beta2": 0.9, "optim": "sgd"}}, "choose an Adam optimizer"),
        ({"training": {"adam_epsilon": 1e-6, "optim": "lion_8bit"}}, "choose an Adam optimizer"),
        ({"training": {"warmup_steps": 9, "lr_scheduler_type": "constant"}}, "such as constant_with_warmup"),
        ({"training": {"label_smoothing_factor": 0.1, "loss_type": "dft"}}, "set loss_type: nll"),
        ({"training": {"packing_strategy": "bfd_split"}}, "set packing: true"),
        ({"training": {"greater_is_better": True}}, "set training.metric_for_best_model"),
        ({"training": {"max_length": None}, "data": {"overlength": "drop"}}, "set training.max_length"),
        ({"evaluation": {"samples": 5}}, "set every_steps"),
        ({"lora": {"eva_config": {"rho": 1.0}}}, "set init_lora_weights: eva"),
        ({"lora": {"layers_pattern": "layers"}}, "set layers_to_transform"),
        ({"lora": {"layers_to_transform": [0], "target_modules": "all-linear"}}, "a list of names"),
        ({"lora": {}, "quantization": {**FOUR_BIT, "llm_int8_threshold": 3.0}}, "set load_in_8bit: true"),
        ({"lora": {}, "quantization": {"load_in_8bit": True, "bnb_4bit_quant_type": "nf4"}}, "set load_in_4bit: true"),
        # names that the chosen optimizer or schedule does not take
        ({"training": {"optim_args": "momentum=0.9"}}, "adamw_torch_fused does not take momentum; it takes none"),
        ({"training": {"optim_args": "mom=0.9", "optim": "sgd"}}, "sgd does not take mom; it takes nesterov, momentum"),
        ({"training": {"optim_args": "weight_decay=0.9", "optim": "sgd"}}, "sgd does not take weight_decay"),
        ({"training": {"optim_args": "beta1=0.9", "optim": "lion_8bit"}}, "lion_8bit does not take beta1"),
        ({"training": {"optim_args": "momentum", "optim": "sgd"}}, "'momentum' is not name=value"),
        ({"training": {"lr_scheduler_kwargs": {"num_cycles": 2}}}, "linear does not take num_cycles; it takes none"),
        (
            {"training": {"lr_scheduler_kwargs": {"min_lr": 0.1}, "lr_scheduler_type": "cosine"}},
            "cosine does not take min_lr; it takes num_cycles",
        ),
        (
            {"training": {"lr_scheduler_kwargs": '{"power": 2}', "lr_scheduler_type": "constant"}},
            "constant does not take power",
        ),
        ({"training": {"lr_scheduler_kwargs": "num_cycles=2"}}, "is not a JSON object"),
    ],
)
def test_a_key_without_effect_is_refused(sections: dict[str, Any], message: str, recipe_of: Any) -> None:
    with pytest.raises(UserError) as caught:
        recipe_of(**sections)
    assert message in str(caught.value) and "r.yaml" in str(caught.value)


@pytest.mark.parametrize("key", ["model.revision", "data.revision", "data.train_split", "data.eval_split"])
def test_a_key_of_the_hub_beside_local_files_is_refused(key: str, recipe_of: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    section, name = key.split(".")
    sections: dict[str, Any] = {
        "model": {"name_or_path": str(tmp_path)},
        "data": {"train": str(tmp_path / "rows.jsonl")},
    }
    sections[section] = {**sections[section], name: "v2"}
    with pytest.raises(UserError, match=f"{key} has no effect without a Hub model or dataset"):
        recipe_of(**sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"eval_steps": 50, "eval_strategy": "steps"}},
        {"training": {"metric_for_best_model": "step_f1"}, "evaluation": {"every_steps": 5}},
        {"training": {"optim_args": "momentum=0.9, nesterov=true", "optim": "sgd"}},
        {"training": {"optim_args": "beta3=0.99", "optim": "paged_ademamix_8bit"}},
        {"training": {"lr_scheduler_kwargs": {"min_lr": 1e-5}, "lr_scheduler_type": "cosine_with_min_lr"}},
        {"training": {"run_name": "mine", "report_to": ["tensorboard", "wandb"]}},
        {"training": {"dataloader_persistent_workers": False}},
        {"lora": {"layers_to_transform": [0], "layers_pattern": "layers", "target_modules": ["q_proj"]}},
    ],
)
def test_a_key_with_an_effect_is_accepted(sections: dict[str, Any], recipe_of: Any) -> None:
    recipe_of(**sections)


def test_an_override_may_switch_off_keys_of_the_file(recipe_of: Any) -> None:
    training = {"packing": True, "packing_strategy": "bfd_split", "warmup_steps": 0.03, "lr_scheduler_type": "cosine"}
    recipe_of("training.packing=false", "training.lr_scheduler_type=constant", training=training)
    with pytest.raises(UserError, match=r"^command line: training\.warmup_steps has no effect"):
        recipe_of("training.warmup_steps=9", "training.lr_scheduler_type=constant", training=training)


def test_the_rules_name_keys_of_the_schema() -> None:
    for need in (*TRAINING, *LORA, *QUANTIZATION):
        for key in [need.key, *need.keys.split()]:
            section, _, name = (key if "." in key else f"{need.key.partition('.')[0]}.{key}").partition(".")
            assert name in section_schema(section), key
