"""Every shipped recipe: it loads, builds the real upstream configs, keeps its family's rules, and trains."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from accelerate.commands.config.config_args import load_config_from_file
from helpers.architectures import ARCHITECTURES
from helpers.paths import ROOT
from helpers.preparation import prepare_recipe

from qdsft.data.split import stream_split
from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_run
from qdsft.model.adapters import check_adapters
from qdsft.model.device import Machine
from qdsft.model.loading import load_config, load_tokenizer, lora_config
from qdsft.model.quantization import quantization_config
from qdsft.recipe import Recipe, load_recipe
from qdsft.recipe.new_text import METHODS as NEW_METHODS
from qdsft.recipe.new_text import NewModel, recipe_text
from qdsft.tokenization.new_recipe import SOURCE
from qdsft.training.build import build_arguments

FAMILIES = ("koalpaca", "llama2", "mistral")
"""Folders with all four methods."""
METHODS = ("full", "lora", "qlora", "qlora_8gb")
MODERN = {
    "exaone4_1_2b": 1.28e9,
    "gemma3_4b": 4.3e9,
    "hyperclovax_1_5b": 1.59e9,
    "kanana1_5_8b": 8.03e9,
    "llama3_2_3b": 3.21e9,
    "ministral_8b": 8.02e9,
    "qwen3_1_7b": 1.72e9,
    "qwen3_8b": 8.19e9,
}
"""Folders with the methods of `qdsft recipe --new` -> parameters of the model."""
OWN_ARCHITECTURE = {"exaone4_1_2b", "gemma3_4b"}
"""Those of MODERN whose architecture no other folder has with 16-bit weights."""
NOT_TRAINED = {f"recipes/{folder}/qlora.yaml" for folder in MODERN} | {
    f"recipes/{folder}/lora.yaml" for folder in MODERN.keys() - OWN_ARCHITECTURE
}
"""Recipes that take no path through the code that another one does not take, and whose model another one trains."""
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("recipes/**/*.yaml"))
CPU = Machine("cpu", "a CPU", torch.float32)
CUDA = Machine("cuda", "a card", torch.bfloat16)

TinyModel = Callable[[str], Path]
every_recipe = pytest.mark.parametrize("path", RECIPES)


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch, synthetic_corpus: Path) -> None:
    monkeypatch.chdir(ROOT)  # recipes name their data from there


def folder_of(path: str) -> str:
    return Path(path).parent.name


def on_tiny_model(path: str, tiny_model: TinyModel, *overrides: str) -> Recipe:
    model = tiny_model(ARCHITECTURES[folder_of(path)])
    return load_recipe(path, [f"model.name_or_path={model}", *overrides])


def in_any_order(schema: Any) -> Any:
    """A JSON Schema without the order of its alternatives: typing takes it from what was imported first."""
    if isinstance(schema, list):
        return sorted((in_any_order(part) for part in schema), key=repr)
    return {key: in_any_order(part) for key, part in schema.items()} if isinstance(schema, dict) else schema


def test_no_recipe_and_no_family_is_missing() -> None:
    assert RECIPES
    assert {folder_of(path) for path in RECIPES} == ARCHITECTURES.keys()
    assert {path.name for path in Path("recipes").iterdir() if path.is_dir()} == ARCHITECTURES.keys()
    assert {f"recipes/{family}/{method}.yaml" for family in FAMILIES for method in METHODS} <= set(RECIPES)


@every_recipe
def test_a_recipe_loads_and_refuses_a_misspelt_key(path: str) -> None:
    recipe = load_recipe(path)
    assert recipe.run_dir == Path("outputs") / f"{folder_of(path)}-{Path(path).stem}"
    with pytest.raises(UserError, match="did you mean learning_rate"):
        load_recipe(path, ["training.learning_rte=1e-4"])


@every_recipe
def test_its_header_names_the_schema_and_its_own_launch_command(path: str) -> None:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../recipe.schema.json"
    header = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    command = re.compile(rf"#   accelerate launch (?:--config_file (\S+) )?scripts/run_sft\.py {re.escape(path)}")
    found = [match for line in header if (match := command.fullmatch(line))]
    assert len(found) == 1
    assert found[0][1] is None or Path(found[0][1]).is_file()


@every_recipe
def test_it_builds_the_real_configs(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(path)
    config = build_arguments(recipe, CPU)
    assert config.use_cpu and not config.bf16
    # The same as on a card, whose presence SFTConfig asks for.
    monkeypatch.setattr(transformers.training_args, "is_torch_bf16_gpu_available", lambda: True)
    config = build_arguments(recipe, CUDA)
    assert config.bf16 and not config.use_cpu
    for key, value in recipe.training.items():
        if key not in {"global_batch_size", "activation_checkpointing"}:
            assert getattr(config, key) == value, key
    assert config.gradient_checkpointing == bool(recipe.training_value("activation_checkpointing"))
    assert (
        config.gradient_accumulation_steps * config.per_device_train_batch_size
        == (recipe.training["global_batch_size"])
    )
    lora = lora_config(recipe)
    assert (lora is None) == (recipe.lora is None)
    for key, value in (recipe.lora or {}).items():
        assert getattr(lora, key) == (set(value) if key == "target_modules" else value), key
    if recipe.quantization:
        quantization = quantization_config(recipe, CUDA)
        assert quantization.load_in_4bit and quantization.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.parametrize("path", [path for path in RECIPES if path.endswith("/qlora_8gb.yaml")])
def test_a_recipe_for_8_gb_keeps_the_rules_that_make_it_fit(path: str) -> None:
    recipe = load_recipe(path)
    quantization, lora = recipe.quantization or {}, recipe.lora or {}
    assert recipe.model.dtype == "bfloat16"
    assert quantization["load_in_4bit"] and quantization["bnb_4bit_quant_type"] == "nf4"
    assert quantization["bnb_4bit_use_double_quant"] and quantization["bnb_4bit_compute_dtype"] == "bfloat16"
    assert lora["lora_dropout"] == 0.0
    assert "8bit" in recipe.training["optim"]
    assert recipe.training["activation_checkpointing"] is True
    # Packed, and 1024 tokens a micro-batch: fewer do not repay the de-quantization, more do not fit.
    assert recipe.packing
    assert recipe.training["max_length"] * recipe.training["per_device_train_batch_size"] == 1024


@pytest.mark.parametrize("path", [path for path in RECIPES if load_recipe(ROOT / path).lora])
def test_lora_reaches_every_linear_layer_and_names_no_other(path: str, tiny_model: TinyModel) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model(ARCHITECTURES[folder_of(path)]))
    decoder = model.get_decoder()
    linear = {
        name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, torch.nn.Linear)
    }
    targets = (load_recipe(path).lora or {})["target_modules"]
    assert sorted(targets) == sorted(linear)


def test_recipes_that_repeat_their_data_section_agree() -> None:
    recipes = [load_recipe(path) for path in RECIPES if folder_of(path) not in {"tiny", "gemma3_270m", "tasks"}]
    assert len(recipes) > 1
    assert all(recipe.data == recipes[0].data for recipe in recipes)


@pytest.mark.parametrize("folder", MODERN)
def test_they_are_what_qdsft_recipe_new_writes(folder: str) -> None:
    for method in NEW_METHODS:
        recipe = load_recipe(f"recipes/{folder}/{method}.yaml")
        model = recipe.model
        new = NewModel(
            model.name_or_path, f"recipes/{folder}", (recipe.lora or {})["target_modules"], None, model.chat_template
        )
        text = Path(f"recipes/{folder}/{method}.yaml").read_text(encoding="utf-8")
        assert re.sub(r"prompt:\n(  .*\n)+", "", text) == recipe_text(new, method)
    assert {path.stem for path in Path("recipes", folder).glob("*.yaml")} == NEW_METHODS.keys()


@pytest.mark.parametrize("folder", sorted(ARCHITECTURES.keys() - {"tiny"}))
def test_a_folder_has_the_dimensions_of_its_model(folder: str) -> None:
    values = json.loads(Path("recipes", folder, "config.json").read_text(encoding="utf-8"))
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", values.pop(SOURCE))
    config = transformers.AutoConfig.for_model(**values)
    for path in Path("recipes", folder).glob("*.yaml"):
        assert load_recipe(path).max_length <= config.get_text_config().max_position_embeddings
    if folder in MODERN:
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        assert sum(each.numel() for each in model.parameters()) == pytest.approx(MODERN[folder], rel=0.01)


def test_a_template_that_trains_a_thinking_block_is_refused(tiny_model: TinyModel) -> None:
    recipe = on_tiny_model("recipes/qwen3_8b/qlora_8gb.yaml", tiny_model, "model.chat_template=null")
    with pytest.raises(UserError, match=r"does not read back as the row's answer: .* such as a thinking block"):
        prepare_recipe(recipe)


def test_a_multimodal_checkpoint_trains_its_text_decoder_alone(tiny_model: TinyModel) -> None:
    recipe = on_tiny_model("recipes/gemma3_4b/qlora_8gb.yaml", tiny_model)
    config = load_config(recipe)
    with torch.device("meta"):
        names = [name for name, _ in transformers.AutoModelForCausalLM.from_config(config).named_modules()]
    assert any("vision" in name and name.endswith("q_proj") for name in names)
    coverage = check_adapters(recipe, config)
    assert coverage is not None and (coverage.modules, coverage.layers, coverage.all_layers) == (14, 2, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recipes_of_a_family_differ_in_method_alone(family: str) -> None:
    recipes = [load_recipe(f"recipes/{family}/{method}.yaml") for method in METHODS]
    first = recipes[0]
    for recipe in recipes[1:]:
        assert (recipe.model, recipe.prompt, recipe.seed) == (first.model, first.prompt, first.seed)
        # As many tokens an update, so that results can be compared.
        assert recipe.training["global_batch_size"] * recipe.training["max_length"] == 8192
        assert recipe.training["num_train_epochs"] == first.training["num_train_epochs"]


def test_the_schema_is_that_of_the_installed_packages(load_script: Callable[[str], ModuleType]) -> None:
    script = load_script("make_schema")
    assert in_any_order(json.loads(script.PATH.read_text(encoding="utf-8"))) == in_any_order(script.build())


@pytest.mark.parametrize("folder", ARCHITECTURES)
def test_the_readme_names_every_recipe_and_shows_the_template_as_it_renders(folder: str, tiny_model: TinyModel) -> None:
    text = Path("recipes", folder, "README.md").read_text(encoding="utf-8")
    paths = [path for path in RECIPES if folder_of(path) == folder]
    for path in paths:
        assert Path(path).name in text
    # Where the model brings its own template, the tiny model has it as well.
    recipe = on_tiny_model(paths[0], tiny_model)
    tokenizer = load_tokenizer(recipe)
    examples = [example for _, example in stream_split(recipe)]
    shown = [
        tokenizer.apply_chat_template(
            [*example.messages, {"role": "assistant", "content": example.completion}],
            tokenize=False,
            date_string="26 Jul 2024",  # for templates that write a date
        )
        for example in examples
    ]
    assert any(f"```text\n{row.rstrip()}\n```" in text for row in shown)


@pytest.mark.parametrize("path", sorted(Path(ROOT, "accelerate_configs").glob("*.yaml")), ids=lambda path: path.name)
def test_accelerate_reads_its_configs(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.mixed_precision == "no"  # the recipe's model.dtype decides
    if config.distributed_type == "DEEPSPEED":
        assert config.deepspeed_config["gradient_accumulation_steps"] == "auto"
    if config.deepspeed_config.get("zero_stage") == 3:
        assert config.deepspeed_config["zero3_save_16bit_model"] is True


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in RECIPES if path not in NOT_TRAINED])
def test_it_trains_and_answers_on_a_tiny_model(path: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    from qdsft.training.train import train

    overrides = (f"training.output_dir={tmp_path / 'run'}", "training.max_steps=2", "evaluation.max_new_tokens=8")
    started = time.monotonic()
    run_dir = train(on_tiny_model(path, tiny_model, *overrides))
    trained = time.monotonic()
    run = load_run(run_dir)
    answer = run.answer([next(example for _, example in stream_split(run.recipe)).messages])[0]
    print(f"{path}: trained in {trained - started:.1f} s, answered in {time.monotonic() - trained:.1f} s")
    assert 1 <= answer.tokens <= 8
    assert run.manifest.state == "finished"
    assert run.manifest.artifact == ("adapter" if run.recipe.lora else "model")
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert max(line["step"] for line in lines) == 2
    losses = [line[key] for line in lines for key in ("loss", "train_loss") if key in line]
    assert losses and all(math.isfinite(loss) for loss in losses)
