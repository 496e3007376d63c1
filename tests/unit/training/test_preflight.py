"""`qdsft preflight` prints one line per check and refuses what `train` refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_recipe import MakeRecipe, recipe_maker

from qdsft.cli.main import main
from qdsft.errors import UserError
from qdsft.recipe import Recipe
from qdsft.training.preflight import preflight
from qdsft.training.train import train

CHECKS = ["stop token", "loss mask", "BOS", "prompt ids", "loss", "isolation", "disk", "trial save", "memory"]
LINES = ["data", "model", *CHECKS]
QLORA = "mistral/qlora_8gb"


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def arguments(recipe: Recipe) -> list[str]:
    overrides = [f"{key}={json.dumps(value)}" for key, value, origin in recipe.rows() if origin == "command line"]
    return [str(recipe.path), *overrides]


@pytest.mark.slow
def test_every_check_passes_for_a_good_recipe_and_no_file_remains(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    checks = list(preflight(make_recipe(name=QLORA)))
    assert [(check.name, check.passed) for check in checks] == [(name, True) for name in LINES]
    assert "GiB traced" in checks[-1].found
    assert [path.name for path in tmp_path.iterdir() if "run" in path.name] == []


@pytest.mark.slow
def test_the_command_prints_a_table_and_fails_with_the_remedy(
    make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["preflight", *arguments(make_recipe(name=QLORA))]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in lines] == LINES and all(" ok " in line for line in lines)
    assert main([*command, 'lora.target_modules=["nowhere"]']) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("data         FAILED") and "nowhere" in captured.out
    assert captured.err.splitlines()[-1] == "error: 1 of 1 checks failed; each says what to do"


@pytest.mark.parametrize(
    ("environment", "name", "line", "message"),
    [
        (
            {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_MIXED_PRECISION": "no"},
            "mistral/lora",
            "launch",
            "asked for several processes and started one",
        ),
        ({"ACCELERATE_USE_FSDP": "true"}, QLORA, "launch", "a quantized model is not sharded by FSDP"),
        (
            {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
            QLORA,
            "launch",
            "a quantized model cannot be sharded by DeepSpeed ZeRO-3",
        ),
        ({"ACCELERATE_USE_FSDP": "true"}, "mistral/lora", "model", "asked for FSDP, which does not run on this"),
    ],
)
def test_preflight_refuses_the_launches_that_train_refuses(
    environment: dict[str, str],
    name: str,
    line: str,
    message: str,
    make_recipe: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    recipe = make_recipe(name=name)
    *passed, last = preflight(recipe)
    assert (last.name, last.passed) == (line, False) and message in last.found
    assert all(check.passed for check in passed)
    with pytest.raises(UserError, match=message):
        train(recipe)
