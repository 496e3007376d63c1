"""The answers of several processes put together. tests/integration/test_evaluate.py decodes, interrupts and resumes."""

from __future__ import annotations

import pytest

from qdsft.errors import UserError
from qdsft.inference.decode_rows import Decoded, merge


def decoded(index: int) -> Decoded:
    return Decoded(f"answer {index}", True, tokens=3, seconds=0.5, loss=1.0, supervised=4)


def test_shares_are_put_into_the_order_of_the_rows() -> None:
    found = merge([{2: decoded(2), 0: decoded(0)}, {1: decoded(1)}], 3)
    assert [answer.text for answer in found] == ["answer 0", "answer 1", "answer 2"]


@pytest.mark.parametrize("indices", [[0, 1], [0, 1, 3], []])
def test_processes_with_other_rows_are_refused(indices: list[int]) -> None:
    with pytest.raises(UserError, match=rf"^the processes decoded {len(indices)} rows, not 3; give"):
        merge([{index: decoded(index)} for index in indices], 3)
