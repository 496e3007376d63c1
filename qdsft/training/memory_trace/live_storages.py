"""Count the bytes of live tensor storages, operation by operation."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qdsft.planning.constants import CUSTOM_GEMM_ROWS
from qdsft.planning.peak import ACTIVATIONS, DEQUANTIZED, Event

_GEMM_4BIT, _DEQUANTIZE_4BIT = "bitsandbytes::gemm_4bit", "bitsandbytes::dequantize_4bit"


class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count live storages by tag, and keep for each phase its peak; `events` is what the allocator is asked for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tag = ACTIVATIONS
        self.phase = ""
        self.by_tag: dict[str, int] = {}
        self.phases: dict[str, dict[str, int]] = {}
        """Phase -> bytes by tag at the peak of the phase."""
        self.events: list[Event] = []
        self._now = 0
        self._peaks: dict[str, int] = {}
        self._live: dict[int, tuple[Any, int, str, int]] = {}
        self._numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name == _GEMM_4BIT:
            self._dequantize(args)
        result = func(*args, **(kwargs or {}))
        before = self.tag
        if func._schema.name == _DEQUANTIZE_4BIT:
            self.tag = DEQUANTIZED
        if isinstance(result, torch.Tensor):
            self.add(result)
        elif result is not None:
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    self.add(tensor)
        self.tag = before
        return result

    def add(self, tensor: torch.Tensor, tag: str | None = None) -> None:
        """Count the storage of a tensor from now on until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        number, size, tag = self._numbers, storage.nbytes(), tag or self.tag
        self._numbers += 1
        self._live[key] = (weakref.ref(storage, lambda _: self._free(key)), size, tag, number)
        self.events.append(Event(number, size))
        self._grow(tag, size)

    def retag(self, tensors: Iterable[torch.Tensor], tag: str) -> None:
        """Count live storages under another tag; unknown ones are added."""
        for tensor in tensors:
            key = tensor.untyped_storage()._cdata
            if key not in self._live:
                self.add(tensor, tag)
                continue
            reference, size, old, number = self._live[key]
            self.by_tag[old] -= size
            self.by_tag[tag] = self.by_tag.get(tag, 0) + size
            self._live[key] = (reference, size, tag, number)

    def start(self, phase: str) -> None:
        """Begin a phase; several parts of a step may have the same name."""
        self.phase = phase
        self._record()

    def forget(self, phase: str) -> None:
        """Leave out what a phase has needed so far."""
        self.phases.pop(phase, None)
        self._peaks.pop(phase, None)

    @contextmanager
    def tagged(self, tag: str) -> Iterator[None]:
        """Count storages that are made inside under `tag`."""
        before, self.tag = self.tag, tag
        try:
            yield
        finally:
            self.tag = before

    def _grow(self, tag: str, size: int) -> None:
        self.by_tag[tag] = self.by_tag.get(tag, 0) + size
        self._now += size
        self._record()

    def _record(self) -> None:
        if self._now > self._peaks.get(self.phase, -1):
            self._peaks[self.phase] = self._now
            self.phases[self.phase] = dict(self.by_tag)

    def _free(self, key: int) -> None:
        found = self._live.pop(key, None)
        if found is not None:
            _, size, tag, number = found
            self.by_tag[tag] -= size
            self._now -= size
            self.events.append(Event(number, -max(size, 1)))

    def _dequantize(self, args: Any) -> None:
        """Count the 16-bit weight that bitsandbytes makes inside a product of many rows, and then frees."""
        inputs, shape = args[0], args[2]
        if inputs.numel() // inputs.shape[-1] > CUSTOM_GEMM_ROWS:
            with self.tagged(DEQUANTIZED):
                self.add(torch.empty(tuple(shape), dtype=inputs.dtype))
