"""A run is assembled in one place, which checks the launch before and after, and alone sets TRL's arguments."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from accelerate import PartialState
from bitsandbytes.nn.modules import Linear4bit
from helpers.quantized_bases import save_quantized
from helpers.source_imports import SOURCES
from helpers.tiny_recipe import MakeRecipe, recipe_maker
from trl import SFTConfig

from qdsft import launch
from qdsft.errors import UserError
from qdsft.model.device import find_machine
from qdsft.training import run_setup
from qdsft.training.run_record import new_manifest
from qdsft.training.run_setup import build_run, join_launch, prepare_run

ARGUMENTS_ARE_BUILT_IN = "qdsft.training.build"
OTHER_OBJECTS = {"self", "tokenizer"}
"""Objects with attributes of the same names as fields of the arguments."""
FIELDS = {field.name for field in dataclasses.fields(SFTConfig)}


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def assignments(source: str) -> Iterator[str]:
    """Yield each line that sets a field of TRL's arguments."""
    for node in ast.walk(ast.parse(source)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [part for target in node.targets for part in ast.walk(target) if isinstance(part, ast.expr)]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
            yield from [ast.unparse(node)] if ast.unparse(node.args[1]).strip("'") in FIELDS else []
        for target in targets:
            stored = isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store) and target.attr in FIELDS
            if stored and ast.unparse(target.value) not in OTHER_OBJECTS:  # type: ignore[attr-defined]
                yield ast.unparse(node)


def test_no_field_of_trls_arguments_is_set_after_they_are_built() -> None:
    found = {name: list(assignments(source)) for name, source in SOURCES.items() if name != ARGUMENTS_ARE_BUILT_IN}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "arguments.eval_on_start = False",
        "trainer.args.learning_rate *= 2",
        "a, trainer.args.max_steps = (1, 2)",
        "a.activation_checkpointing = a.gradient_checkpointing = True",
        "setattr(arguments, 'bf16', True)",
    ],
)
def test_such_an_assignment_is_found(line: str) -> None:
    assert set(assignments(f"{SOURCES['qdsft.training.train']}\n{line}\n")) == {line}


def test_the_data_are_prepared_before_the_model_is_loaded(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("evaluation.every_steps=2", "training.packing=false")
    monkeypatch.setattr(run_setup, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    inputs = prepare_run(recipe)
    assert inputs.prepared.facts.data.train_rows + inputs.prepared.facts.data.eval_rows == 40
    assert inputs.tokenizer.eos_token_id in inputs.stop_ids and inputs.machine.device_type == "cpu"


def test_contradictory_arguments_are_refused_before_the_data_are_prepared(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_setup, "prepare", lambda *_: pytest.fail("data were prepared"))
    with pytest.raises(UserError, match="save and eval strategy"):
        prepare_run(make_recipe("training.load_best_model_at_end=true"))


@pytest.mark.parametrize("resumed", [False, True])
def test_a_built_run_has_what_training_needs(resumed: bool, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    inputs = prepare_run(make_recipe("evaluation.every_steps=2"))
    run = build_run(inputs, checkpoint=tmp_path if resumed else None)
    assert run.trainer.held_out is not None and run.trainer.train_dataset is inputs.prepared.train
    assert run.trainer.args.eval_on_start is not resumed
    assert run.checkpointing is not None
    assert run.trainer.args.activation_checkpointing == run.checkpointing.checkpointing


def test_a_base_saved_in_4_bits_is_trained_so_and_not_sharded(
    make_recipe: MakeRecipe, tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_quantized(tiny_model("mistral"), tmp_path / "base")
    recipe = make_recipe(f"model.name_or_path={base}")
    recipe.run_dir.mkdir()
    run = build_run(prepare_run(recipe))
    assert run.inputs.recipe.method == "qlora" and recipe.method == "lora"
    assert new_manifest(run.inputs).recipe["quantization"]["load_in_4bit"] is True
    assert any(isinstance(module, Linear4bit) for module in run.trainer.model.modules())
    with pytest.raises(UserError, match=r"quantization\.load_in_8bit: .* is saved in 4 bits"):
        prepare_run(make_recipe(f"model.name_or_path={base}", "quantization.load_in_8bit=true"))
    monkeypatch.setattr(run_setup, "join_launch", lambda _: find_machine())
    monkeypatch.setattr(launch, "uses_fsdp", lambda: True)
    with pytest.raises(UserError, match="a quantized model is not sharded by FSDP"):
        prepare_run(recipe)


def test_a_launch_that_starts_too_few_processes_is_refused(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    assert join_launch(recipe).device_type == "cpu" and PartialState().num_processes == 1
    inputs = prepare_run(recipe)
    monkeypatch.setattr("qdsft.launch.world_size", lambda: 2)
    with pytest.raises(UserError, match="asked for 2 processes and 1 found one another"):
        build_run(inputs)


@pytest.mark.parametrize(
    ("overrides", "limit"),
    [((), timedelta(minutes=30)), (("training.ddp_timeout=7200",), timedelta(hours=2))],
)
def test_the_process_group_gets_the_recipes_time_limit(
    overrides: tuple[str, ...], limit: timedelta, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[timedelta] = []
    recipe = make_recipe(*overrides)
    monkeypatch.setattr(run_setup, "PartialState", lambda cpu, timeout: given.append(timeout))
    join_launch(recipe)
    assert given == [limit]


def test_rows_without_padding_keep_to_the_length_that_trl_would_refuse(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("training.packing=false", "training.padding_free=true")
    run = build_run(prepare_run(recipe))
    assert run.trainer.padding_free and run.trainer.args.max_length is None and recipe.max_length == 256


@pytest.mark.parametrize("value", ["true", "false"])
@pytest.mark.parametrize("key", ["save_only_model", "enable_jit_checkpoint", "ignore_data_skip"])
def test_keys_that_would_spoil_a_resume_are_refused_with_the_reason(
    key: str, value: str, make_recipe: MakeRecipe
) -> None:
    with pytest.raises(UserError, match=f"training.{key} is not set in a recipe: "):
        make_recipe(f"training.{key}={value}")
