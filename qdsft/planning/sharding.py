"""Divide the memory of one process over several GPUs: DDP, DeepSpeed's ZeRO, FSDP2, and offloading.

Modelled: no trace of several processes is behind it. Sources: Rajbhandari et al. 2020 (ZeRO), and the defaults of
DeepSpeed and accelerate that constants.py names.
"""

from __future__ import annotations

from qdsft.planning.cards import Target
from qdsft.planning.constants import CONTEXT, NCCL, ZERO_BUCKET, ZERO_LIVE
from qdsft.planning.peak import (
    ADAPTERS,
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
    find_peak,
)

TWO_BYTES = 2
"""Bytes of a weight, gathered or reduced, in 16 bits."""


def peak_on(target: Target, traced: Traced, sizes: Sizes) -> Peak:
    """Return the peak of a traced training step on each GPU of a target."""
    outside = {CONTEXT_NAME: CONTEXT} | ({"buffers of NCCL": NCCL} if target.count > 1 else {})
    if target.count == 1:
        return find_peak(traced, outside)
    gradients = max(parts.get(GRADIENTS, 0) for parts in traced.phases.values())
    phases = {
        name: {tag: size * _share(tag, target) for tag, size in parts.items()} | _extra(target, sizes, gradients)
        for name, parts in traced.phases.items()
    }
    unused = traced.reserved - traced.allocated
    divided = Traced(phases, 0)
    return find_peak(Traced(phases, divided.allocated + unused), outside)


def _share(tag: str, target: Target) -> float:
    """Return the part of a component that stays on each GPU."""
    stage = 3 if target.fsdp else target.zero
    first = {OPTIMIZER: 1, TEMPORARIES: 1, GRADIENTS: 2, WEIGHTS: 3, ADAPTERS: 3}.get(tag)
    if first is None or stage < first:
        return 1.0
    if target.offload:
        return 0.0
    share = 1 / target.count
    # FSDP2 keeps float32 weights, which the trace counts as the optimizer's copies, and its gradients are float32: the
    # optimizer needs no copies of them.
    if target.fsdp and tag in {WEIGHTS, TEMPORARIES}:
        return 0.0
    return 2 * share if target.fsdp and tag == GRADIENTS else share


def _extra(target: Target, sizes: Sizes, gradients: float) -> dict[str, float]:
    """Return buckets and gathered weights in bytes: DDP copies all gradients, ZeRO-2 has one bucket, ZeRO-3 two."""
    if target.fsdp:
        # The next layer is gathered while one computes, and a layer's gradients are reduced together.
        return {
            GATHERED: TWO_BYTES * (2 * sizes.layer + sizes.outside_layers),
            BUCKETS: TWO_BYTES * sizes.layer * (sizes.trained == sizes.parameters),
        }
    if target.zero == 3:
        return {GATHERED: TWO_BYTES * min(sizes.parameters, ZERO_LIVE), BUCKETS: 2 * TWO_BYTES * ZERO_BUCKET}
    return {BUCKETS: TWO_BYTES * ZERO_BUCKET if target.zero == 2 else gradients}
