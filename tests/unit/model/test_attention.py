"""The kernel that "auto" chooses on simulated machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    GPTJConfig,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MptConfig,
    PhiConfig,
    PretrainedConfig,
    Qwen3Config,
)

from qdsft import optional_packages
from qdsft.errors import UserError
from qdsft.model import attention
from qdsft.model.attention import choose_attention, decoding_attention
from qdsft.model.device import Machine

CONFIG = LlamaConfig(hidden_size=64, num_attention_heads=4)
GPU = Machine("cuda", "a GPU", torch.bfloat16)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    def choose(
        *, installed: bool = True, problem: str | None = None, capability: tuple[int, int] = (8, 9), **options: object
    ) -> str | None:
        monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: installed)
        monkeypatch.setattr(attention, "import_problem", lambda _: problem)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        given = {"wanted": "auto", "config": CONFIG, "machine": GPU, "dtype": torch.bfloat16, **options}
        return choose_attention(**given).name  # type: ignore[arg-type]

    return choose


def test_flash_attention_where_it_runs(gpu: Callable[..., str | None]) -> None:
    assert gpu() == gpu(dtype=torch.float16) == "flash_attention_2"


def test_transformers_chooses_elsewhere(gpu: Callable[..., str | None]) -> None:
    assert gpu(problem="undefined symbol") is None
    assert gpu(config=GPTNeoXConfig(), installed=False) is None
    assert gpu(config=BloomConfig()) is None and gpu(config=MambaConfig()) is None
    remote = LlamaConfig(hidden_size=64, num_attention_heads=4, auto_map={"AutoModelForCausalLM": "m.M"})
    assert gpu(config=remote) is None
    assert gpu(installed=False) is None
    assert gpu(capability=(7, 5)) is None
    assert gpu(dtype=torch.float32) is None
    assert gpu(config=LlamaConfig(hidden_size=2048, num_attention_heads=4)) is None
    assert gpu(machine=Machine("cpu", "a CPU", torch.float32)) is None


def test_the_recipe_has_the_last_word(gpu: Callable[..., str | None]) -> None:
    assert gpu(wanted="eager") == "eager"
    assert gpu(wanted="flash_attention_2", installed=False) == "flash_attention_2"


SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
USUAL = {**SMALL, "intermediate_size": 32, "num_key_value_heads": 2, "pad_token_id": 0}
ALL = [
    BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2),
    FalconConfig(**SMALL),
    Gemma2Config(**USUAL, head_dim=16),
    GPTJConfig(vocab_size=64, n_embd=32, n_layer=1, n_head=2, rotary_dim=8),
    GPTNeoXConfig(**SMALL, intermediate_size=32),
    GptOssConfig(**USUAL, head_dim=16, num_local_experts=2, num_experts_per_tok=1),
    LlamaConfig(**USUAL),
    MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, state_size=4),
    MistralConfig(**USUAL),
    MptConfig(vocab_size=64, d_model=32, n_layers=1, n_heads=2),
    PhiConfig(**USUAL),
    Qwen3Config(**USUAL, head_dim=16),
]
"""Tiny configs of architectures with SDPA, without it, and without attention."""


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.model_type)
def test_auto_loads_what_loads_without_asking_with_the_same_kernel(config: PretrainedConfig, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    unasked = AutoModelForCausalLM.from_pretrained(tmp_path)
    machine = Machine("cpu", "a CPU", torch.float32)
    for name in (choose_attention("auto", config, machine, torch.float32).name, decoding_attention("auto")):
        model = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=name)
        assert model.config._attn_implementation == unasked.config._attn_implementation


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.model_type)
def test_flash_attention_is_chosen_only_for_models_that_support_it(
    config: PretrainedConfig, gpu: Callable[..., str | None]
) -> None:
    model = type(AutoModelForCausalLM.from_config(config))
    assert gpu(config=config) == ("flash_attention_2" if model._supports_flash_attn else None)


@pytest.mark.parametrize(
    "error", [ImportError("undefined symbol: _ZN3c10"), OSError("libcudart.so.11"), RuntimeError()]
)
def test_a_flash_attention_that_cannot_be_imported_is_not_chosen(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        assert name == "flash_attn"
        raise error

    monkeypatch.setattr(optional_packages, "import_module", broken)
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: True)
    with pytest.raises(UserError, match=r"cannot be imported .*; install a build for torch .*attn_implementation=auto"):
        decoding_attention("flash_attention_2")
    assert decoding_attention("eager") == "eager"
