"""Recipe fields reach TRL, padding is masked by position, and the loss is that of stock TRL."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny_trainer import make_trainer
from transformers import AutoModelForCausalLM

from qdsft.errors import UserError
from qdsft.model.device import Machine
from qdsft.model.loading import load_model, load_tokenizer
from qdsft.recipe import Recipe, load_recipe
from qdsft.tokenization.row_files import of_rows
from qdsft.tokenization.rows import IGNORED, Row
from qdsft.training import build
from qdsft.training.build import CheckpointingChoice, build_arguments, build_trainer
from qdsft.training.cpu_loss import SupervisedLogProbs
from qdsft.training.trainer import RecipeTrainer

CPU = Machine("cpu", "CPU", torch.float32)


def tiny(tmp_path: Path, *overrides: str) -> Recipe:
    places = [f"training.output_dir={tmp_path / 'run'}", "training.report_to=none"]
    return load_recipe(ROOT / "recipes/tiny/full.yaml", [*places, *overrides])


def test_every_training_key_reaches_trl(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, "training.weight_decay=0.25", "training.global_batch_size=48", "seed=7")
    config = build_arguments(recipe, CPU, processes=3)
    for key, value in recipe.training.items():
        if key not in {"global_batch_size", "output_dir"} and value != "auto":  # auto depends on the free memory
            got = getattr(config, key)
            assert getattr(got, "value", got) == value or got == [value] or (key == "report_to" and got == [])
    assert (config.gradient_accumulation_steps, config.seed, config.output_dir) == (1, 7, str(recipe.run_dir))
    assert config.completion_only_loss is True


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.load_best_model_at_end=true", "save and eval strategy"),
        (
            "training.early_stopping_patience=2 evaluation.every_steps=2 training.load_best_model_at_end=false",
            "load_best_model_at_end contradicts training.early_stopping_patience",
        ),
        ("training.early_stopping_patience=2 evaluation.every_steps=2", "save and eval strategy"),
        (
            "training.activation_offloading=true",
            "activation_offloading moves activations from a GPU to main memory, and",
        ),
        (
            'training.activation_checkpointing_kwargs={"offload":true}',
            "_kwargs moves activations from a GPU to main memory",
        ),
        (
            "training.metric_for_best_model=sary evaluation.every_steps=2",
            "sary is no metric of an evaluation; did you mean sari",
        ),
        ("training.global_batch_size=6", r"is not a multiple of per_device_train_batch_size x devices = 16 x 1; 16 is"),
    ],
)
def test_contradictory_values_are_one_line(tmp_path: Path, override: str, message: str) -> None:
    recipe = tiny(tmp_path, *override.split())
    with pytest.raises(UserError, match=message):
        build_arguments(recipe, CPU)


@pytest.mark.parametrize(
    ("metric", "higher"),
    [("sari", True), ("eval_repeated_step", False), ("copied_question", False), ("loss", False), ("entropy", True)],
)
def test_early_stopping_keeps_the_best_checkpoint_in_the_direction_of_the_metric(
    tmp_path: Path, metric: str, higher: bool
) -> None:
    saves = ("training.save_strategy=steps", "training.save_steps=2", f"training.metric_for_best_model={metric}")
    recipe = tiny(tmp_path, "training.early_stopping_patience=2", "evaluation.every_steps=2", *saves)
    arguments = build_arguments(recipe, CPU)
    assert arguments.load_best_model_at_end and arguments.greater_is_better is higher
    assert build_arguments(tiny(tmp_path, *saves, "evaluation.every_steps=2"), CPU).load_best_model_at_end is False


def test_the_default_tracker_is_used_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_arguments(load_recipe("tiny/full"), CPU).report_to == ["tensorboard"]
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert build_arguments(load_recipe("tiny/full"), CPU).report_to == []


@pytest.fixture
def trainer(tmp_path: Path, tiny_model: Callable[[str], Path]) -> RecipeTrainer:
    recipe = tiny(tmp_path, f"model.name_or_path={tiny_model('llama')}", "training.packing=false")
    stop = load_tokenizer(recipe).eos_token_id
    rows = [
        Row([1, 50, 51, 52, 60, 61, stop], 4),
        Row([1, 50, 60, stop], 2),
    ]
    return make_trainer(recipe, rows)


def test_padding_is_masked_by_position_and_the_stop_token_is_not(trainer: RecipeTrainer) -> None:
    tokenizer = trainer.processing_class
    assert tokenizer.pad_token_id == tokenizer.eos_token_id, "the case in which masking by id loses the stop token"
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])
    assert batch["input_ids"][1].tolist() == [1, 50, 60, *[tokenizer.eos_token_id] * 4]
    assert batch["labels"][1].tolist() == [IGNORED, IGNORED, 60, tokenizer.eos_token_id, *[IGNORED] * 3]
    assert batch["attention_mask"][1].tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_only_supervised_positions_are_projected_and_loss_and_gradients_stay(
    trainer: RecipeTrainer, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])
    projected: list[int] = []
    original = SupervisedLogProbs.apply

    def count(hidden: torch.Tensor, *rest: object) -> object:
        projected.append(hidden.shape[0])
        return original(hidden, *rest)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(SupervisedLogProbs, "apply", count)
    stock = AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    expected = stock(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss
    expected.backward()
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    assert projected == [5], "3 and 2 supervised tokens, of 14 positions"
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for ours, theirs in zip(trainer.model.parameters(), stock.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def test_a_choice_of_activation_checkpointing_reaches_trl(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, "training.activation_checkpointing_kwargs={use_reentrant: false}")
    assert build_arguments(recipe, CPU).activation_checkpointing is True, "auto, before the choice is made"
    none = build_arguments(recipe, CPU, checkpointing=CheckpointingChoice(False, 1, ""))
    assert none.activation_checkpointing is none.gradient_checkpointing is False
    some = build_arguments(recipe, CPU, checkpointing=CheckpointingChoice(True, 3, ""))
    assert some.activation_checkpointing is some.gradient_checkpointing is True
    assert some.activation_checkpointing_kwargs == some.gradient_checkpointing_kwargs
    assert some.activation_checkpointing_kwargs == {"use_reentrant": False, "every_n_layers": 3}


def test_a_resumed_run_does_not_evaluate_at_its_start(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, "evaluation.every_steps=2", "training.eval_strategy=steps")
    assert build_arguments(recipe, CPU).eval_on_start is True
    assert build_arguments(recipe, CPU, resumed=True).eval_on_start is False


def test_another_release_of_trl_is_refused_on_a_cpu(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trl.__version__", "1.17.0")
    recipe = tiny(tmp_path, f"model.name_or_path={tiny_model('llama')}", "training.packing=false")
    with pytest.raises(
        UserError, match=r"trl 1\.17\.0 is installed, .* patches trl 1\.16; pip install 'trl==1\.16\.\*'"
    ):
        make_trainer(recipe)


def test_target_modules_that_do_not_exist_are_one_line(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    recipe = tiny(tmp_path, f"model.name_or_path={tiny_model('llama')}", "lora.target_modules=[nope_proj]")
    model, tokenizer = load_model(recipe, CPU, trainable=True), load_tokenizer(recipe)
    config = build_arguments(recipe, CPU)
    with pytest.raises(UserError, match="nope_proj"):
        build_trainer(recipe, config, model, tokenizer, of_rows([Row([1, 2], 0)]), None)


@pytest.mark.parametrize("override", ["training.eval_strategy=epoch", "training.eval_on_start=true"])
def test_evaluation_without_held_out_rows_is_refused(
    override: str, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    recipe = tiny(tmp_path, f"model.name_or_path={tiny_model('llama')}", override)
    model, tokenizer = load_model(recipe, CPU, trainable=True), load_tokenizer(recipe)
    config = build_arguments(recipe, CPU)
    with pytest.raises(UserError, match=f"{override.partition('=')[0]} needs held-out rows"):
        build_trainer(recipe, config, model, tokenizer, of_rows([Row([1, 2], 0)]), None)


@pytest.mark.parametrize(
    ("machine", "wanted", "format_name"),
    [
        (torch.bfloat16, "bfloat16", "bf16"),
        (torch.bfloat16, "auto", "bf16"),
        (torch.bfloat16, "float16", "fp16"),
        (torch.float16, "bfloat16", "fp16"),
        (torch.float16, "auto", "fp16"),
        (torch.bfloat16, "float32", ""),
    ],
)
def test_the_arithmetic_is_that_of_the_recipe_on_the_gpu(
    machine: torch.dtype, wanted: str, format_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(build, "SFTConfig", lambda **values: given.update(values))
    build_arguments(tiny(tmp_path, f"model.dtype={wanted}"), Machine("cuda", "a GPU", machine))
    assert [name for name in ("bf16", "fp16") if given[name]] == ([format_name] if format_name else [])
    assert given["use_cpu"] is False


def test_float16_trains_adapters_in_float32(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scaler of float16 cannot unscale gradients in 16 bits."""
    overrides = [f"model.name_or_path={tiny_model('mistral')}", f"training.output_dir={tmp_path}"]
    recipe = load_recipe(ROOT / "recipes/mistral/qlora_8gb.yaml", [*overrides, "training.report_to=none"])

    def trained_in(*, fp16: bool) -> set[torch.dtype]:
        def make(**arguments: Any) -> RecipeTrainer:
            made = RecipeTrainer(**arguments)
            made.args.fp16 = fp16  # accelerate refuses float16 on a CPU
            return made

        monkeypatch.setattr(build, "RecipeTrainer", make)
        return {weight.dtype for weight in make_trainer(recipe).model.parameters() if weight.requires_grad}

    assert trained_in(fp16=True) == {torch.float32}


QUANTIZED = {
    "4 bits": ("quantization.load_in_4bit=true",),
    "8 bits": ("quantization.load_in_8bit=true",),
    "a trained head": ("quantization.load_in_4bit=true", "lora.modules_to_save=[lm_head]"),
    "DoRA": ("quantization.load_in_4bit=true", "lora.use_dora=true"),
}


@pytest.mark.parametrize("overrides", QUANTIZED.values(), ids=QUANTIZED)
def test_trained_weights_on_a_quantized_base_are_float32_and_change(
    overrides: tuple[str, ...], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    fixed = (f"model.name_or_path={tiny_model('llama')}", "lora.r=4", "training.packing=false", "training.max_steps=3")
    recipe = tiny(tmp_path, *fixed, *overrides, "training.save_strategy=no", "training.warmup_steps=0")
    recipe.run_dir.mkdir()
    trainer = make_trainer(recipe)
    trained = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    before = {name: weight.detach().clone() for name, weight in trained.items()}
    trainer.train()
    still = [name for name, weight in trained.items() if torch.equal(weight, before[name])]
    assert not still, "in bfloat16 most elements of lora_A do not move"
