"""A model that overflows float16 is refused in it before its data are prepared, and no other model is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.gpus import pretend_gpus
from helpers.paths import RECIPES, ROOT
from helpers.tiny_recipe import recipe_maker
from transformers import AutoConfig, AutoModelForCausalLM, Gemma2Config, Gemma3Config, PretrainedConfig

from qdsft.errors import UserError
from qdsft.model.device import Machine, find_machine
from qdsft.model.float16 import check_range
from qdsft.model.loading import load_model
from qdsft.recipe import Recipe, load_recipe
from qdsft.training import run_setup
from qdsft.training.run_setup import prepare_run

TURING = Machine("cuda", "Tesla T4", torch.float16)
AMPERE = Machine("cuda", "A100", torch.bfloat16)
LARGE = Gemma2Config()


def recipe(*overrides: str, name: str = "mistral/qlora") -> Recipe:
    return load_recipe(RECIPES / f"{name}.yaml", ["model.name_or_path=some/model", *overrides])


def refusal(machine: Machine, *overrides: str, config: PretrainedConfig = LARGE) -> str:
    with pytest.raises(UserError) as caught:
        check_range(recipe(*overrides), config, machine)
    return str(caught.value)


def test_an_old_gpu_is_refused_with_what_to_set() -> None:
    told = refusal(TURING)
    assert "recipes/mistral/qlora.yaml:8: some/model overflows in float16" in told and "on Tesla T4" in told
    assert told.endswith(
        "use a GPU with bfloat16 (Ampere or newer), or set model.dtype=float32 and "
        "quantization.bnb_4bit_compute_dtype=float32"
    )
    remedies = ["model.dtype=float32", "quantization.bnb_4bit_compute_dtype=float32"]
    check_range(recipe(*remedies), LARGE, TURING)
    assert refusal(TURING, remedies[0]).endswith("or set quantization.bnb_4bit_compute_dtype=float32")
    assert refusal(TURING, "quantization=null").endswith("or set model.dtype=float32")
    assert refusal(TURING, config=Gemma3Config()).endswith("float32"), "the text part of a model for images counts"


def test_a_float16_recipe_is_refused_on_a_new_gpu_as_well() -> None:
    assert refusal(AMPERE, "model.dtype=float16").endswith("; set model.dtype=bfloat16")
    check_range(recipe(), LARGE, AMPERE)


def test_a_cpu_computes_in_float32() -> None:
    check_range(recipe(), LARGE, Machine("cpu", "CPU", torch.float32))


def known_configs() -> list[str]:
    return sorted(path.stem for path in (ROOT / "tests" / "configs").glob("*.json"))


@pytest.mark.parametrize("name", known_configs())
def test_only_the_models_known_to_overflow_are_refused(name: str) -> None:
    values = json.loads((ROOT / "tests" / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    if name == "gemma-3-270m":
        assert "overflows" in refusal(TURING, config=config)
    else:
        check_range(recipe(), config, TURING)


def test_the_data_are_not_prepared_for_it_and_weights_are_not_read(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = recipe_maker(tmp_path, tiny_model)
    large = make(architecture="gemma3_text")
    monkeypatch.setattr(run_setup, "prepare", lambda *_: pytest.fail("data were prepared"))
    monkeypatch.setattr(run_setup, "join_launch", lambda _: TURING)
    monkeypatch.setattr(run_setup, "build_arguments", lambda *_: None)  # transformers refuses fp16 without a GPU
    monkeypatch.setattr(run_setup, "check_optimizer", lambda *_: None)
    with pytest.raises(UserError, match="overflows in float16"):
        prepare_run(large)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("was read"))
    pretend_gpus(monkeypatch, bfloat16=False)
    with pytest.raises(UserError, match="overflows in float16"):
        load_model(large, find_machine(), trainable=False)
