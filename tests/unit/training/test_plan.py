"""`qdsft.plan`: what Python callers and the command line share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.traced import SMALL

import qdsft
from qdsft.errors import UserError
from qdsft.planning.cards import Target
from qdsft.training.plan import plan_on


@pytest.fixture
def model(tmp_path: Path) -> str:
    config = {"model_type": "mistral", "max_position_embeddings": 4096, **SMALL}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return f"model.name_or_path={tmp_path}"


@pytest.mark.slow
def test_a_plan_from_python(model: str) -> None:
    found = qdsft.plan("mistral/qlora_8gb", [model], gpu_memory=1)
    assert found.fits and found.target.name is None
    assert found.training.components["weights"] < found.training.allocated <= found.training.reserved
    assert found.largest_length == 4096 and found.largest_micro_batch and found.largest_micro_batch > 4


def test_a_gpu_is_given_once(model: str) -> None:
    with pytest.raises(UserError, match="--gpu and --gpu-memory both set"):
        qdsft.plan("mistral/qlora_8gb", [model], gpu="T4", gpu_memory=16)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "none_of_these"}, "none_of_these"),
        ({"model_type": "mistral", "hidden_size": "x"}, "hidden_size"),
        ({"model_type": "mistral", "num_hidden_layers": 10**9}, "num_hidden_layers should be"),
        ({"model_type": "mistral", "num_hidden_layers": -1}, "num_hidden_layers should be"),
        ({"model_type": "mistral", "num_hidden_layers": 2, "vocab_size": -1}, "cannot be traced"),
        ({"model_type": "mistral", "num_hidden_layers": 2, "num_attention_heads": 0}, "cannot make a model"),
    ],
)
def test_a_config_that_makes_no_model(tmp_path: Path, config: dict[str, str | int], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        plan_on("mistral/qlora_8gb", [f"model.name_or_path={tmp_path}"], Target(8 * 2**30))
