"""The text of a plan."""

from __future__ import annotations

from typing import Any

import pytest

from qdsft.planning.table import report


def test_several_cards_that_share_nothing_are_told_of_zero(plan: Any) -> None:
    path, first = (
        "recipes/llama2/full.yaml",
        "does not fit: each GPU holds the whole model; try --gpus 4 --zero 3 first",
    )
    assert first in list(report(plan(path, memory=20, count=4)))
    for target in ({"count": 4, "zero": 3}, {"count": 4, "fsdp": True}, {"count": 1}):
        assert first not in list(report(plan(path, memory=20, **target)))


def test_where_nothing_fits_it_says_so(plan: Any) -> None:
    lines = list(report(plan("recipes/llama2/qlora_8gb.yaml", memory=0.6)))
    assert "does not fit; apply these changes in order until it does:" in lines
    assert "no more changes are known: use a larger GPU, more GPUs (--gpus N --zero 3), or a smaller model" in lines[-1]


def test_parts_that_are_not_counted_are_listed(plan: Any) -> None:
    for key in ("torch_compile", "activation_offloading", "activation_checkpointing_kwargs.offload"):
        found = plan("recipes/llama2/qlora_8gb.yaml", f"training.{key}=true")
        assert found.not_counted == [f"training.{key}"]
        assert any("not counted" in line and f"training.{key}" in line for line in report(found))
    assert plan("recipes/llama2/qlora_8gb.yaml").not_counted == []


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"count": 2}, "2 x a GPU of 80.00 GiB, DDP"),
        ({"count": 8, "zero": 3, "offload": True}, "8 x a GPU of 80.00 GiB, ZeRO-3, offloaded"),
        ({"count": 4, "fsdp": True}, "4 x a GPU of 80.00 GiB, FSDP"),
        ({"name": "H100"}, "on H100 of 80.00 GiB; all figures are estimates"),
    ],
)
def test_the_gpus_are_named(target: dict[str, Any], words: str, plan: Any) -> None:
    assert words in list(report(plan("recipes/llama2/full.yaml", memory=80, **target)))[1]


def test_reserved_stands_beside_allocated(plan: Any) -> None:
    found = plan("recipes/llama2/qlora_8gb.yaml")
    wanted = (
        f"allocated by PyTorch {found.training.allocated / 2**30:.2f}, reserved {found.training.reserved / 2**30:.2f}"
    )
    assert any(wanted in line for line in report(found))
    assert found.training.reserved > found.training.allocated
