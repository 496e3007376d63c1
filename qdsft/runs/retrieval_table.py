"""The table of retrieval metrics that the report, the model card and the terminal show."""

from __future__ import annotations

from dataclasses import dataclass

from qdsft.metrics.model_metrics import ModelMetrics, PairedDifference
from qdsft.metrics.retrieval_scores import DEPTHS, FIXED, MEASURES, QUERIES, key
from qdsft.runs.results import Results

_COLUMNS = [(measure, depth) for measure in MEASURES for depth in DEPTHS]
RETRIEVAL_HEADS = ["searched with", *(f"{measure.replace('_', ' ')}@{depth}" for measure, depth in _COLUMNS)]
RETRIEVAL_NOTE = (
    "After each value: its mean difference from the question alone, over the same rows, with the 95 % bootstrap "
    "interval."
)


@dataclass(frozen=True)
class RetrievalCell:
    """A mean, and its difference from that of the question alone."""

    mean: float
    difference: PairedDifference | None = None

    @property
    def mean_text(self) -> str:
        """The mean with three decimal places."""
        return f"{self.mean:.3f}"

    @property
    def difference_text(self) -> str:
        """The difference and its interval; empty for the question alone."""
        if self.difference is None:
            return ""
        low, high = self.difference.interval
        return f"{self.difference.mean:+.3f}, {low:+.3f} to {high:+.3f}"


def retrieval_rows(results: Results) -> list[tuple[str, list[RetrievalCell]]]:
    """Return (what was searched with, one cell per column after the first); empty without retrieval metrics."""
    models = {name: metrics for name, metrics in results.items() if metrics.get(key("recall")) is not None}
    rows = []
    for queries, title in QUERIES.items():
        for name, metrics in list(models.items())[: 1 if queries in FIXED else None]:
            label = title if queries in FIXED or len(models) == 1 else f"{title}, {name}"
            if cells := _cells(metrics, queries):
                rows.append((label, cells))
    return rows


def _cells(metrics: ModelMetrics, queries: str) -> list[RetrievalCell]:
    keys = [key(measure, depth, queries) for measure, depth in _COLUMNS]
    means = [metrics.get(name) for name in keys]
    return [
        RetrievalCell(mean, metrics.differences.get(name))
        for name, mean in zip(keys, means, strict=True)
        if mean is not None
    ]
