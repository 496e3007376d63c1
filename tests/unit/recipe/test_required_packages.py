"""A recipe whose optional packages are not installed is refused by check, preflight and train, in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_recipe import recipe_maker

from qdsft.cli.main import main
from qdsft.errors import UserError
from qdsft.recipe import load_recipe
from qdsft.recipe.required_packages import (
    FLASH_ATTENTION,
    OPTIMIZERS,
    TRACKERS,
    check_optional_packages,
    default_report_to,
    needs,
)

REFUSED = [
    (
        "training.use_liger_kernel=true",
        "liger_kernel",
        "true requires liger-kernel, which is not installed; pip",
    ),
    ("training.report_to=wandb", "wandb", "wandb requires wandb, which is not installed; pip install -e"),
    ("training.report_to=[tensorboard, trackio]", "trackio", "trackio requires trackio, which is"),
    ("training.report_to=tensorboard", "tensorboard", "or set training.report_to=none"),
    ("training.report_to=comet_ml", "comet_ml", "pip install comet-ml, or set training.report_to=none"),
    ("training.optim=galore_adamw_layerwise", "galore_torch", "pip install galore-torch, or set training.optim=adamw"),
    ("training.optim=adamw_torch_8bit", "torchao", "pip install 'torchao>=0.4', or set training.optim=adamw_torch"),
    (
        "model.attn_implementation=flash_attention_2",
        "flash_attn",
        "pip install flash-attn or pip install 'kernels>",
    ),
    ("model.attn_implementation=kernels-community/flash-attn3", "kernels", "requires kernels>=0.18.2,<0.19, which is"),
]


@pytest.mark.parametrize(("override", "module", "message"), REFUSED)
def test_a_package_that_is_not_installed(
    override: str, module: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "kernels", None)
    with pytest.raises(UserError) as error:
        check_optional_packages(load_recipe("tiny/full", [override]))
    key = override.partition("=")[0]
    assert str(error.value).startswith(f"command line: {key}: ") and message in str(error.value)


@pytest.mark.parametrize("override", ["training.report_to=none", "training.report_to=[]", "training.optim=lion_8bit"])
def test_values_that_require_nothing(override: str) -> None:
    assert list(needs(load_recipe("tiny/full", [override]))) == []


@pytest.mark.parametrize("attention", ["auto", "sdpa", "eager"])
def test_kernels_of_torch_require_nothing(attention: str) -> None:
    assert list(needs(load_recipe("tiny/full", [f"model.attn_implementation={attention}"]))) == []


@pytest.mark.parametrize("command", ["check", "preflight", "train"])
def test_every_command_refuses_it(
    command: str,
    tmp_path: Path,
    tiny_model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    recipe = recipe_maker(tmp_path, tiny_model)("training.use_liger_kernel=true")
    rows = [(key, json.dumps(value)) for key, value, origin in recipe.rows() if origin == "command line"]
    assert main([command, str(recipe.path), *(f"{key}={value}" for key, value in rows)]) == 1
    out, err = capsys.readouterr()
    assert "training.use_liger_kernel: true requires liger-kernel, which is not installed" in out + err
    assert "rows to train on" not in out + err


def test_the_default_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_report_to() == "tensorboard"
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert default_report_to() == "none"
    check_optional_packages(load_recipe("tiny/full"))


def test_the_tables_are_those_of_transformers() -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
    from transformers.training_args import OptimizerNames

    assert TRACKERS.keys() == INTEGRATION_TO_CALLBACK.keys() - {"kubeflow"}  # a service, without a package
    names = [name.value for name in OptimizerNames]
    for beginning in OPTIMIZERS:
        assert any(name.startswith(beginning) for name in names), beginning
    assert all(name.startswith("flash_attention_") for name in FLASH_ATTENTION)


@pytest.mark.parametrize("optimizer", ["galore_", "apollo_", "schedule_free_"])
def test_every_optimizer_of_a_family_has_its_package(optimizer: str) -> None:
    (need,) = needs(load_recipe("tiny/full", [f"training.optim={optimizer}adamw"]))
    assert need.packages == (OPTIMIZERS[optimizer],)
