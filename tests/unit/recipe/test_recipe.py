"""A recipe from its file: lines, overrides, origins, contradictions, and what is derived from it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from helpers.refusals import refusal

from qdsft.recipe import Recipe, load_recipe

BASE = "model:\n  name_or_path: m\ndata:\n  train: t.jsonl\n"
FULL = BASE + "training:\n  learning_rate: 2e-4\n  per_device_train_batch_size: 2\n  global_batch_size: 16\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def recipe_of(text: str | bytes, *overrides: str) -> Recipe:
    Path("r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return load_recipe("r.yaml", overrides)


def test_values_and_defaults() -> None:
    recipe = recipe_of(FULL)
    assert recipe.model.name_or_path == "m"
    assert recipe.training["learning_rate"] == 0.0002
    assert recipe.training_value("learning_rate") == 0.0002
    assert recipe.training_value("num_train_epochs") == 3.0
    assert recipe.max_length == 1024
    assert not recipe.packing
    assert recipe.seed == 42
    assert recipe.lora is None and recipe.quantization is None


# Overrides and origins


def test_every_value_has_its_origin() -> None:
    recipe = recipe_of(FULL, "training.learning_rate=1e-4", "lora.r=8", "seed=7")
    assert recipe.training["learning_rate"] == 0.0001
    assert recipe.lora == {"r": 8}
    assert {key: recipe.origin(key) for key in ("training.learning_rate", "lora.r", "seed")} == {
        "training.learning_rate": "command line",
        "lora.r": "command line",
        "seed": "command line",
    }
    assert recipe.origin("model.name_or_path") == "r.yaml:2"
    assert recipe.origin("training.global_batch_size") == "r.yaml:8"
    assert recipe.origin("data.eval_fraction") == "default"


def test_rows_list_every_own_key_and_every_upstream_key_that_is_set() -> None:
    rows = recipe_of(FULL, "lora.target_modules=[q_proj, v_proj]").rows()
    assert len({key for key, _, _ in rows}) == len(rows)
    assert ("model.name_or_path", "m", "r.yaml:2") in rows
    assert ("data.max_samples", None, "default") in rows
    assert ("lora.target_modules", ["q_proj", "v_proj"], "command line") in rows
    assert ("quantization", None, "default") in rows
    assert ("seed", 42, "default") in rows
    assert [key for key, _, _ in rows if key.startswith("training.")] == [
        "training.learning_rate",
        "training.per_device_train_batch_size",
        "training.global_batch_size",
    ]


# What is derived


@pytest.mark.parametrize(("world", "steps"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_the_global_batch_size_holds_on_any_number_of_devices(world: int, steps: int) -> None:
    assert recipe_of(FULL).accumulation_steps(world) == steps


@pytest.mark.parametrize(
    ("world", "micro", "nearest"),
    [(1, 3, 15), (2, 3, 18), (4, 3, 12), (1, 32, 32), (16, 2, 32)],
)
def test_a_division_with_a_remainder_is_refused(world: int, micro: int, nearest: int) -> None:
    recipe = recipe_of(FULL, f"training.per_device_train_batch_size={micro}")
    assert refusal(lambda: recipe.accumulation_steps(world)) == (
        "r.yaml:8: training.global_batch_size 16 is not a multiple of per_device_train_batch_size x devices = "
        f"{micro} x {world}; {nearest} is the nearest multiple"
    )


def test_without_a_global_batch_size_there_is_no_accumulation() -> None:
    recipe = recipe_of(BASE)
    assert [recipe.accumulation_steps(world) for world in (1, 2, 4)] == [1, 1, 1]
    assert recipe_of(FULL, "training.global_batch_size=null").accumulation_steps(2) == 1


def test_the_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "llama2"
    folder.mkdir()
    (folder / "qlora.yaml").write_text(BASE, encoding="utf-8")
    recipe = load_recipe(folder / "qlora.yaml")
    assert recipe.name == "llama2-qlora"
    assert recipe.run_dir == Path("outputs/llama2-qlora")
    assert load_recipe(folder / "qlora.yaml", ["training.output_dir=here/x"]).run_dir == Path("here/x")
    monkeypatch.chdir(folder)
    assert load_recipe("qlora.yaml").run_dir == Path("outputs/llama2-qlora")  # a bare file name has a folder too


def test_the_chat_template_stands_beside_the_recipe_or_here(tmp_path: Path) -> None:
    folder = tmp_path / "family"
    folder.mkdir()
    path = folder / "r.yaml"
    path.write_text("model:\n  name_or_path: m\n  chat_template: t.jinja\ndata: {train: x}\n", encoding="utf-8")
    assert refusal(lambda: load_recipe(path).chat_template_path()) == (
        f"{path}:3: model.chat_template: no t.jinja beside the recipe ({folder}/t.jinja) or at {tmp_path}/t.jinja; "
        "correct the name"
    )
    Path("t.jinja").touch()
    assert load_recipe(path).chat_template_path() == Path("t.jinja")
    (folder / "t.jinja").touch()
    assert load_recipe(path).chat_template_path() == folder / "t.jinja"
    assert load_recipe(path, ["model.chat_template=null"]).chat_template_path() is None


@pytest.mark.parametrize("name", ["./nope", "/nope/model", "~/model", "models/here/nope", "../nope"])
def test_a_local_model_that_is_not_there(name: str) -> None:
    recipe = recipe_of(BASE, f"model.name_or_path={name}")
    assert refusal(recipe.check_local_model) == (
        f"command line: model.name_or_path: {name} is not a folder with a model (config.json is missing); "
        "correct the path"
    )


def test_a_local_model_that_is_there_and_one_of_the_hub() -> None:
    Path("model").mkdir()
    Path("model/config.json").touch()
    recipe_of(BASE, "model.name_or_path=./model").check_local_model()
    recipe_of(BASE, "model.name_or_path=meta-llama/Llama-2-7b-hf").check_local_model()


def test_the_resolved_values_are_json_and_a_recipe_cannot_be_changed() -> None:
    recipe = recipe_of(FULL)
    assert json.loads(json.dumps(recipe.resolved())) == recipe.resolved()
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 1  # type: ignore[misc]


def test_the_command_to_resume_repeats_the_overrides() -> None:
    recipe = recipe_of(FULL, "training.output_dir=out put", "lora.target_modules=[q_proj, v_proj]", "data.eval=null")
    words = shlex.split(recipe.resume_command())
    assert words[:3] == ["qdsft", "train", "r.yaml"] and words[-1] == "--resume"
    again = load_recipe(words[2], words[3:-1])
    assert again.resolved() == recipe.resolved()


def test_the_command_for_several_processes_names_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert recipe_of(FULL).resume_command() == "accelerate launch ... scripts/run_sft.py r.yaml --resume"
