"""What several GPUs divide."""

from __future__ import annotations

import pytest

from qdsft.planning.cards import Target
from qdsft.planning.constants import CONTEXT, NCCL, ZERO_BUCKET
from qdsft.planning.peak import (
    ACTIVATIONS,
    BUCKETS,
    CONTEXT_NAME,
    GATHERED,
    GRADIENTS,
    OPTIMIZER,
    TEMPORARIES,
    WEIGHTS,
    Peak,
    Sizes,
    Traced,
)
from qdsft.planning.sharding import peak_on

BILLION = 10**9
FULL = Sizes(7 * BILLION, 7 * BILLION, 14 * BILLION, BILLION // 5, BILLION // 4)
PARTS = {WEIGHTS: 14e9, GRADIENTS: 14e9, OPTIMIZER: 84e9, TEMPORARIES: 0.0, ACTIVATIONS: 1e9}
STEP = Traced({"step": PARTS, "other": {WEIGHTS: 14e9}}, 114e9)


def on(count: int = 8, zero: int = 0, *, fsdp: bool = False, offload: bool = False) -> Peak:
    target = Target(80 * 2**30, count, zero, fsdp=fsdp, offload=offload)
    return peak_on(target, STEP, FULL)


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 112), (1, 38.5), (2, 26.25), (3, 14)])
def test_zero_divides_16_bytes_a_weight(stage: int, gigabytes: float) -> None:
    """Rajbhandari et al. 2020, table 1, for 7 billion weights: 2 bytes a weight, 2 its gradient, 12 its states."""
    parts = on(zero=stage).components
    assert sum(parts[name] for name in (WEIGHTS, GRADIENTS, OPTIMIZER)) / 1e9 == pytest.approx(gigabytes, rel=0.001)
    assert parts[ACTIVATIONS] == 1e9


def test_one_gpu_shares_nothing() -> None:
    peak = on(1)
    assert peak.total == 113e9 + CONTEXT and BUCKETS not in peak.components


def test_ddp_copies_gradients_into_buckets_and_talks_by_nccl() -> None:
    parts = on().components
    assert parts[BUCKETS] == parts[GRADIENTS] == 14e9
    assert parts["buffers of NCCL"] == NCCL and parts[CONTEXT_NAME] == CONTEXT


def test_zero_has_buckets_of_fixed_size_and_stage_3_gathers() -> None:
    assert on(zero=2).components[BUCKETS] == 2 * ZERO_BUCKET
    parts = on(zero=3).components
    assert parts[BUCKETS] == 4 * ZERO_BUCKET and parts[GATHERED] == 2 * BILLION


def test_fsdp_keeps_float32_weights_and_gathers_two_layers() -> None:
    parts = on(fsdp=True).components
    assert WEIGHTS not in parts, "the float32 weights are the optimizer's, and the others are gathered"
    assert parts[OPTIMIZER] == 84e9 / 8 and parts[GRADIENTS] == 28e9 / 8
    step = Traced({"step": {**PARTS, TEMPORARIES: 28e9}}, 0)
    found = peak_on(Target(80 * 2**30, 8, fsdp=True), step, FULL).components
    assert TEMPORARIES not in found, "the gradients are float32 already"
    assert parts[GATHERED] == 2 * (2 * FULL.layer + FULL.outside_layers)


@pytest.mark.parametrize("target", [{"zero": 3}, {"fsdp": True}, {"zero": 1}])
def test_offloading_takes_what_is_sharded_away(target: dict[str, int]) -> None:
    kept, offloaded = on(**target), on(**target, offload=True)  # type: ignore[arg-type]
    assert OPTIMIZER not in offloaded.components
    assert offloaded.total < kept.total
    assert (WEIGHTS in offloaded.components) == (target == {"zero": 1})


def test_more_gpus_need_less_each() -> None:
    for stage in (1, 2, 3):
        totals = [on(count, stage).total for count in (2, 4, 8, 64)]
        assert totals == sorted(set(totals), reverse=True)
