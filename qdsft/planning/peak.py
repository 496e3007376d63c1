"""Peak memory by component and phase, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

GIB = 2**30
WEIGHTS, ADAPTERS, GRADIENTS = "weights", "LoRA weights", "gradients"
OPTIMIZER, TEMPORARIES = "optimizer states", "temporaries of the optimizer"
ACTIVATIONS, LOSS, CACHE = "activations", "logits and loss", "keys and values"
DEQUANTIZED, CONTEXT_NAME = "de-quantization buffer", "CUDA context"
BUCKETS, GATHERED = "buckets between GPUs", "weights gathered from other GPUs"
PAGED = "paged optimizer states"
"""Not part of a total: these states move to host memory when the GPU is full."""


class Event(NamedTuple):
    """The allocator is asked for `size` bytes, or gets them back if `size` is negative."""

    number: int
    size: int


@dataclass(frozen=True)
class Sizes:
    """Elements of a model, and bytes of what it trains."""

    parameters: int
    """Elements of the base model, tied weights once."""
    trained: int
    """Elements that the optimizer updates."""
    trained_bytes: int
    layer: int
    """Elements of the largest decoder layer."""
    outside_layers: int
    """Elements of embeddings, head and norms."""


@dataclass(frozen=True)
class Traced:
    """The live storages of a traced step."""

    phases: Mapping[str, Mapping[str, float]]
    """Phase -> bytes by component when the phase needs most."""
    reserved: float
    """Bytes that PyTorch's allocator holds at the end."""

    @property
    def allocated(self) -> float:
        """Return the most bytes that are allocated at a time."""
        return max(sum(parts.values()) - parts.get(PAGED, 0) for parts in self.phases.values())


def extrapolate(base: Traced, larger: Sequence[tuple[Traced, int]]) -> Traced:
    """Return the trace of a deep model from those of short ones.

    `larger` has, for each kind of layer, the trace with one layer more of the kind than `base`, and the number of
    layers that `base` lacks of it. The bytes of each phase grow linearly with each.
    """

    def grow(part: float, others: Sequence[float]) -> float:
        return part + sum(count * (other - part) for other, (_, count) in zip(others, larger, strict=True))

    phases = {}
    for name, parts in base.phases.items():
        others = [other.phases.get(name, parts) for other, _ in larger]
        tags = {*parts, *(tag for other in others for tag in other)}
        phases[name] = {
            tag: max(grow(parts.get(tag, 0), [other.get(tag, 0) for other in others]), 0.0) for tag in sorted(tags)
        }
    # What segments leave unused does not grow with the layers.
    unused = max(trace.reserved - trace.allocated for trace in (base, *(other for other, _ in larger)))
    return Traced(phases, Traced(phases, 0.0).allocated + unused)


@dataclass(frozen=True)
class Peak:
    """Peak memory on one GPU."""

    phase: str
    """Phase in which the peak is reached."""
    components: dict[str, int]
    """Component -> bytes at that moment, largest first, including the CUDA context."""
    phases: dict[str, int]
    """Phase -> total bytes, in the order of a step."""
    reserved: int
    """Bytes that PyTorch's allocator holds; what it does not use is not part of the total."""
    paged: int = 0
    """Bytes of optimizer states that move to host memory when the GPU is full; not among the components."""

    @property
    def total(self) -> int:
        """Return the total bytes."""
        return sum(self.components.values())

    @property
    def allocated(self) -> int:
        """Return the bytes that PyTorch reports as allocated."""
        return self.total - self.components.get(CONTEXT_NAME, 0)

    def to_json(self, memory: int) -> dict[str, Any]:
        """Return the peak as plain values, beside the bytes of a GPU."""
        sums = {"total": self.total, "allocated": self.allocated}
        return {**asdict(self), **sums, "margin": memory - self.total, "fits": self.total <= memory}


def find_peak(traced: Traced, outside: Mapping[str, int]) -> Peak:
    """Return the peak of a trace; `outside` has the bytes outside of PyTorch's allocator by name."""
    phases = {
        name: {tag: round(size) for tag, size in parts.items() if tag != PAGED and size >= 1} | dict(outside)
        for name, parts in traced.phases.items()
    }
    totals = {name: sum(parts.values()) for name, parts in phases.items()}
    phase = max(totals, key=lambda name: totals[name])
    components = dict(sorted(phases[phase].items(), key=lambda item: -item[1]))
    paged = max(parts.get(PAGED, 0) for parts in traced.phases.values())
    return Peak(
        phase, components, totals, max(round(traced.reserved), totals[phase] - sum(outside.values())), round(paged)
    )
