"""The count of live storages, on tensors with contents."""

from __future__ import annotations

import torch
from bitsandbytes.autograd._functions import matmul_4bit
from bitsandbytes.functional import quantize_4bit
from torch._subclasses.fake_tensor import FakeTensorMode

from qdsft.planning.peak import ACTIVATIONS, DEQUANTIZED, GRADIENTS
from qdsft.training.memory_trace.live_storages import LiveStorages


def test_storages_count_as_long_as_they_live() -> None:
    with LiveStorages() as live:
        live.start("one")
        kept = torch.zeros(1000)
        view = kept[10:].view(-1, 10)
        live.start("two")
        gone = kept + 1
        del gone
        live.start("three")
        del kept, view
        live.start("four")
        torch.zeros(10)
    totals = {phase: sum(parts.values()) for phase, parts in live.phases.items()}
    assert totals == {"one": 4000, "two": 8000, "three": 4000, "four": 40}


def test_events_ask_and_give_back() -> None:
    with LiveStorages() as live:
        first = torch.zeros(10)
        second = torch.zeros(5)
        del first
    assert [(event.number, event.size) for event in live.events] == [(0, 40), (1, 20), (0, -40)]
    del second
    assert live.events[-1] == (1, -20)


def test_what_is_known_is_counted_once_under_its_tag() -> None:
    tensor = torch.zeros(10)
    with LiveStorages() as live:
        live.add(tensor, "weights")
        live.add(tensor.view(2, 5))
        assert live.by_tag == {"weights": 40}
        with live.tagged("more"):
            other = torch.ones(5)
        live.retag([other, torch.ones(1)], GRADIENTS)
    assert live.by_tag["more"] == 0 and live.by_tag[GRADIENTS] == 20
    assert live.by_tag.get(ACTIVATIONS, 0) == 0


def test_a_forgotten_phase_starts_anew() -> None:
    with LiveStorages() as live:
        live.start("one")
        torch.zeros(100)
        live.forget("one")
        live.start("one")
        torch.zeros(10)
    assert sum(live.phases["one"].values()) == 40


def test_a_product_with_4_bit_weights_has_a_16_bit_buffer_above_a_few_rows() -> None:
    weight = torch.randn(64, 128, dtype=torch.bfloat16)
    packed, state = quantize_4bit(weight, compress_statistics=False, quant_type="nf4")
    for rows, size in ((1, 0), (4, 0), (5, 64 * 128 * 2)):
        inputs = torch.zeros(rows, 128, dtype=torch.bfloat16)
        with FakeTensorMode(allow_non_fake_inputs=True), LiveStorages() as live:
            matmul_4bit(inputs, packed, quant_state=state)
        assert max(parts.get(DEQUANTIZED, 0) for parts in live.phases.values()) == size
        assert live.by_tag.get(DEQUANTIZED, 0) == 0
