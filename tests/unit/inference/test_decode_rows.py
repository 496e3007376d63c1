"""The answers of several processes put together. tests/integration/test_evaluate.py decodes, interrupts and resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from qdsft.errors import UserError
from qdsft.inference.decode_rows import Decoded, gold_loss, join_shares
from qdsft.tokenization.rows import Row


def decoded(index: int) -> Decoded:
    return Decoded(f"answer {index}", True, tokens=3, seconds=0.5, loss=1.0, supervised=4)


def test_shares_are_put_into_the_order_of_the_rows() -> None:
    found = join_shares([{2: decoded(2), 0: decoded(0)}, {1: decoded(1)}], 3)
    assert [answer.text for answer in found] == ["answer 0", "answer 1", "answer 2"]


@pytest.mark.parametrize("indices", [[0, 1], [0, 1, 3], []])
def test_processes_with_other_rows_are_refused(indices: list[int]) -> None:
    with pytest.raises(UserError, match=rf"^the processes decoded {len(indices)} rows, not 3; give"):
        join_shares([{index: decoded(index)} for index in indices], 3)


@pytest.mark.parametrize("row", [Row([*range(100, 117), 7, 8, 9], 17), Row([5, 6, 7], 2)])
def test_the_loss_is_over_the_supervised_tokens(row: Row, tiny_model: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
    logits = model(torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
    supervised = range(row.prompt_length, len(row.input_ids))
    expected = -sum(logits[place - 1, row.input_ids[place]].item() for place in supervised) / len(supervised)
    assert gold_loss(model, row) == pytest.approx(expected, abs=1e-4)
