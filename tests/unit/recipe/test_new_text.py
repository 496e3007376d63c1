"""The YAML of a new recipe: it loads, bounds its lengths, and keeps names that YAML would change."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdsft.recipe import Recipe, load_recipe
from qdsft.recipe.new_text import METHODS, TOKENS_A_STEP, NewModel, recipe_text

MODEL = NewModel("user/Model-1.5B", "recipes/model_1_5b", ["q_proj", "v_proj"])


def loaded(folder: Path, model: NewModel, method: str) -> Recipe:
    path = folder / f"{method}.yaml"
    path.write_text(recipe_text(model, method), encoding="utf-8")
    return load_recipe(path)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_a_recipe(method: str, tmp_path: Path) -> None:
    recipe = loaded(tmp_path, MODEL, method)
    assert recipe.model.name_or_path == "user/Model-1.5B" and recipe.model.chat_template is None
    assert (recipe.method == "qlora") == METHODS[method].quantized
    assert (recipe.lora or {})["target_modules"] == ["q_proj", "v_proj"]
    assert recipe.training["global_batch_size"] * recipe.training["max_length"] == TOKENS_A_STEP
    lines = recipe_text(MODEL, method).splitlines()
    assert lines[0].startswith("# yaml-language-server")
    assert f"#   accelerate launch scripts/run_sft.py recipes/model_1_5b/{method}.yaml" in lines
    assert recipe_text(MODEL, method, schema=False).splitlines() == lines[1:]


@pytest.mark.parametrize(("positions", "lengths"), [(512, (512, 512)), (1500, (1024, 1500)), (None, (1024, 2048))])
def test_a_row_is_no_longer_than_the_model_s_positions(
    positions: int | None, lengths: tuple[int, int], tmp_path: Path
) -> None:
    model = NewModel("m", "m", ["q"], longest=positions)
    assert tuple(loaded(tmp_path, model, method).max_length for method in ("qlora_8gb", "lora")) == lengths


@pytest.mark.parametrize(
    "name",
    ["123", "true", "no", "null", "1e5", "~", "a: b", "# x", "이름", 'say "x"', "C:\\models\\x", "-", "models/a b"],
)
def test_a_name_is_kept_as_it_is(name: str, tmp_path: Path) -> None:
    model = NewModel(name, "f", [name, "q_proj"], None, f"{name}.jinja", revision=name)
    recipe = loaded(tmp_path, model, "lora")
    assert (recipe.model.name_or_path, recipe.model.revision) == (name, name)
    assert recipe.model.chat_template == f"{name}.jinja" and (recipe.lora or {})["target_modules"] == [name, "q_proj"]


def test_code_of_the_model_is_trusted_where_the_user_said_so(tmp_path: Path) -> None:
    assert loaded(tmp_path, NewModel("m", "m", ["q"], trust_remote_code=True), "lora").model.trust_remote_code
    assert not loaded(tmp_path, MODEL, "lora").model.trust_remote_code
