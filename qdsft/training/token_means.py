"""Average an evaluation over its supervised tokens: the same for any batch size, packing and number of processes."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset, concatenate_datasets
from trl import SFTConfig

from qdsft.tokenization.rows import IGNORED

EMPTY_ROW_TOKENS = 2


class TokenMeans:
    """The losses of one evaluation. transformers averages them over batches, in which rows have other lengths."""

    def __init__(self) -> None:
        self._sums: list[torch.Tensor] = []
        self._counts: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor, inputs: dict[str, Any]) -> None:
        """Add the mean loss of a batch of this process."""
        count = (inputs["labels"][..., 1:] != IGNORED).sum().to(loss.device)
        self._sums.append(torch.where(count > 0, loss.detach().float() * count, 0.0))
        self._counts.append(count)

    def loss(self, accelerator: Accelerator) -> float | None:
        """Return the sum of the losses per supervised token of all processes; None without a batch."""
        if not self._sums:
            return None
        total = accelerator.gather(torch.stack(self._sums)).cpu().double().sum()
        return float(total / self._tokens(accelerator).sum().clamp(min=1))

    def weigh(self, metrics: dict[str, list[float]], accelerator: Accelerator) -> None:
        """Replace the values that TRL collected, one per batch over all processes, by their mean per token."""
        if not self._counts:
            return
        tokens = self._tokens(accelerator)
        for name, values in metrics.items():
            if len(values) == len(tokens):
                mean = (torch.tensor(values, dtype=torch.float64) * tokens).sum() / tokens.sum().clamp(min=1)
                metrics[name] = [float(mean)]

    def _tokens(self, accelerator: Accelerator) -> torch.Tensor:
        """Return the supervised tokens of each batch over all processes, `[batch]`."""
        counts: torch.Tensor = accelerator.gather(torch.stack(self._counts))
        return counts.view(accelerator.num_processes, -1).sum(0).cpu()


def whole_batches(data: Dataset | None, arguments: SFTConfig) -> Dataset | None:
    """Return the held-out rows, with rows that carry no loss after them until the last batch is whole.

    Several processes would share an incomplete batch by repeating rows, and dataloader_drop_last would drop it.
    """
    if data is None or (arguments.world_size == 1 and not arguments.dataloader_drop_last):
        return data
    missing = -len(data) % (arguments.eval_batch_size * arguments.world_size)
    if not missing:
        return data
    row: dict[str, Any] = {"input_ids": data[0]["input_ids"][:EMPTY_ROW_TOKENS]}
    row["labels"] = [IGNORED] * len(row["input_ids"])
    if "seq_lengths" in data.column_names:
        row["seq_lengths"] = [len(row["input_ids"])]
    return concatenate_datasets([data, Dataset.from_list([row] * missing, features=data.features)])
