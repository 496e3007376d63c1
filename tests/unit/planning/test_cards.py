"""Named cards: facts alone, and a measured speed only where one was recorded."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qdsft.errors import UserError
from qdsft.planning.cards import Card, Measured, cards, find_card


def test_the_cards_of_the_documentation_are_listed() -> None:
    named = {"RTX 4060", "RTX 3060", "RTX 4090", "T4", "L4", "A10", "A100 40GB", "A100 80GB", "H100", "H200"}
    assert named <= cards().keys()
    assert [cards()[name].memory for name in ("RTX 4060", "A100 80GB")] == [8188 * 2**20, 80 * 2**30]
    assert not cards()["T4"].bfloat16


def test_no_speed_is_claimed_that_was_not_measured() -> None:
    assert all(entry.source and entry.recipe for card in cards().values() for entry in card.measured)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("RTX 4060", "RTX 4060"),
        ("rtx4060", "RTX 4060"),
        ("NVIDIA GeForce RTX 4060", "RTX 4060"),
        ("Tesla T4", "T4"),
        ("a100-80gb", "A100 80GB"),
        ("a100_40", "A100 40GB"),
        ("h200", "H200"),
        ("A100", "A100 40GB"),
        ("RTX 4060 Laptop", "RTX 4060 Laptop"),
        ("RTX 4060 Ti", "RTX 4060 Ti 8GB"),
        # as nvidia-smi prints them
        ("NVIDIA GeForce RTX 4060 Laptop GPU", "RTX 4060 Laptop"),
        ("NVIDIA GeForce RTX 4060 Ti", "RTX 4060 Ti 8GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A40", "A40"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_a_card_is_found_as_people_write_it(name: str, full: str) -> None:
    assert find_card(name) == (full, cards()[full])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RTX 40", "did you mean RTX 4060 or RTX 4060 Laptop or"),
        ("RTX 4060 Super", "did you mean RTX 4060"),
        ("H100 40GB", "not listed"),
        ("RTX 4069", "did you mean RTX 40"),
        ("abacus", "not listed; known GPUs: RTX 3060, .* For another GPU, give --gpu-memory in GiB"),
        ("", "not listed"),
    ],
)
def test_an_unknown_card_is_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_card(name)


def test_the_format_of_a_measured_speed() -> None:
    entry: dict[str, Any] = {"recipe": "llama2-qlora_8gb", "tokens_per_second": 900.0, "source": "outputs/x/run.json"}
    card = Card(memory_mib=8188, bfloat16=True, measured=(Measured(**entry),))
    found = card.find_measured("llama2-qlora_8gb")
    assert found is not None and found.usd_per_hour is None
    assert card.find_measured("mistral-qlora_8gb") is None
    for wrong in ({**entry, "tokens_per_second": 0}, {**entry, "modelled": True}, {"recipe": "x"}):
        with pytest.raises(ValidationError):
            Measured.model_validate(wrong)
