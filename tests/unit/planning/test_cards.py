"""GPUs by name."""

from __future__ import annotations

import pytest

from qdsft.errors import UserError
from qdsft.planning.cards import Target, cards, find_card


def test_the_cards_of_the_documentation_are_listed() -> None:
    named = {"RTX 4060", "RTX 3060", "RTX 4090", "T4", "L4", "A10", "A100 40GB", "A100 80GB", "H100", "H200"}
    assert named <= cards().keys()
    assert [find_card(name)[1] for name in ("RTX 4060", "A100 80GB")] == [8188 * 2**20, 80 * 2**30]


@pytest.mark.parametrize(("name", "bfloat16"), [("T4", False), ("L4", True), (None, True)])
def test_an_old_gpu_has_no_bfloat16(name: str | None, bfloat16: bool) -> None:
    assert Target(2**30, name=name).bfloat16 == bfloat16


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
    assert find_card(name) == (full, cards()[full] * 2**20)


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
