"""The kernel that "auto" chooses on simulated machines."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig

from qdsft.model import attention
from qdsft.model.attention import choose_attention
from qdsft.model.device import Machine

CONFIG = LlamaConfig(hidden_size=64, num_attention_heads=4)
GPU = Machine("cuda", "a GPU", torch.bfloat16)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def choose(*, installed: bool = True, capability: tuple[int, int] = (8, 9), **options: object) -> str:
        monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: installed)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        given = {"wanted": "auto", "config": CONFIG, "machine": GPU, "dtype": torch.bfloat16, **options}
        return choose_attention(**given).name  # type: ignore[arg-type]

    return choose


def test_flash_attention_where_it_runs(gpu: Callable[..., str]) -> None:
    assert gpu() == gpu(dtype=torch.float16) == "flash_attention_2"


def test_sdpa_elsewhere(gpu: Callable[..., str]) -> None:
    assert gpu(installed=False) == "sdpa"
    assert gpu(capability=(7, 5)) == "sdpa"
    assert gpu(dtype=torch.float32) == "sdpa"
    assert gpu(config=LlamaConfig(hidden_size=2048, num_attention_heads=4)) == "sdpa"
    assert gpu(machine=Machine("cpu", "a CPU", torch.float32)) == "sdpa"


def test_the_recipe_has_the_last_word(gpu: Callable[..., str]) -> None:
    assert gpu(wanted="eager") == "eager"
    assert gpu(wanted="flash_attention_2", installed=False) == "flash_attention_2"
