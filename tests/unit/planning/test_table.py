"""The text of a plan."""

from __future__ import annotations

from typing import Any

from qdsft.planning.table import report


def test_several_cards_that_share_nothing_are_told_of_zero(plan: Any) -> None:
    path, first = (
        "recipes/llama2/full.yaml",
        "does not fit: each GPU holds the whole model; try --gpus 4 --zero 3 first",
    )
    assert first in list(report(plan(path, memory=80, count=4)))
    for target in ({"count": 4, "zero": 3}, {"count": 1}):
        assert first not in list(report(plan(path, memory=80, **target)))


def test_where_nothing_fits_it_says_so(plan: Any) -> None:
    lines = list(report(plan("recipes/llama2/qlora_8gb.yaml", memory=2)))
    assert "does not fit; apply these changes in order until it does:" in lines
    assert "no more changes are known: use a larger GPU, more GPUs (--gpus N --zero 3), or a smaller model" in lines[-1]


def test_parts_that_are_not_counted_are_listed(plan: Any) -> None:
    found = plan("recipes/llama2/qlora_8gb.yaml", "training.torch_compile=true")
    assert found.not_counted == ["training.torch_compile"]
    assert any("not counted" in line and "training.torch_compile" in line for line in report(found))
    assert plan("recipes/llama2/qlora_8gb.yaml").not_counted == []
