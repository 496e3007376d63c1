"""Tokenizer, config, model and LoRA config of a recipe, or an error that names the key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.paths import RECIPES
from transformers import AutoModelForCausalLM

from qdsft.errors import UserError
from qdsft.model.device import Machine
from qdsft.model.loading import (
    base_model_facts,
    load_config,
    load_model,
    load_tokenizer,
    lora_config,
    stop_token_ids,
)
from qdsft.recipe import Recipe, load_recipe

CPU = Machine("cpu", "CPU", torch.float32)
MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    """Return a function that loads a recipe on a copy of a tiny model, which a test may damage."""
    shutil.copytree(tiny_model("llama"), tmp_path / "model")

    def make(*overrides: str, name: str = "tiny/full") -> Recipe:
        return load_recipe(RECIPES / f"{name}.yaml", [f"model.name_or_path={tmp_path / 'model'}", *overrides])

    return make


def edit(path: Path, **values: object) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **values}), encoding="utf-8")


def test_the_tokenizer_has_the_template_of_the_recipe_and_a_padding_token(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(name="mistral/lora")
    template = recipe.chat_template_path()
    tokenizer = load_tokenizer(recipe)
    assert template is not None and tokenizer.chat_template == template.read_text(encoding="utf-8")
    assert tokenizer.pad_token_id is not None


def test_a_model_without_a_chat_template_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    for place in (tmp_path / "model").glob("*.jinja"):
        place.unlink()
    edit(tmp_path / "model/tokenizer_config.json", chat_template=None)
    with pytest.raises(UserError, match=r"has no chat template; set model\.chat_template to a Jinja file"):
        load_tokenizer(make_recipe("model.chat_template=null"))


def test_the_default_of_several_chat_templates_is_taken_and_without_one_they_are_named(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    for place in folder.glob("*.jinja"):
        place.unlink()
    several = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    for given, wanted in ((several, "{{ messages }}"), ({"rag": "x", "tool_use": "y"}, None), ({"rag": "x"}, None)):
        listed = [{"name": name, "template": template} for name, template in given.items()]
        edit(folder / "tokenizer_config.json", chat_template=listed)
        recipe = make_recipe("model.chat_template=null")
        if wanted:
            assert load_tokenizer(recipe).chat_template == wanted
        else:
            named = f"has the chat templates {', '.join(given)} and none named default; set model.chat_template"
            with pytest.raises(UserError, match=named):
                load_tokenizer(recipe)


def test_rows_longer_than_the_models_positions_are_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    edit(tmp_path / "model/config.json", max_position_embeddings=100)
    assert load_config(make_recipe("training.max_length=100")).max_position_embeddings == 100
    with pytest.raises(UserError, match=r"training\.max_length 101 is more than the 100 positions"):
        load_config(make_recipe("training.max_length=101"))


def test_generation_stops_at_the_tokens_of_tokenizer_and_generation_config(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe()
    tokenizer, config = load_tokenizer(recipe), load_config(recipe)
    edit(tmp_path / "model/generation_config.json", eos_token_id=[9, tokenizer.eos_token_id])
    assert stop_token_ids(recipe, tokenizer, config) == sorted([9, tokenizer.eos_token_id])
    (tmp_path / "model/generation_config.json").unlink()
    assert stop_token_ids(recipe, tokenizer, config) == [tokenizer.eos_token_id]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("config.json", r"model\.name_or_path: .* is not a folder with a model \(config\.json is missing\)"),
        ("model.safetensors", "the weights of .* cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_line(
    damage: str, message: str, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    (tmp_path / "model" / damage).unlink()
    with pytest.raises(UserError, match=message) as caught:
        load_model(make_recipe(), CPU, trainable=False)
    assert "\n" not in str(caught.value)


def test_sampling_values_without_do_sample_do_not_stop_a_save(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    edit(tmp_path / "model/generation_config.json", temperature=0.5, do_sample=False)
    model = load_model(make_recipe(), CPU, trainable=False)
    assert model.generation_config is not None and model.generation_config.do_sample
    model.save_pretrained(tmp_path / "saved")


def test_a_lora_config_has_the_values_of_the_recipe(make_recipe: MakeRecipe) -> None:
    assert lora_config(make_recipe()) is None
    nested = "lora={r: 2, target_modules: all-linear, eva_config: {rho: 3.0}, init_lora_weights: eva}"
    config = lora_config(make_recipe(nested))
    assert config is not None and (config.r, config.task_type) == (2, "CAUSAL_LM")
    assert config.eva_config is not None and config.eva_config.rho == 3.0, "a mapping becomes PEFT's own class"
    with pytest.raises(UserError, match=r"command line: lora: "):
        lora_config(make_recipe("lora={r: 2, lora_bias: true, init_lora_weights: gaussian}"))


def test_a_base_model_is_identified_by_its_config_and_not_by_its_folder(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe()
    facts = base_model_facts(recipe, load_config(recipe))
    shutil.copytree(tmp_path / "model", tmp_path / "moved")
    moved = make_recipe(f"model.name_or_path={tmp_path / 'moved'}")
    assert base_model_facts(moved, load_config(moved))["config_sha256"] == facts["config_sha256"]
    edit(tmp_path / "moved/config.json", rms_norm_eps=0.5)
    assert base_model_facts(moved, load_config(moved))["config_sha256"] != facts["config_sha256"]


GPU = Machine("cuda", "a GPU", torch.bfloat16)


@pytest.mark.parametrize(
    ("launch", "overrides", "place"),
    [
        ({}, [], {"": "cuda:0"}),
        ({"LOCAL_RANK": "3"}, [], {"": "cuda:3"}),
        ({"LOCAL_RANK": "1"}, ["quantization={load_in_4bit: true}", "lora={r: 2}"], {"": "cuda:1"}),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, [], {"": "cuda:0"}),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, [], None),
        ({"ACCELERATE_USE_FSDP": "true"}, [], None),
    ],
)
def test_weights_are_read_into_the_memory_of_the_own_gpu(
    launch: dict[str, str],
    overrides: list[str],
    place: dict[str, str] | None,
    make_recipe: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a place each of eight processes would first hold the whole model in main memory."""
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    read, given = AutoModelForCausalLM.from_pretrained, []

    def from_pretrained(*arguments: object, **options: object) -> object:
        given.append(options.pop("device_map", None))
        options.pop("quantization_config", None)
        return read(*arguments, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    model = load_model(make_recipe(*overrides), GPU, trainable=False)
    assert given == [place] and not hasattr(model, "hf_device_map")
